"""Classes that a proposal finds in the label."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from bsm_core.errors import DataError
from bsm_core.training.proposal.sampled_rows import SampledRows
from bsm_core.training.rows.labels import label_value

_NUMBERS, _TEXTS, _WHOLE = 20, 200, 50
"""Largest number of classes: of labels with a fraction, of texts, and of whole numbers."""
_ROWS_PER_CLASS = 5
_SHOWN = 5
STRONG = 0.05
"""Share of the rows of the rarest class below which classes are said to be out of balance."""


FEW_ROWS = 5
"""Number of rows of a class below which its label may be a misspelled one."""


class LabelClasses(NamedTuple):
    """Classes of a label.

    Attributes:
        labels: Label of each class, in the order of the classes.
        rows: Number of rows of each class.
    """

    labels: list[str | int | float]
    rows: list[int]

    @property
    def rarest(self) -> float:
        """Share of the rows that the rarest class has."""
        return min(self.rows) / sum(self.rows)


def label_classes(sample: SampledRows, name: str) -> LabelClasses:
    """Return the classes of a label, in the order in which ``bsm train`` has them.

    Raises:
        DataError: There is one class, or there are so many that the label seems to be a quantity or a text.
    """
    numbers = sorted(key for key in sample.counts if isinstance(key, Decimal))
    texts = sorted(key for key in sample.counts if isinstance(key, str))
    found: dict[Decimal | str, Any] = {key: label_value(key) for key in numbers}
    found |= {key: sample.spelling[key] for key in texts}  # such as True for the key "true"
    where = f"column {name!r}"
    shown = ", ".join(map(repr, [*found.values()][:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
    if len(found) < 2:
        fix = "give a table with rows of at least two classes, or another --label"
        raise DataError(f"the label has one class: {shown}", where=where, fix=fix)
    whole = all(isinstance(label, int) for label in found.values())
    if numbers and not texts and len(found) > (_WHOLE if whole else _NUMBERS):
        raise DataError(
            f"the label has {len(found):,} different numbers ({shown}), so it seems to be a quantity",
            where=where,
            fix="bsm classifies: make classes of it first, such as above and below a limit; or give another --label",
        )
    if len(found) > min(_TEXTS, max(2, sample.rows // _ROWS_PER_CLASS)):
        raise DataError(
            f"the label has {len(found):,} different values in {sample.rows:,} rows ({shown})",
            where=where,
            fix="give another --label, or join rare values into one class",
        )
    return LabelClasses([*found.values()], [sample.counts[key] for key in found])
