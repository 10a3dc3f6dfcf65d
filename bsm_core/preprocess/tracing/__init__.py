"""Places: where each character and each token of a text stood in the original cell."""
