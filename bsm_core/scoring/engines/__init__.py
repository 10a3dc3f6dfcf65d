"""Engines: whatever maps the predictor over the windows."""
