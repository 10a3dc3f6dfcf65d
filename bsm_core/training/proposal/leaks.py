"""Columns that tell the label: copies of the label, or values that are known only after the label is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.metrics.measure import measure

_AUROC, _SOLVED = 0.995, 0.95
"""Smallest AUROC, and smallest share of the errors of the majority class that are avoided, of a column that tells the
label."""
_STRONG = 0.9
"""AUROC from which a column is worth a second look."""
_HELD_OUT, _FEWEST, _BINS = 1 / 3, 5, 50
"""Share of the rows that is measured on; fewest rows of a class there; number of bins of a number."""


class ToldLabels(NamedTuple):
    """How well a column alone tells the labels of rows that were held out.

    Attributes:
        auroc: AUROC; of three classes or more, their mean, in which each counts as often as it has rows.
        accuracy: Share of the rows whose label it gives.
        is_label: Whether it gives the label almost always.
    """

    auroc: float
    accuracy: float
    is_label: bool


def tells_label(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.intp], classes: int, *, ordered: bool
) -> ToldLabels | None:
    """Return how well one column predicts the label of held-out rows; None for an AUROC below 0.9.

    Rows of classes that are too rare to measure, such as that of a misspelled label, are left out.

    Args:
        values: Numbers, NaN where missing; of categories, the number of each. Float64 ``[rows]``.
        labels: Class indices, ``[rows]``.
        classes: Number of classes.
        ordered: Whether the values are numbers, so that neighboring values are counted together.
    """
    held = np.random.default_rng(0).random(len(labels)) < _HELD_OUT  # rows may repeat in a rhythm
    common = np.flatnonzero(np.bincount(labels[held], minlength=classes) >= _FEWEST)
    if len(common) < 2:
        return None
    kept = np.isin(labels, common)
    values, held, labels, classes = values[kept], held[kept], np.searchsorted(common, labels[kept]), len(common)
    bins = _binned(values, values[~held], ordered)
    found = np.zeros((int(bins.max()) + 1, classes))
    np.add.at(found, (bins[~held], labels[~held]), 1)
    prior = np.bincount(labels[~held], minlength=classes) / (~held).sum()
    probabilities = ((found + prior) / (found.sum(axis=1, keepdims=True) + 1))[bins[held]]
    measured = measure(probabilities, labels[held], [str(i) for i in range(classes)], 0, 0)
    auroc = (measured.weighted or measured.metrics)["auroc"].value
    if auroc is None or auroc < _STRONG:
        return None
    accuracy = float((probabilities.argmax(axis=1) == labels[held]).mean())
    majority = float(np.bincount(labels[held]).max() / held.sum())
    solved = (accuracy - majority) / (1 - majority)
    return ToldLabels(auroc, accuracy, is_label=auroc >= _AUROC and solved >= _SOLVED)


def _binned(values: npt.NDArray[np.float64], training: npt.NDArray[np.float64], ordered: bool) -> npt.NDArray[np.intp]:
    """Return the bin of each value: one for each different value, or 50 bins for more than 50 different numbers."""
    known = np.unique(values[~np.isnan(values)])
    if ordered and len(known) > _BINS:
        known = np.unique(np.nanquantile(training, np.linspace(0, 1, _BINS)))
    places = np.searchsorted(known, values, side="right")
    return np.where(np.isnan(values), len(known) + 1, places).astype(np.intp)
