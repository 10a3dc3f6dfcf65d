"""Labels of scored rows: reading them, and joining them with predictions on the id, a window at a time.

Of each label, a hash of 64 bits of its id and the number of its class are kept, 12 bytes in all, so ten million labels
take 120 MB. Two of 100 million different ids have the same hash with a probability of 0.0003.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.errors import DataError, MissingColumnsError, quoted
from bsm_core.preprocess.features import category_key, category_texts
from bsm_core.tables.cell_values import cell_values, value_text
from bsm_core.tables.formats.plain_values import holds_text, plain_values
from bsm_core.tables.read import TableSource

_Hashes: TypeAlias = npt.NDArray[np.uint64]
_Classes: TypeAlias = npt.NDArray[np.int32]
_ROWS, _NAMED = 65_536, 5
_MISSING, _UNKNOWN = -1, -2
_USUAL = "label"
"""Name of the label column if no other is known."""


@dataclass
class Join:
    """Outcome of a join of predictions and labels.

    Attributes:
        rows: Rows of the predictions.
        joined: Rows with a label.
        labels: Rows of the labels file.
        missing: Labels that are empty.
        unknown: Labels that are none of the classes, with how often each occurs, at most five.
        conflicting: Ids with different labels, which are left out.
        repeated_labels: Further rows of the labels file with an id, and the label, of an earlier row.
        repeated_rows: Rows whose id an earlier row of the predictions has; they get the same label.
        unused: Ids of the labels file that no row of the predictions has.
    """

    rows: int = 0
    joined: int = 0
    labels: int = 0
    missing: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    conflicting: int = 0
    repeated_labels: int = 0
    repeated_rows: int = 0
    unused: int = 0

    def remarks(self) -> list[str]:
        """Return a sentence about everything that did not fit together."""
        unknown = ", ".join(f"{quoted(text)} ({count:,})" for text, count in self.unknown.items())
        found = [
            (self.rows - self.joined, "{:,} row(s) of the predictions have no label and are left out"),
            (self.unused, "{:,} id(s) of the labels file are not in the predictions"),
            (self.missing, "{:,} label(s) are empty and are left out"),
            (sum(self.unknown.values()), f"{{:,}} label(s) are none of the classes and are left out: {unknown}"),
            (self.conflicting, "{:,} id(s) have different labels in several rows and are left out"),
            (self.repeated_labels, "{:,} row(s) of the labels file repeat the id and label of an earlier row"),
            (self.repeated_rows, "{:,} row(s) of the predictions have the id of an earlier row, and its label"),
        ]
        return [text.format(count) for count, text in found if count]


class Labels:
    """Labels of a file, by id.

    Args:
        path: The labels file: CSV, TSV, JSON lines or Parquet, or a folder of such files.
        id_column: Name of the id column, in the labels file too.
        label_column: Name of the label column. None: ``usual`` or ``label``, or the only other column.
        classes: For each class the labels that stand for it, such as its name and its number.
        usual: Name of the label column in training, if it is known.

    Attributes:
        join: What became of the labels; that of the rows is added by :meth:`of`.
        column: Name of the label column.

    Raises:
        MissingColumnsError: The file lacks the id column, or a label column cannot be found.
        DataError: No label is one of the classes, or the file cannot be read.
    """

    def __init__(
        self, path: Path, id_column: str, label_column: str | None, classes: Sequence[Sequence[str]], usual: str = ""
    ) -> None:
        source = TableSource.open(path)
        self.column = _label_column(source, id_column, label_column, usual)
        self.join = Join()
        index = {category_key(label): number for number, labels in enumerate(classes) for label in labels}
        hashes, found, unknown = list[_Hashes](), list[_Classes](), Counter[str]()
        with closing(source.windows([id_column, self.column], rows=_ROWS)) as windows:
            for window in windows:
                keys, has_id = hashed(window.table.column(0))
                texts = category_texts(window.table.column(1))
                known = {text: _class_of(text, index) for text in set(texts)}
                codes = np.array([known[text] for text in texts], np.int32)
                unknown.update(text for text in texts if known[text] == _UNKNOWN)
                self.join.missing += int((codes == _MISSING).sum())
                self.join.labels += len(codes)
                usable = (codes >= 0) & has_id
                hashes.append(keys[usable])
                found.append(codes[usable])
        self.join.unknown = dict(unknown.most_common(_NAMED))
        if rest := unknown.total() - sum(self.join.unknown.values()):
            self.join.unknown["..."] = rest
        if not sum(map(len, found)):
            raise _no_label(source, self.column, classes, unknown)
        self._keep(np.concatenate(hashes), np.concatenate(found))

    def _keep(self, hashes: _Hashes, codes: _Classes) -> None:
        order = np.argsort(hashes, kind="stable")
        hashes, codes = hashes[order], codes[order]
        begins = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
        agree = np.minimum.reduceat(codes, begins) == np.maximum.reduceat(codes, begins)
        lengths = np.diff(begins, append=len(hashes))
        self.join.conflicting = int((~agree).sum())
        self.join.repeated_labels = int((lengths[agree] - 1).sum())
        self._hashes, self._codes = hashes[begins[agree]], codes[begins[agree]]
        self._used = np.zeros(len(self._hashes), bool)
        self.join.unused = len(self._hashes)

    def of(self, ids: pa.ChunkedArray) -> _Classes:
        """Return the class of each row, int32 ``[rows]``; a negative number where there is no label.

        Args:
            ids: Ids of the next rows of the predictions.
        """
        keys, has_id = hashed(ids)
        places = np.minimum(np.searchsorted(self._hashes, keys), max(len(self._hashes) - 1, 0))
        is_found = has_id & (self._hashes[places] == keys) if len(self._hashes) else np.zeros(len(keys), bool)
        codes: _Classes = np.where(is_found, self._codes[places], _MISSING) if len(self._hashes) else _none(len(keys))
        first = np.unique(places[is_found])
        new = int((~self._used[first]).sum())
        self._used[first] = True
        self.join.rows += len(keys)
        self.join.joined += int(is_found.sum())
        self.join.repeated_rows += int(is_found.sum()) - new
        self.join.unused -= new
        return codes


def hashed(ids: pa.ChunkedArray) -> tuple[_Hashes, npt.NDArray[np.bool_]]:
    """Return a hash of the text of each id, uint64 ``[rows]``, and whether it has one: it is not null or empty.

    The number 7 of a Parquet file has the hash of the text ``7`` of a CSV file.
    """
    import pandas as pd

    column = plain_values(ids)
    texts = column.cast(pa.large_binary()).to_pylist() if holds_text(column.type) else _texts(column)
    values = np.empty(len(texts), object)
    values[:] = [text or b"" for text in texts]
    return pd.util.hash_array(values, categorize=False), np.array([bool(text) for text in texts], bool)


def _texts(column: pa.ChunkedArray) -> list[bytes | None]:
    values = cell_values(column)
    return [None if value is None else value_text(value).encode("utf-8", "surrogatepass") for value in values]


def _none(rows: int) -> _Classes:
    return np.full(rows, _MISSING, np.int32)


def _class_of(text: str, index: dict[Any, int]) -> int:
    if text == "nan" or not text.strip():
        return _MISSING
    return index.get(category_key(text), _UNKNOWN)


def _label_column(source: TableSource, id_column: str, given: str | None, usual: str) -> str:
    """Return the name of the label column."""
    source.require(
        {id_column: "the predictions, whose id column it is", **({given: "--label-column"} if given else {})}
    )
    if given:
        return given
    others = [name for name in source.columns if name != id_column]
    for name in (usual, _USUAL):
        if name in others:
            return name
    if len(others) == 1:
        return others[0]
    raise MissingColumnsError(
        "which column of the labels file holds the label?",
        where=str(source.files[0]),
        details=[f"the file has: {', '.join(source.columns)}"],
        fix="name it with --label-column",
    )


def _no_label(source: TableSource, column: str, classes: Sequence[Sequence[str]], unknown: Counter[str]) -> DataError:
    found = ", ".join(f"{quoted(text)} ({count:,})" for text, count in unknown.most_common(_NAMED))
    expected = "; ".join(" or ".join(dict.fromkeys(map(quoted, labels))) for labels in classes[:_NAMED])
    return DataError(
        "no label of the file is one of the classes",
        where=f"{source.files[0]}, column {column!r}",
        details=[f"labels found: {found or 'none'}", f"classes: {expected}{'; ...' * (len(classes) > _NAMED)}"],
        fix="name the column of the labels with --label-column, or write the labels as the classes are named",
    )
