"""Fusions, which combine the vectors of several encoders into one vector for the head."""
