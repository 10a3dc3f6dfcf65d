"""Cells of Arrow columns as Python values, and text of values of any type: nothing here raises an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from bsm_core.tables.write import holds_text


def cell_values(cells: Iterable[pa.Scalar]) -> list[Any]:
    """Return cells as Python values.

    A value that Python cannot hold becomes its text: a date beyond the year 9999, or a time in an unknown zone. A
    string whose bytes are not UTF-8 becomes these bytes.

    Args:
        cells: The cells: an array, a chunked array, or any scalars.
    """
    return [_value(cell) for cell in cells]


def cell_text(cell: pa.Scalar) -> str:
    """Return a value as Arrow prints it. A time in an unknown zone is printed in UTC."""
    while isinstance(cell, pa.DictionaryScalar | pa.ExtensionScalar | pa.RunEndEncodedScalar):
        cell = cell.value
    text: str = pa.repeat(cell, 1).to_string(indent=0, skip_new_lines=True)
    return text.removeprefix("[").removesuffix("]")


def value_text(value: object) -> str:
    """Return ``str(value)``, or the name of the type of a value that cannot be printed, such as ``10**5000``."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a class raises
        return f"<{type(value).__name__}>"


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except Exception:  # noqa: BLE001 - of many types: ValueError, OverflowError, ArrowException, those of zoneinfo
        return cell.as_buffer().to_pybytes() if holds_text(cell.type) else cell_text(cell)
