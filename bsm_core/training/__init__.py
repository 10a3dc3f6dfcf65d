"""Training: a table and a config become an artifact.

Start with :func:`~bsm_core.training.make_artifact.train`: it reads and splits the rows, fits what surrounds the model,
trains, saves and checks.
"""

from bsm_core.training.importing import import_model
from bsm_core.training.make_artifact import Trained, train

__all__ = ["Trained", "import_model", "train"]
