"""Values of settings, from the texts of flags, variables and config keys. What cannot be used is a ``ValueError``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bsm_core.errors import DataError
from bsm_core.runtime.precision import Precision


def parse_device(value: Any) -> Any:
    """Return ``"auto"``, ``"cpu"`` or ``"gpu"``, a number of GPUs, or a tuple of GPU ids."""
    text = lower(value)
    if text == "cuda":
        return "gpu"
    if text in ("auto", "cpu", "gpu"):
        return text
    try:
        parsed = json.loads(text) if isinstance(text, str) else text
    except ValueError:  # invalid JSON, or an integer with more digits than Python converts
        parsed = None
    if _is_int(parsed) and parsed > 0:
        return parsed
    if isinstance(parsed, list | tuple) and parsed and all(_is_int(i) and i >= 0 for i in parsed):
        if len(set(parsed)) < len(parsed):
            raise ValueError("names a GPU twice")
        return tuple(parsed)
    raise ValueError("should be auto, cpu, gpu, cuda, a number of GPUs such as 4, or GPU ids such as [0,2,3]")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def lower(value: Any) -> Any:
    """Return a text in lower case, without white space around it."""
    return value.strip().lower() if isinstance(value, str) else value


def parse_precision(value: Any) -> Any:
    """Return ``"auto"`` or the name of a precision, in lower case."""
    if (text := lower(value)) in ("auto", *Precision):
        return text
    raise ValueError(f"should be one of auto, {', '.join(Precision)}")


def parse_limit(value: Any) -> Any:
    """Return a number of rows as an integer, or a share as a text such as ``"2.5%"``."""
    text = str(value).strip()
    if text.isascii() and text.isdecimal():
        return int(text)
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?%", text) and float(text[:-1]) <= 100:
        return text
    raise ValueError("should be a number of rows such as 100, or a share such as 5%")


def parse_table_name(value: Any) -> Any:
    """Return the name of a table that can be written."""
    if isinstance(value, str | Path):  # of others, the type of the setting says what is wrong
        from bsm_core.tables.data_files import detect_format  # here, because the help needs no table

        try:
            detect_format(value)
        except DataError as error:
            raise ValueError("should end in .csv, .tsv or .parquet") from error
    return value


def parse_report(value: Any) -> Any:
    """Return the name of an HTML file."""
    if isinstance(value, str | Path) and not is_page(value):
        raise ValueError("should end in .html")
    return value


def is_page(path: str | Path) -> bool:
    """Return whether a path is that of an HTML file, so that no table is replaced by a report."""
    return str(path).lower().endswith((".html", ".htm"))
