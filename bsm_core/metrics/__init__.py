"""Metrics of probabilities against labels, with intervals, and the curves that a report shows."""
