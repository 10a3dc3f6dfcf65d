"""Base classes of model classes and text encoders, the batches they read, and micro-batching."""
