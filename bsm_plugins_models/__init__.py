"""Built-in model classes: encoders, fusions, heads, and the model classes composed of them."""
