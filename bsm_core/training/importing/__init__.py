"""Importing: a model that other tools trained becomes an artifact.

Start with :func:`~bsm_core.training.importing.import_model.import_model`.
"""

from bsm_core.training.importing.import_model import import_model

__all__ = ["import_model"]
