"""The markers in the output folder: what a run says about its outcome.

This module imports nothing slow. The markers of an earlier run are removed before anything else is imported, so that a
run that is killed early leaves none that lies.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bsm_core.errors import printable
from bsm_core.runtime import durable
from bsm_core.scoring.output.shard import Shard

log = logging.getLogger("bsm")

PREDICTIONS = "inference_predictions"
"""Name of the prediction file, without its extension."""
EMBEDDINGS = "inference_embeddings"
"""Name of the file of the embeddings, without its extension."""
SUCCESS, HEALTH, FAILURE, RECORD = "_SUCCESS", "_HEALTH", "_FAILURE", "run.json"
_NAMES = (SUCCESS, HEALTH, FAILURE, RECORD)
_OF_SHARD = re.compile(r"(?:_SUCCESS|_HEALTH|_FAILURE)-([0-9]{5})|run-([0-9]{5})\.json")
_TABLE_OF_SHARD = re.compile(rf"(?:{PREDICTIONS}|{EMBEDDINGS})-[0-9]{{5}}-of-([0-9]{{5}})\.(?:csv|tsv|parquet)")


def named(name: str, shard: Shard | None) -> str:
    """Return the name of a marker or of the run record of a host, such as ``_SUCCESS-00001`` or ``run-00001.json``."""
    stem, dot, extension = name.partition(".")
    return f"{stem}{shard.mark if shard else ''}{dot}{extension}"


def read_record(path: Path) -> dict[str, Any]:
    """Return a run record; empty if there is none, or if it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        if path.is_file():  # a pipe would never end
            found = json.loads(path.read_bytes())
            return found if isinstance(found, dict) else {}
    return {}


def leftovers(folder: Path, shard: Shard | None) -> list[Path]:
    """Return what earlier jobs left in an output folder that is not true any more once another job is done.

    Args:
        folder: The output folder.
        shard: A shard of the job that is done; None: the job has no shards.

    Returns:
        The tables, markers and run records of shards of jobs with another number of hosts and, if the job has shards,
        the tables of an earlier job without shards or of an earlier ``bsm merge``.
    """
    hosts, found, paths = shard.hosts if shard else 0, list[Path](), list[Path]()
    with suppress(OSError):  # there is no such folder, or it may be written but not listed
        paths = sorted(folder.iterdir())
    for path in paths:
        if marker := _OF_SHARD.fullmatch(path.name):
            found += [path] if int(marker[1] or marker[2]) >= hosts else []
        elif table := _TABLE_OF_SHARD.fullmatch(path.name):
            found += [path] if int(table[1]) != hosts else []
        elif shard and path.stem in (PREDICTIONS, EMBEDDINGS) and path.suffix in (".csv", ".tsv", ".parquet"):
            found.append(path)
    return found


def is_output(folder: Path) -> bool:
    """Return whether a folder has a marker or a prediction file, of a run or of a shard."""
    return any(any(folder.glob(f"{name}*")) for name in (SUCCESS, FAILURE, PREDICTIONS))


@dataclass(frozen=True)
class Markers:
    """The markers of one run in one output folder.

    Args:
        folder: The output folder, which exists.
        shard: Share of this host; None if the job has no others.
    """

    folder: Path
    shard: Shard | None = None

    @property
    def paths(self) -> list[Path]:
        """The markers and the run record, in the order in which they are removed; of a shard, also those of its job.

        A shard that is scored again makes them untrue. Its own ``_SUCCESS`` goes before that of the job goes for the
        last time: another host that is done writes the latter while all shards have the former.
        """
        own = [self._path(name) for name in _NAMES]
        return [self.folder / SUCCESS, *own, *(self.folder / name for name in _NAMES)] if self.shard else own

    def _path(self, name: str) -> Path:
        return self.folder / named(name, self.shard)

    def clear(self) -> None:
        """Remove the markers and the run record of an earlier run, and what was left when one of them was written.

        Raises:
            OSError: A marker cannot be removed. It then holds text that says so, if the file can be written.
        """
        for path in self.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._disown(path, error)
                raise
            with suppress(OSError):  # nobody reads it
                durable.temporary_of(path).unlink()
        durable.flush(self.folder)

    def succeed(self, record: Mapping[str, Any] | None = None, done: str = "") -> None:
        """Write the run record, if there is one, then ``_HEALTH``, then ``_SUCCESS``, each flushed to the disk.

        Args:
            record: The run record.
            done: Content of ``_SUCCESS``.

        Raises:
            OSError: A file cannot be written.
        """
        if self.shard:  # a job with another number of hosts may have written it since this one began
            (self.folder / SUCCESS).unlink(missing_ok=True)
        if record is not None:
            durable.write(self._path(RECORD), _text_of(record))
        durable.write(self._path(HEALTH), f"healthy: {datetime.now().isoformat()}\n")
        durable.write(self._path(SUCCESS), done)

    def remove_leftovers(self) -> None:
        """Remove what :func:`leftovers` finds.

        Raises:
            OSError: A file cannot be removed.
        """
        for path in leftovers(self.folder, self.shard):
            path.unlink(missing_ok=True)  # another host that is done removes the same

    def succeed_of_job(self) -> None:
        """Write ``_SUCCESS`` of the job of this shard, after what :func:`leftovers` finds is removed.

        Raises:
            OSError: A file cannot be removed or written.
        """
        self.remove_leftovers()
        # Not by the temporary file of that name, which another host that is done would write at the same time.
        durable.write(self.folder / SUCCESS, "", durable.temporary_of(self._path(SUCCESS)))

    def fail(self, reason: str) -> None:
        """Remove the other markers, and write the reason to ``_FAILURE``, in one line; never raise an error."""
        try:
            self.clear()
            durable.write(self._path(FAILURE), printable(" ".join(reason.split()), None) + "\n")
        except OSError as error:
            log.error("could not write %s: %s", self._path(FAILURE), error.strerror or error)

    def retract(self, promise: str) -> None:
        """Remove what ``_FAILURE`` says in parentheses at its end, if that ends with a promise.

        Raises:
            OSError: The file cannot be read or written.
        """
        path = self._path(FAILURE)
        reason = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if reason.endswith(f" {promise})\n"):
            durable.write(path, reason.rpartition(" (")[0] + "\n")

    @staticmethod
    def _disown(path: Path, error: OSError) -> None:
        try:
            path.write_text(f"not valid: of an earlier run; it could not be removed: {error.strerror or error}\n")
        except OSError:
            log.error("%s is of an earlier run and can be neither removed nor changed", path)


def _text_of(record: Mapping[str, Any]) -> str:
    """Return a run record as JSON. The statistics, which are thousands of numbers, are its last line."""
    others = json.dumps({key: value for key, value in record.items() if key != "statistics"}, indent=2, default=str)
    if "statistics" not in record:
        return others + "\n"
    statistics = json.dumps(record["statistics"], separators=(",", ":"))
    return others.removesuffix("\n}") + f',\n  "statistics": {statistics}\n}}\n'
