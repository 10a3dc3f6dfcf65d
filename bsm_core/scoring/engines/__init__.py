"""Engines, which run the predictor on the windows of a table, on one device or several."""
