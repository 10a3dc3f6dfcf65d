"""From the cell of a label column to the index of a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.artifact.config import ClassLabels
from bsm_core.errors import DataError, UsageError, quoted
from bsm_core.preprocess.cells import category_key, category_texts
from bsm_core.scoring.comparing.prediction_rows import ids_of

EMPTY, UNKNOWN = -1, -2
"""Codes of a cell without a label, and of a cell whose label is no class."""
_MISSING = "nan"
"""Category key of an empty cell."""
_NAMED = 10


@dataclass(frozen=True)
class ClassIndex:
    """Index of the class of each label.

    Attributes:
        names: Name of each class, for people.
        labels: Label of each class, for errors.
        index: Index of a class, by the category key of its label.
    """

    names: list[str]
    labels: list[str]
    index: Mapping[Decimal | str, int]

    @classmethod
    def of(cls, recorded: ClassLabels, classes: int, given: Sequence[object] | None) -> ClassIndex:
        """Return the labels that stand for the classes, spelled in any way that ``bsm train`` accepts.

        These are the labels in ``given`` or, without it, those that training recorded. Without either, they are the
        indices 0 to ``classes - 1`` and, for two classes, ``false`` and ``true``. The names of the classes are labels
        too, unless another class has the same text as its label.

        Args:
            recorded: What the run recorded.
            classes: Number of classes.
            given: Label of each class. None: not given.

        Raises:
            UsageError: ``given`` has another number of labels than there are classes, or has one twice.
        """
        own = [*map(str, given)] if given is not None else recorded.labels
        labels = own or [*map(str, range(classes))]
        spellings = [labels, recorded.names or [], [] if own or classes != 2 else ["false", "true"]]
        index: dict[Decimal | str, int] = {}
        for texts in spellings:
            for i, text in enumerate(texts):
                index.setdefault(category_key(text), i)
        if given is not None and (len(labels) != classes or len({*map(category_key, labels)}) != classes):
            raise UsageError(
                f"{len(labels)} label(s) are given for {classes} classes",
                where="--classes",
                details=[f"labels: {', '.join(map(quoted, labels))}"],
                fix=f"give {classes} different labels, in the order of prob_class_0, prob_class_1, ...",
            )
        return cls(recorded.names or labels, labels, index)

    def codes(self, cells: pa.ChunkedArray) -> tuple[npt.NDArray[np.intp], list[str]]:
        """Return the class index of each cell, or :data:`EMPTY` or :data:`UNKNOWN`, and the texts of the cells."""
        texts = category_texts(cells)
        known = {text: self._code(text) for text in set(texts)}
        return np.array([known[text] for text in texts], np.intp), texts

    def _code(self, text: str) -> int:
        key = category_key(text)
        return self.index.get(key, EMPTY if key == _MISSING or not text.strip() else UNKNOWN)


@dataclass(frozen=True)
class Labels:
    """Labels of a file.

    Attributes:
        ids: Id of each row.
        codes: Class index of each row, or :data:`EMPTY` or :data:`UNKNOWN`, ``[rows]``.
        unknown: Text of each label that is no class, by row.
    """

    ids: list[str]
    codes: npt.NDArray[np.intp]
    unknown: dict[int, str]

    @classmethod
    def read(cls, tables: Iterable[pa.Table], id_field: str, column: str, classes: ClassIndex, where: str) -> Labels:
        """Read the labels of a file.

        Args:
            tables: Consecutive rows, with the columns ``id_field`` and ``column``.
            id_field, column: Names of the id column and of the label column.
            classes: The classes.
            where: Name of the file, for errors.

        Raises:
            DataError: No label is that of a class.
        """
        ids: list[str] = []
        blocks, unknown = [np.empty(0, np.intp)], dict[int, str]()
        for table in tables:
            codes, texts = classes.codes(table.column(column))
            unknown |= {len(ids) + row: texts[row] for row in np.flatnonzero(codes == UNKNOWN).tolist()}
            ids += ids_of(table.column(id_field))
            blocks.append(codes)
        made = cls(ids, np.concatenate(blocks), unknown)
        if not (made.codes >= 0).any():
            made._raise_no_label(classes, column, where)
        return made

    def _raise_no_label(self, classes: ClassIndex, column: str, where: str) -> None:
        counts = Counter(self.unknown.values())
        found = [f"{quoted(text)} ({rows:,} rows)" for text, rows in counts.most_common(_NAMED)]
        found += ["..."] if len(counts) > _NAMED else []
        raise DataError(
            f"no label of the column {column!r} is a class",
            where=where,
            details=[
                f"labels: {', '.join(found) or 'none, all cells are empty'}",
                f"classes: {', '.join(map(quoted, classes.labels[:_NAMED]))}",
            ],
            fix="give the right column with --label-column; or the label of each class, in the order of prob_class_0, "
            "prob_class_1, ..., with --classes",
        )
