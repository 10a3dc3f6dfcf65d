"""The config of a training job: reading its file, and checking its keys."""
