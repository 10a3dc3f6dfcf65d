"""The text steps that come with bsm, one file a step; ``plugin.py`` registers them."""
