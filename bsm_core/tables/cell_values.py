"""Cells of Arrow columns as Python values, and text of values of any type.

A value has one text, whether a run reads it from Parquet as text or writes it to CSV: that of ``str`` in pandas. A date
or time that no calendar or clock has, such as the 25th hour, has no text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from bsm_core.tables.formats.plain_values import holds_text

_OUT_OF_RANGE = "<value out of range"
"""Beginning of what Arrow prints for a date or time that it cannot print."""


def cell_values(cells: Iterable[pa.Scalar]) -> list[Any]:
    """Return cells as Python values.

    A value that Python cannot hold becomes its text: a date beyond the year 9999, or a time in an unknown zone. A
    string whose bytes are not UTF-8 becomes these bytes.

    Args:
        cells: The cells: an array, a chunked array, or any scalars.
    """
    return [_value(cell) for cell in cells]


def escaped_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as strings, in which bytes that are not UTF-8 are escaped, such as ``caf\\xe9``."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [value and value.decode(errors="backslashreplace") for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


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


def printed(column: pa.Array) -> pa.Array:
    """Return the text of each number, boolean, date, time or duration, such as ``1.0`` and ``True``.

    If pandas cannot hold a value, its text is the one that Arrow prints. The result is null for a null, for NaN, and
    for a date or time that Arrow cannot print either.

    Args:
        column: The values.

    Raises:
        ArrowNotImplementedError: Values of this type have no text.
    """
    if pt.is_boolean(column.type):
        return pc.if_else(column, _string("True"), _string("False"))
    if pt.is_floating(column.type):
        return _printed_floats(column)
    if any(is_type(column.type) for is_type in (pt.is_timestamp, pt.is_time, pt.is_duration)):
        encoded = column.dictionary_encode()
        return pa.array(_printed_by_pandas(encoded.dictionary), pa.large_string()).take(encoded.indices)
    texts = column.cast(pa.large_string())
    return pc.if_else(pc.starts_with(texts, _OUT_OF_RANGE), None, texts) if pt.is_date(column.type) else texts


def _printed_floats(column: pa.Array) -> pa.Array:
    """Return the text of each float as NumPy prints it; that of most is the one that Arrow makes, which is faster."""
    numbers = column.to_numpy(zero_copy_only=False)
    sizes, whole = np.abs(numbers), numbers == np.floor(numbers)
    # Arrow and NumPy begin to write exponents at different sizes; Arrow's digits of float16 are those of float32.
    most = {"float64": 1e10, "float32": 1e6}.get(numbers.dtype.name, 0.0)
    same = (sizes < most) & (whole | (sizes > 2e-4))
    texts = column.cast(pa.large_string())
    if whole.any():
        texts = pc.if_else(
            pa.array(whole & same), pc.binary_join_element_wise(texts, _string(".0"), _string("")), texts
        )
    if not same.all():
        others = numbers[~same]  # for float64, Python's text is NumPy's, and faster
        others = [None if x != x else str(x) for x in (others.tolist() if others.dtype == np.float64 else others)]
        texts = pc.replace_with_mask(texts, pa.array(~same), pa.array(others, pa.large_string()))
    return texts


def _string(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _printed_by_pandas(values: pa.Array) -> list[str | None]:
    try:
        return [str(value) for value in values.to_pandas()]
    except Exception:  # noqa: BLE001 - of many types, as in _value; often only for one of the values
        if len(values) == 1:
            text = cell_text(values[0])
            return [None if text.startswith(_OUT_OF_RANGE) else text]
        return [text for row in range(len(values)) for text in _printed_by_pandas(values.slice(row, 1))]


def _value(cell: pa.Scalar) -> Any:
    while isinstance(cell, pa.UnionScalar) and cell.is_valid:
        cell = cell.value
    try:
        return cell.as_py()
    except Exception:  # noqa: BLE001 - of many types: ValueError, OverflowError, ArrowException, those of zoneinfo
        return cell.as_buffer().to_pybytes() if holds_text(cell.type) else cell_text(cell)
