"""The built-in model classes: encoders, fusions, and the families composed of them."""
