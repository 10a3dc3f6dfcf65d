"""The report of a run, written at its end."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bsm_core.errors import UsageError
from bsm_core.runtime import durable
from bsm_core.runtime.durable import writing
from bsm_core.scoring.setting_values import is_page

log = logging.getLogger("bsm")

REPORT = "report.html"
"""Name of the report in the output folder, if no other is given."""


def check_report(path: Path) -> None:
    """Check that a report can be written, long before it is.

    Raises:
        UsageError: It is no HTML file, by its name.
        SinkError: It cannot be written.
    """
    if not is_page(path):
        raise UsageError("a report is an HTML file", where=str(path), fix="give a name that ends in .html")
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    durable.require_can_write(path.parent)


def write_report(path: Path, page: str) -> None:
    """Write a report, completely or not at all.

    Raises:
        SinkError: It cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, page)


def drawn(draw: Callable[[], str], complete: str) -> str | None:
    """Return a page. If an error of ours is in it, log the error and return None.

    Args:
        draw: Draws the page.
        complete: What is complete all the same, such as ``"the artifact is"``.
    """
    try:
        return draw()
    except Exception:
        log.exception("the report could not be drawn, please report this; %s complete", complete)
        return None


def page_of_run(record: Mapping[str, Any]) -> str:
    """Return the page of a run record."""
    from bsm_core.report.page.draw import draw  # here, because a run needs it at its end, if at all

    return draw(record, subject=subject_of(record))


def urgent(record: Mapping[str, Any]) -> list[str]:
    """Return the remarks of a report that the log should have too: what is bad."""
    from bsm_core.report.page.remarks import remarks

    return [text for kind, text in remarks(record) if kind == "bad"]


def subject_of(record: Mapping[str, Any]) -> str:
    """Return the line that says what was scored, and by what."""
    settings = record.get("settings") or {}
    model = next((each["name"] for each in record.get("components") or () if each["kind"] == "model_class"), "")
    parts = [settings.get("data_dir", ""), model, str(record.get("finished", ""))[:16].replace("T", " ")]
    return " · ".join(part for part in parts if part)
