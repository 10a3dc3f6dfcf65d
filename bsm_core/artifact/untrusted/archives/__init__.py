"""Archives of an artifact: which members are extracted, and where in them the artifact lies."""
