"""The output folder of a run: its lock, the parts that are done, the commit, and the markers."""
