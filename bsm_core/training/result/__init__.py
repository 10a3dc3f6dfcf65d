"""Result of a training job: its metrics and its artifact."""
