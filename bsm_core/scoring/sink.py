"""The sink: parts, one atomic commit, markers last.

Each window becomes one part, a small Arrow file that is either there and whole or not there. The commit streams the
parts in order into the prediction file and renames it into place; nothing half-written is ever seen.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bsm_core.errors import BSMError, EngineError, SinkError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.tables import FORMATS, Format, TableWriter

log = logging.getLogger("bsm")

PREDICTIONS = "inference_predictions"
SUCCESS, HEALTH, FAILURE, RECORD = "_SUCCESS", "_HEALTH", "_FAILURE", "run.json"
_PARTS = ".bsm-parts"


@dataclass(frozen=True)
class Sink:
    """The output folder of a run. Holds no open file, so that every rank can have one.

    Args:
        folder: The output folder; made where it is missing.
    """

    folder: Path

    def begin(self) -> None:
        """Remove what an earlier run left: its markers, its record and its parts.

        Raises:
            SinkError: The folder cannot be made or written.
        """
        with self._readable_errors():
            str(self.folder).encode()  # Arrow's file names are UTF-8
            self.folder.mkdir(parents=True, exist_ok=True)
            self._unmark()
            self._discard_parts()
            self._parts.mkdir()

    def write_part(self, window: int, table: pa.Table, *, last: bool, counts: Mapping[str, float]) -> None:
        """Write a window's part; the rename makes it whole or absent.

        Args:
            window: The window's index.
            table: Its output rows.
            last: Whether it is the table's last window.
            counts: Numbers for the run summary, summed over all parts.
        """
        metadata = {"last": json.dumps(last), "counts": json.dumps(dict(counts))}
        path = self._part(window)
        with self._readable_errors():
            temporary = path.with_suffix(".tmp")
            table = table.replace_schema_metadata(metadata)
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            temporary.rename(path)

    def commit(self, schema: pa.Schema, format: Format) -> Committed:
        """Stream the parts, in order, into the prediction file.

        Args:
            schema: Columns of the file and their types.
            format: Its format.

        Raises:
            EngineError: A window's part is missing.
            SinkError: The file cannot be written.
        """
        path = self.folder / f"{PREDICTIONS}.{format}"
        temporary = self._parts / path.name
        rows, windows, counts = 0, 0, dict[str, float]()
        with self._readable_errors():
            with TableWriter(temporary, schema, format) as writer:
                for table, found in self._in_order():
                    writer.write(table)
                    rows, windows = rows + table.num_rows, windows + 1
                    for key, value in found.items():
                        counts[key] = counts.get(key, 0) + value
            _flush_to_disk(temporary)
            temporary.replace(path)
            for other in set(FORMATS) - {format}:  # an earlier run's, which this run's markers would vouch for
                (self.folder / f"{PREDICTIONS}.{other}").unlink(missing_ok=True)
            self._discard_parts()
        return Committed(path, rows, windows, counts)

    def succeed(self, record: Mapping[str, Any] | None = None) -> None:
        """Write the run record, if any, and the markers, ``_SUCCESS`` last."""
        with self._readable_errors():
            if record is not None:
                (self.folder / RECORD).write_text(json.dumps(record, indent=2, default=str) + "\n")
            (self.folder / HEALTH).write_text(f"healthy: {datetime.now().isoformat()}\n")
            (self.folder / SUCCESS).touch()

    def fail(self, reason: str) -> None:
        """Leave ``_FAILURE`` with the reason in one line, and neither parts nor ``_SUCCESS``; raises nothing."""
        line = " ".join(reason.split()) + "\n"
        shutil.rmtree(self._parts, ignore_errors=True)  # first, to free space; what stays goes at the next begin()
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

    def _read(self, window: int) -> tuple[pa.Table, bool, dict[str, float]]:
        path = self._part(window)
        if not path.exists():
            raise EngineError(
                f"window {window} was never written",
                where=str(path),
                fix="run again; please report it if it comes back",
            )
        with pa.OSFile(str(path)) as file:  # not mapped: a network file system keeps a mapped file that is deleted
            table = pa.ipc.open_file(file).read_all()
        metadata = table.schema.metadata
        return table, json.loads(metadata[b"last"]), json.loads(metadata[b"counts"])

    def _in_order(self) -> Iterator[tuple[pa.Table, dict[str, float]]]:
        window, last = 0, False
        while not last:
            table, last, counts = self._read(window)
            yield table, counts
            window += 1

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except BSMError:
            raise
        except UnicodeEncodeError as error:
            raise SinkError(
                "the output folder's name is not UTF-8", where=ascii(error.object), fix="choose another --output-dir"
            ) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise SinkError(
                f"the predictions could not be written: {error.strerror or error}",
                where=str(error.filename or self.folder),
                fix="free space there, or choose another --output-dir" if full else "choose a writable --output-dir",
            ) from error


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
