"""Joining predictions with labels on the id, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bsm_core.evaluation.class_index import EMPTY, UNKNOWN, Labels
from bsm_core.scoring.comparing.joining import Repeats, Spelling, spelled_otherwise

_EXAMPLES = 5
_NO_ROW, _CONTRADICTING = -3, -4
"""Codes of a prediction whose id no label has, and of one whose id has several labels that cannot be told apart."""

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Omitted:
    """Rows that are not evaluated, for one reason.

    Attributes:
        rows: Number of these rows.
        examples: First ids of them, each once, at most five, as text.
    """

    rows: int
    examples: list[str]


@dataclass(frozen=True)
class Joined:
    """How predictions and labels were joined.

    The rows of the predictions are the rows that are evaluated and those of ``no_label_row``,
    ``contradicting_labels``, ``empty_label``, ``unknown_label`` and ``no_probabilities``. A row that could be in
    several of these is in the first.

    Attributes:
        prediction_rows: Number of rows of the predictions.
        label_rows: Number of rows of the labels.
        no_label_row: Predictions whose id is not in the labels.
        contradicting_labels: Predictions whose id has several labels, in another number of rows than in the
            predictions, so which of them belong together is not known.
        empty_label: Predictions whose label is empty.
        unknown_label: Predictions whose label is no class.
        unknown_labels: Examples of labels that are no class, as text.
        no_probabilities: Predictions with an empty probability.
        no_prediction_row: Rows of the labels whose id is not in the predictions.
        repeated_predictions: Ids that the predictions have more than once.
        repeated_labels: Ids that the labels have more than once.
        spellings: How ids that only one file has differ from those that only the other has; ``old`` is an id of the
            predictions, ``new`` of the labels.
    """

    prediction_rows: int
    label_rows: int
    no_label_row: Omitted
    contradicting_labels: Omitted
    empty_label: Omitted
    unknown_label: Omitted
    unknown_labels: list[str]
    no_probabilities: Omitted
    no_prediction_row: Omitted
    repeated_predictions: Repeats
    repeated_labels: Repeats
    spellings: list[Spelling]


def join_labels(ids: Sequence[str], has_probabilities: npt.NDArray[np.bool_], labels: Labels) -> tuple[Ints, Joined]:
    """Return the class index of each prediction, negative for a row that is left out, and how the files were joined.

    Ids are compared as text, byte for byte. An id that both files have in the same number of rows is joined in the
    order of the rows. Otherwise, if all rows of the id have one label, that is the label of each of its predictions.

    Args:
        ids: Id of each prediction.
        has_probabilities: Whether all probabilities of a row are there, bool ``[rows]``.
        labels: The labels.
    """
    import pandas as pd

    keys, texts = pd.factorize(np.array([*ids, *labels.ids], dtype=object))
    ours, theirs = keys[: len(ids)], keys[len(ids) :]
    counts = [np.bincount(each, minlength=len(texts)) for each in (ours, theirs)]
    codes = _codes(ours, theirs, labels.codes, counts)
    left_out = {code: _left_out(ids, codes == code) for code in (_NO_ROW, _CONTRADICTING, EMPTY, UNKNOWN)}
    unscored = (codes >= 0) & ~has_probabilities
    only_theirs = counts[0][theirs] == 0
    joined = Joined(
        prediction_rows=len(ids),
        label_rows=len(labels.ids),
        no_label_row=left_out[_NO_ROW],
        contradicting_labels=left_out[_CONTRADICTING],
        empty_label=left_out[EMPTY],
        unknown_label=left_out[UNKNOWN],
        unknown_labels=[*dict.fromkeys(labels.unknown.values())][:_EXAMPLES],
        no_probabilities=_left_out(ids, unscored),
        no_prediction_row=_left_out(labels.ids, only_theirs),
        repeated_predictions=_repeats(texts, counts[0]),
        repeated_labels=_repeats(texts, counts[1]),
        spellings=spelled_otherwise(
            [ids[row] for row in np.flatnonzero(codes == _NO_ROW).tolist()],
            [labels.ids[row] for row in np.flatnonzero(only_theirs).tolist()],
        ),
    )
    return np.where(unscored, _NO_ROW, codes), joined


def _codes(ours: Ints, theirs: Ints, labels: Ints, counts: Sequence[Ints]) -> Ints:
    """Return the code of each prediction.

    Args:
        ours, theirs: Number of the id of each prediction, and of each row of the labels.
        labels: Code of each row of the labels.
        counts: Number of rows of each id, in the predictions and in the labels.
    """
    if not len(theirs):
        return np.full(len(ours), _NO_ROW)
    order = np.argsort(theirs, kind="stable")
    begins = np.cumsum(counts[1]) - counts[1]
    sorted_labels = labels[order]
    one_label = np.ones(len(begins), bool)
    one_label[theirs[order][1:][(np.diff(sorted_labels) != 0) & (np.diff(theirs[order]) == 0)]] = False
    nth = np.where(counts[0] == counts[1], 1, 0)[ours] * _nth(ours, counts[0])
    codes: Ints = sorted_labels[np.minimum(begins[ours] + nth, len(theirs) - 1)]
    codes[(~one_label & (counts[0] != counts[1]))[ours]] = _CONTRADICTING
    codes[(counts[1] == 0)[ours]] = _NO_ROW
    return codes


def _nth(keys: Ints, counts: Ints) -> Ints:
    """Return the number of earlier rows with the id of each row."""
    order = np.argsort(keys, kind="stable")
    nth: Ints = np.empty(len(keys), np.intp)
    nth[order] = np.arange(len(keys)) - (np.cumsum(counts) - counts)[keys[order]]
    return nth


def _left_out(ids: Sequence[str], mask: npt.NDArray[np.bool_]) -> Omitted:
    rows, examples = np.flatnonzero(mask), dict[str, None]()
    for row in rows.tolist():
        examples[ids[row]] = None
        if len(examples) == _EXAMPLES:
            break
    return Omitted(len(rows), [*examples])


def _repeats(texts: npt.NDArray[np.object_], counts: Ints) -> Repeats:
    again = counts > 1
    return Repeats(int(again.sum()), int(counts[again].sum()), str(texts[counts.argmax()]) if again.any() else "")
