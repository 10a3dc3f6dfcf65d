"""Parts of a training job that a config has to ask for."""
