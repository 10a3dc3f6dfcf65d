"""The sink turns predicted windows into the prediction file.

The output rows of each window are written to a part, an Arrow file of its own. The commit writes the parts, in order,
to a temporary file, then renames that file to the prediction file; readers never see an incomplete file. The markers
come last.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from bsm_core.errors import EngineError, SinkError, printable
from bsm_core.plugins.hookspecs import Committed
from bsm_core.runtime.durable import writing
from bsm_core.tables.data_files import FORMATS, Format
from bsm_core.tables.write import TableWriter

log = logging.getLogger("bsm")

PREDICTIONS = "inference_predictions"
SUCCESS, HEALTH, FAILURE, RECORD = "_SUCCESS", "_HEALTH", "_FAILURE", "run.json"
RUN_AGAIN = "run again; please report it if it happens again"
"""Advice for errors that only a fault of bsm can cause."""
_PARTS = ".bsm-parts"


@dataclass(frozen=True)
class Sink:
    """Output folder of a run. A sink holds no open file, so each process of a run can have its own.

    Args:
        folder: The output folder; created by :meth:`begin` if missing.
    """

    folder: Path

    def begin(self) -> None:
        """Remove the markers, the run record and the parts of an earlier run.

        Raises:
            SinkError: The folder cannot be created or written.
        """
        try:
            str(self.folder).encode()
        except UnicodeEncodeError as error:  # Arrow cannot open such a file
            where, fix = ascii(error.object), "choose another --output-dir"
            raise SinkError("the output folder's name is not UTF-8", where=where, fix=fix) from error
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._unmark()
            self._discard_parts()
            self._parts.mkdir()

    def write_part(self, window: int, table: pa.Table, *, last: bool, counts: Mapping[str, float]) -> None:
        """Write the part of a window, completely or not at all.

        Args:
            window: Index of the window.
            table: Output rows of the window.
            last: Whether no window follows.
            counts: Numbers for the run record, which :meth:`commit` sums over all parts.

        Raises:
            SinkError: The part cannot be written.
        """
        metadata = {"last": json.dumps(last), "counts": json.dumps(dict(counts))}
        path = self._part(window)
        with writing(self.folder):
            temporary = path.with_suffix(".tmp")
            table = table.replace_schema_metadata(metadata).unify_dictionaries()  # Arrow files have one for a column
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            temporary.rename(path)

    def commit(self, schema: pa.Schema, format: Format) -> Committed:
        """Write all parts, in order, to the prediction file, and delete them.

        Args:
            schema: Columns of the file and their types.
            format: Format of the file.

        Returns:
            The prediction file with its number of rows and windows, and the sums of all counts.

        Raises:
            EngineError: The part of a window is missing.
            SinkError: The file cannot be written.
        """
        path = self.folder / f"{PREDICTIONS}.{format}"
        temporary = self._parts / path.name
        rows, windows, counts = 0, 0, dict[str, float]()
        with writing(self.folder):
            with TableWriter(temporary, schema, format) as writer:
                for table, part_counts in self._in_order():
                    writer.write(table)
                    rows, windows = rows + table.num_rows, windows + 1
                    for key, value in part_counts.items():
                        counts[key] = counts.get(key, 0) + value
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            for other in set(FORMATS) - {format}:  # of an earlier run: the new markers would vouch for it
                (self.folder / f"{PREDICTIONS}.{other}").unlink(missing_ok=True)
            self._discard_parts()
        return Committed(path, rows, windows, counts)

    def succeed(self, record: Mapping[str, Any] | None = None) -> None:
        """Write the run record, if there is one, then ``_HEALTH``, then ``_SUCCESS``.

        Raises:
            SinkError: A file cannot be written.
        """
        with writing(self.folder):
            if record is not None:
                (self.folder / RECORD).write_text(json.dumps(record, indent=2, default=str) + "\n")
            (self.folder / HEALTH).write_text(f"healthy: {datetime.now().isoformat()}\n")
            (self.folder / SUCCESS).touch()

    def fail(self, reason: str) -> None:
        """Write the reason to ``_FAILURE``, in one line, and remove parts and other markers; never raise an error."""
        line = printable(" ".join(reason.split()), None) + "\n"
        # First, to free space for _FAILURE. If the removal fails, the next begin() repeats it.
        shutil.rmtree(self._parts, ignore_errors=True)
        try:
            self._unmark()
            (self.folder / FAILURE).write_text(line, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            log.error("could not write %s: %s", self.folder / FAILURE, error.strerror or error)

    @property
    def _parts(self) -> Path:
        return self.folder / _PARTS

    def _part(self, window: int) -> Path:
        return self._parts / f"part-{window:08d}.arrow"

    def _unmark(self) -> None:
        for name in (SUCCESS, HEALTH, FAILURE, RECORD):
            (self.folder / name).unlink(missing_ok=True)

    def _discard_parts(self) -> None:
        if self._parts.exists():
            shutil.rmtree(self._parts)

    def _in_order(self) -> Iterator[tuple[pa.Table, dict[str, float]]]:
        for window in count():
            path = self._part(window)
            if not path.exists():
                raise EngineError(f"window {window} was never written", where=str(path), fix=RUN_AGAIN)
            with pa.OSFile(str(path)) as file:  # not mapped: a network file system keeps a deleted file that is mapped
                table = pa.ipc.open_file(file).read_all()
            metadata = table.schema.metadata
            yield table, json.loads(metadata[b"counts"])
            if json.loads(metadata[b"last"]):
                return
