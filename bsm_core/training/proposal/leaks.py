"""Columns that tell the label: copies of the label, or values that are known only after the label is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bsm_core.metrics.measure import measure

_AUROC, _SOLVED = 0.995, 0.95
"""Smallest AUROC, and smallest share of the errors of the majority class that are avoided, of a column that tells the
label."""
_HELD_OUT, _FEWEST, _BINS = 1 / 3, 5, 50
"""Share of the rows that is measured on; fewest rows of a class there; number of bins of a number."""


def tells_label(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.intp], classes: int, *, ordered: bool
) -> str | None:
    """Return how well one column predicts the label of held-out rows, as text; None unless it almost always does.

    Args:
        values: Numbers, NaN where missing; of categories, the number of each. Float64 ``[rows]``.
        labels: Class indices, ``[rows]``.
        classes: Number of classes.
        ordered: Whether the values are numbers, so that neighboring values are counted together.
    """
    held = np.random.default_rng(0).random(len(labels)) < _HELD_OUT  # rows may repeat in a rhythm
    counts = np.bincount(labels[held], minlength=classes)
    if np.sort(counts)[-2:][0] < _FEWEST:
        return None
    bins = _binned(values, values[~held], ordered)
    found = np.zeros((int(bins.max()) + 1, classes))
    np.add.at(found, (bins[~held], labels[~held]), 1)
    prior = np.bincount(labels[~held], minlength=classes) / (~held).sum()
    probabilities = ((found + prior) / (found.sum(axis=1, keepdims=True) + 1))[bins[held]]
    measured = measure(probabilities, labels[held], [str(i) for i in range(classes)], 0, 0)
    means = measured.macro or measured.metrics
    auroc, accuracy = means["auroc"].value, float((probabilities.argmax(axis=1) == labels[held]).mean())
    majority = counts.max() / counts.sum()
    solved = (accuracy - majority) / (1 - majority)
    if auroc is None or auroc < _AUROC or solved < _SOLVED:
        return None
    return f"alone, it gives the label of {100 * accuracy:.1f} % of held-out rows (AUROC {auroc:.3f})"


def _binned(values: npt.NDArray[np.float64], training: npt.NDArray[np.float64], ordered: bool) -> npt.NDArray[np.intp]:
    """Return the bin of each value: one for each different value, or 50 bins for more than 50 different numbers."""
    known = np.unique(values[~np.isnan(values)])
    if ordered and len(known) > _BINS:
        known = np.unique(np.nanquantile(training, np.linspace(0, 1, _BINS)))
    places = np.searchsorted(known, values, side="right")
    return np.where(np.isnan(values), len(known) + 1, places).astype(np.intp)
