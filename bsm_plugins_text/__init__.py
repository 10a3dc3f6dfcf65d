"""The text steps of bsm, one file for each step. ``pyproject.toml`` registers them as entry points."""
