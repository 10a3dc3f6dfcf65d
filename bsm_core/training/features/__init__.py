"""Features of a training job: which config keys they have, and how their scaling is fitted."""
