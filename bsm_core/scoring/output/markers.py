"""The markers in the output folder: what a run says about its outcome.

This module imports nothing slow. The markers of an earlier run are removed before anything else is imported, so that a
run that is killed early leaves none that lies.
"""

from __future__ import annotations

import json
import logging
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
SUCCESS, HEALTH, FAILURE, RECORD = "_SUCCESS", "_HEALTH", "_FAILURE", "run.json"
_NAMES = (SUCCESS, HEALTH, FAILURE, RECORD)


def named(name: str, shard: Shard | None) -> str:
    """Return the name of a marker or of the run record of a host, such as ``_SUCCESS-00001`` or ``run-00001.json``."""
    stem, dot, extension = name.partition(".")
    return f"{stem}{shard.mark if shard else ''}{dot}{extension}"


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
        """The markers and the run record, in the order in which they are removed."""
        return [self._path(name) for name in _NAMES]

    def _path(self, name: str) -> Path:
        return self.folder / named(name, self.shard)

    def clear(self) -> None:
        """Remove the markers and the run record of an earlier run, and what was left when one of them was written.

        Raises:
            OSError: A marker cannot be removed. It then holds text that says so, if the file can be written.
        """
        # With a shard, the marker of the whole job is no longer true either.
        for path in [*([self.folder / SUCCESS] if self.shard else []), *self.paths]:
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
        if record is not None:
            durable.write(self._path(RECORD), json.dumps(record, indent=2, default=str) + "\n")
        durable.write(self._path(HEALTH), f"healthy: {datetime.now().isoformat()}\n")
        durable.write(self._path(SUCCESS), done)

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
