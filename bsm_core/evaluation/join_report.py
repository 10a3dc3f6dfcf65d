"""Lines for people about how predictions and labels were joined."""

from __future__ import annotations

from collections.abc import Sequence

from bsm_core.errors import quoted
from bsm_core.evaluation.label_join import Joined


def left_out_lines(joined: Joined) -> list[str]:
    """Return a line for each reason for which rows are not evaluated, with the number of rows and examples."""
    labels = f" ({', '.join(map(quoted, joined.unknown_labels))})"
    reasons = (
        (joined.no_label_row, "predictions whose id is not in the labels"),
        (joined.contradicting_labels, "predictions whose id has several labels, which of them is not known"),
        (joined.empty_label, "predictions whose label is empty"),
        (joined.unknown_label, f"predictions whose label is no class{labels}"),
        (joined.no_probabilities, "predictions without probabilities"),
        (joined.no_prediction_row, "labels whose id is not in the predictions"),
    )
    return [f"{what}: {each.rows:,}, such as id {_some(each.examples)}" for each, what in reasons if each.rows]


def spelling_lines(joined: Joined) -> list[str]:
    """Return a line for each way in which ids of the two files differ in their spelling alone, and what to do."""
    lines = [
        f"{each.rows:,} ids differ only in {each.what}: {quoted(each.old)} in the predictions is {quoted(each.new)} in "
        "the labels"
        for each in joined.spellings
    ]
    advice = "write the ids of the labels as they are in the data (pandas reads them so with dtype=str)"
    return [*lines, *([advice] if lines else [])]


def repeated_lines(joined: Joined) -> list[str]:
    """Return a line for each file that has ids more than once."""
    both = (("predictions", joined.repeated_predictions), ("labels", joined.repeated_labels))
    return [
        f"ids that the {side} have more than once: {found.ids:,}, in {found.rows:,} rows, such as "
        f"{quoted(found.example)}"
        for side, found in both
        if found.ids
    ]


def _some(examples: Sequence[str]) -> str:
    return ", ".join(map(quoted, examples))
