"""Encoders, which turn a batch into one vector for each row."""
