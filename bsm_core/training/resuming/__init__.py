"""Resuming of a training job: its checkpoints, and the hidden folder that keeps them."""
