"""Encoders: from a batch to one vector a row."""
