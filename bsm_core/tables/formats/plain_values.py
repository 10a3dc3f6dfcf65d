"""Arrow columns of categories, of runs and of extension types as columns of their values; unions type by type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

_TEXT_TYPES = (
    *(pt.is_binary, pt.is_large_binary, pt.is_binary_view, pt.is_fixed_size_binary),
    *(pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_null),
)
_WRAPPED = (pa.DictionaryType, pa.RunEndEncodedType, pa.BaseExtensionType)


def holds_text(kind: pa.DataType) -> bool:
    """Return whether the values of an Arrow type are strings, bytes or nulls."""
    return any(is_type(kind) for is_type in _TEXT_TYPES)


def is_wrapped(kind: pa.DataType) -> bool:
    """Return whether a type holds its values in another array: categories, runs, and extension types."""
    return isinstance(kind, _WRAPPED)


def plain_values(column: Any) -> Any:
    """Return a column of categories, of runs or of an extension type as a column of its values.

    The value of an extension type is its storage; but a UUID becomes its text with hyphens, and ``bool8`` a Boolean. A
    column of another type is returned unchanged.

    Args:
        column: An array or a chunked array.
    """
    if not is_wrapped(column.type):
        return column
    if isinstance(column, pa.Array):
        return _plain(column)
    chunks = [_plain(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([_plain(pa.nulls(0, column.type))])


def parts_of_union(column: Any) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
    """Yield the values of a union type by type: the rows that have the type, in order, and their values.

    Args:
        column: An array or a chunked array.
    """
    start = 0
    for chunk in filter(len, column.chunks if isinstance(column, pa.ChunkedArray) else [column]):
        # From the buffers: of a slice, type_codes and offsets are those of the first rows of the whole array.
        part, buffers = slice(chunk.offset, chunk.offset + len(chunk)), chunk.buffers()
        codes = np.frombuffer(buffers[1], np.int8)[part]
        for number, code in enumerate(chunk.type.type_codes):
            rows = np.flatnonzero(codes == code)
            if len(rows):
                places = np.frombuffer(buffers[2], np.int32)[part][rows] if chunk.type.mode == "dense" else rows
                yield start + rows, _taken(chunk.field(number), pa.array(places))
        start += len(chunk)


def rows_at(column: Any, rows: pa.Array) -> Any:
    """Return some rows of a column, in its type: null where the number of a row is null.

    Args:
        column: An array or a chunked array.
        rows: Numbers of the rows.
    """
    kind = column.type
    if pt.is_string_view(kind) or pt.is_binary_view(kind):  # Arrow cannot take rows of views
        return column.cast(pa.large_string() if pt.is_string_view(kind) else pa.large_binary()).take(rows).cast(kind)
    try:
        return column.take(rows)
    except pa.ArrowNotImplementedError:  # Arrow cannot take rows of lists and structs with views in them either
        return pa.array([None if row is None else column[row].as_py() for row in rows.to_pylist()], kind)


def _plain(array: Any) -> Any:
    while is_wrapped(array.type):
        if pt.is_dictionary(array.type):
            array = _taken(array.dictionary, array.indices)
        elif pt.is_run_end_encoded(array.type):
            rows = np.arange(array.offset, array.offset + len(array))
            ends = array.run_ends.to_numpy(zero_copy_only=False)
            array = _taken(array.values, pa.array(np.searchsorted(ends, rows, side="right")))
        elif isinstance(array.type, pa.UuidType):
            array = pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
        elif isinstance(array.type, pa.Bool8Type):
            array = array.cast(pa.bool_())
        else:
            array = array.storage
    return array


def _taken(values: Any, indices: Any) -> Any:
    values = _plain(values)
    if pt.is_string_view(values.type) or pt.is_binary_view(values.type):  # Arrow cannot take rows of views
        values = values.cast(pa.large_string() if pt.is_string_view(values.type) else pa.large_binary())
    return values.take(indices)
