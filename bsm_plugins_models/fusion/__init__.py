"""Fusions: from the encoders' vectors to what the head reads."""
