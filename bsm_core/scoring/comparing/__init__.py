"""Parts of a comparison of two prediction files: their columns, how their rows are joined, and traits of rows."""

TOLERANCE = 1e-5
"""Difference up to which two probabilities are the same, which is what bsm promises for all devices and backends."""
