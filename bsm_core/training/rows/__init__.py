"""Rows of a training job: reading, labeling, splitting and batching."""
