"""Evaluation: how well predictions fit labels.

Start with :func:`~bsm_core.evaluation.evaluate.evaluate`: it finds the predictions, joins them with the
labels on the id, and measures.
"""

from bsm_core.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
