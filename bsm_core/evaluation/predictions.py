"""Predictions to evaluate: a prediction file, or the output folder of a run, also of shards that are not merged."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from bsm_core.artifact.config import ClassLabels
from bsm_core.errors import DataError, NoInferenceDataError, UsageError, printable
from bsm_core.scoring.comparing.prediction_columns import INDEX, PREFIX, columns_found, others_than_probabilities
from bsm_core.scoring.comparing.prediction_rows import tables_of
from bsm_core.scoring.output.markers import FAILURE, PREDICTIONS, RECORD, SUCCESS, named, read_record
from bsm_core.scoring.output.merge import done_shards, opened_shards, record_of_shards, rows_of_shards
from bsm_core.tables.data_files import FORMATS
from bsm_core.tables.formats.dialect import DELIMITER
from bsm_core.tables.read import TableSource

log = logging.getLogger("bsm")

_PROBABILITY = re.compile(rf"{PREFIX}(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Predictions:
    """Predictions that were found.

    Attributes:
        where: The file or folder, for messages.
        source: The prediction file; of shards, the first one.
        read: Function that reads some columns, in windows.
        record: The run record, ``{}`` if there is none. Of shards, the sum of their records; if one has none, that of
            the first one, which knows only its rows.
        is_whole: Whether it is the record of all rows.
    """

    where: str
    source: TableSource
    read: Callable[[Sequence[str]], Iterator[pa.Table]]
    record: dict[str, Any]
    is_whole: bool = True

    @classmethod
    def open(cls, path: Path) -> Predictions:
        """Find predictions and read their header.

        Args:
            path: A prediction file of any format, an output folder, or another folder of prediction files.

        Raises:
            UsageError: There are prediction files of several formats, or shards are missing.
            NoInferenceDataError: There is no prediction file.
            DataError: The run has failed, or a file cannot be read.
        """
        if not path.is_dir():
            return cls._of_file(path, path.parent)
        files = [file for format in FORMATS if (file := path / f"{PREDICTIONS}.{format}").is_file()]
        if len(files) > 1:
            written = read_record(path / RECORD).get("output")
            files = [file for file in files if file.name == written] or files
        if len(files) > 1:
            raise UsageError(
                f"the folder has {len(files)} prediction files, of several runs",
                where=str(path),
                details=[file.name for file in files],
                fix="name the prediction file instead of the folder",
            )
        if files:
            if not (path / SUCCESS).exists():
                log.warning("%s has no %s: its predictions may be those of an earlier run", path, SUCCESS)
            return cls._of_file(files[0], path)
        if any(path.glob(f"{PREDICTIONS}-*")):
            return cls._of_shards(path)
        if (path / FAILURE).is_file():
            reason = (path / FAILURE).read_text(errors="replace").strip()
            what = "the run has failed, so there are no predictions"
            raise DataError(what, where=str(path), details=[printable(reason)], fix="correct the error and run again")
        try:
            return cls._of_file(path, path)
        except NoInferenceDataError as error:
            fix = "name the output folder of a run that is done, or a prediction file"
            what = "no predictions in the folder"
            raise NoInferenceDataError(what, where=str(path), details=error.details, fix=fix) from error

    @classmethod
    def _of_file(cls, path: Path, folder: Path) -> Predictions:
        source = TableSource.open(path, partitions=False)
        record = read_record(folder / RECORD)
        return cls(str(path), source, partial(tables_of, source), record if record.get("output") == path.name else {})

    @classmethod
    def _of_shards(cls, folder: Path) -> Predictions:
        shards = [each for each in done_shards(folder) if each.output]
        sources, _ = opened_shards(folder, shards)
        record = record_of_shards(folder, shards, folder.name)
        whole, first = record is not None, read_record(folder / named(RECORD, shards[0].shard))
        return cls(str(folder), sources[0], partial(rows_of_shards, shards, sources), record or first, whole)

    def rows(self) -> int:
        """Read the first column, and return its number of rows."""
        return sum(map(len, self.read(self.source.columns[:1])))

    def probability_columns(self) -> list[str]:
        """Return the names of the probability columns, in the order of the classes.

        Raises:
            UsageError: They are not ``prob_class_0`` to ``prob_class_N-1``, for at least two classes.
        """
        names = [name for name in dict.fromkeys(self.source.columns) if _PROBABILITY.fullmatch(name)]
        names.sort(key=lambda name: int(name.removeprefix(PREFIX)))
        if len(names) > 1 and names == [f"{PREFIX}{i}" for i in range(len(names))]:
            return names
        hints = self.source.other_delimiter()
        fix = f"rename the probability columns: {PREFIX}0 is the first class, {PREFIX}1 the second, ..."
        if names == [f"{PREFIX}1"]:
            fix = f"add the other column: of two classes, {PREFIX}0 is 1 - {PREFIX}1"
        raise UsageError(
            "the predictions do not have one probability column for each class",
            where=str(self.source.files[0]),
            details=[columns_found(self.source), *hints],
            fix=None if hints else fix,
            settings=[DELIMITER] if hints else [],
        )

    def id_column(self, given: str | None) -> str:
        """Return the name of the id column.

        Args:
            given: The name that the caller gives. None: the first column.

        Raises:
            UsageError: The column cannot be the id.
        """
        name = self.source.columns[0] if given is None else given
        what = "a probability" if name.startswith(PREFIX) else "an index of pandas" if INDEX.fullmatch(name) else ""
        if not what or (given is not None and what != "a probability"):
            return name
        others = ", ".join(map(repr, others_than_probabilities(self.source)))
        raise UsageError(
            f"{name!r} is {what}, not the id",
            where=str(self.source.files[0]),
            details=[columns_found(self.source)],
            fix=f"give --id-field COLUMN, one of {others}" if others else "the predictions need a column with the ids",
        )

    def recorded_labels(self, classes: int) -> ClassLabels:
        """Return the labels and names of the classes in the run record; without a record, empty ones.

        Args:
            classes: Number of classes.
        """
        found = self.record.get("labels")
        found = found if isinstance(found, dict) else {}
        column, lists = found.get("column"), [found.get(key) for key in ("labels", "names")]
        labels, names = (
            value
            if isinstance(value, list) and len(value) == classes and all(isinstance(text, str) for text in value)
            else None
            for value in lists
        )
        return ClassLabels(column if isinstance(column, str) else None, labels, names)
