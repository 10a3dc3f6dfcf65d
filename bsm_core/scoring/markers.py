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

log = logging.getLogger("bsm")

PREDICTIONS = "inference_predictions"
"""Name of the prediction file, without its extension."""
SUCCESS, HEALTH, FAILURE, RECORD = "_SUCCESS", "_HEALTH", "_FAILURE", "run.json"
MARKERS = (SUCCESS, HEALTH, FAILURE, RECORD)
"""Names of the markers and of the run record, in the order in which they are removed."""


@dataclass(frozen=True)
class Markers:
    """The markers of one output folder.

    Args:
        folder: The output folder, which exists.
    """

    folder: Path

    def clear(self) -> None:
        """Remove the markers and the run record of an earlier run, and what was left when one of them was written.

        Raises:
            OSError: A marker cannot be removed. It then holds text that says so, if the file can be written.
        """
        for name in MARKERS:
            path = self.folder / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._disown(path, error)
                raise
            with suppress(OSError):  # nobody reads it
                durable.temporary_of(path).unlink()
        durable.flush(self.folder)

    def succeed(self, record: Mapping[str, Any] | None = None) -> None:
        """Write the run record, if there is one, then ``_HEALTH``, then ``_SUCCESS``, each flushed to the disk.

        Raises:
            OSError: A file cannot be written.
        """
        if record is not None:
            durable.write(self.folder / RECORD, json.dumps(record, indent=2, default=str) + "\n")
        durable.write(self.folder / HEALTH, f"healthy: {datetime.now().isoformat()}\n")
        durable.write(self.folder / SUCCESS, "")

    def fail(self, reason: str) -> None:
        """Remove the other markers, and write the reason to ``_FAILURE``, in one line; never raise an error."""
        try:
            self.clear()
            durable.write(self.folder / FAILURE, printable(" ".join(reason.split()), None) + "\n")
        except OSError as error:
            log.error("could not write %s: %s", self.folder / FAILURE, error.strerror or error)

    def retract(self, promise: str) -> None:
        """Remove what ``_FAILURE`` says in parentheses at its end, if that ends with a promise.

        Raises:
            OSError: The file cannot be read or written.
        """
        path = self.folder / FAILURE
        reason = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if reason.endswith(f" {promise})\n"):
            durable.write(path, reason.rpartition(" (")[0] + "\n")

    @staticmethod
    def _disown(path: Path, error: OSError) -> None:
        try:
            path.write_text(f"not valid: of an earlier run; it could not be removed: {error.strerror or error}\n")
        except OSError:
            log.error("%s is of an earlier run and can be neither removed nor changed", path)
