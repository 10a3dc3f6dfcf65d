"""Training: a table and a config become an artifact.

The road is :func:`~bsm_core.training.make_artifact.train`: read, split, fit, train, save, check.
"""

from bsm_core.training.make_artifact import Trained, train

__all__ = ["Trained", "train"]
