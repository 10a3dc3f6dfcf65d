"""Readers of files that may come from anyone: archives, pickles and torch files. None of them runs code."""
