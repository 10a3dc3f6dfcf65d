"""A column of every Arrow type: five cells, of which the second is null, and what they are worth."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa


def extension(kind: pa.BaseExtensionType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


def runs(values: pa.Array, width: pa.DataType) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3, 4, 5], width), values)


def _columns() -> dict[str, pa.Array]:
    ints = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    found: dict[str, Any] = {str(kind): pa.array([1, None, 100, 2, 3], kind) for kind in ints}
    floats = (pa.float16(), pa.float32(), pa.float64())
    found |= {str(kind): pa.array([1.5, None, float("nan"), 2.25, 0], kind) for kind in floats}
    texts = (pa.string(), pa.large_string(), pa.string_view())
    found |= {str(kind): pa.array(["a", None, "", "1.5", 'q"x,\n'], kind) for kind in texts}
    blobs = (pa.binary(), pa.large_binary(), pa.binary_view())
    found |= {str(kind): pa.array([b"a", None, b"", b"\xff", b"1"], kind) for kind in blobs}
    decimals = (pa.decimal32(9, 2), pa.decimal64(9, 2), pa.decimal128(9, 2), pa.decimal256(9, 2))
    values = [Decimal("1.50"), None, Decimal("-2.25"), Decimal("0.00"), Decimal("9.99")]
    found |= {str(kind): pa.array(values, kind) for kind in decimals}
    days = [dt.date(2024, 1, 2), None, dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1970, 1, 1)]
    found |= {str(kind): pa.array(days).cast(kind) for kind in (pa.date32(), pa.date64())}
    counts, far = pa.array([1, None, 2, 3, 4]), pa.array([2**62, None, -(2**62), 3, 4])
    for unit in ("s", "ms", "us", "ns"):
        for kind in (pa.timestamp(unit), pa.duration(unit)):
            found |= {str(kind): counts.cast(kind), f"{kind} far": far.cast(kind)}
        width, kind = (pa.int32(), pa.time32(unit)) if unit in ("s", "ms") else (pa.int64(), pa.time64(unit))
        found |= {
            str(kind): counts.cast(width).cast(kind),
            f"{kind} odd": pa.array([-1, None, 90, 3, 4], width).view(kind),
        }
    zones = ("UTC", "Europe/Paris", "+05:30", "Mars/\x1b[31mBase\n", "utc")
    found |= {f"time zone {zone!a}": counts.cast(pa.timestamp("us", zone)) for zone in zones}
    lists = [[1], None, [], [None], [2, 3]]
    kinds = (pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_view(pa.int64()), pa.large_list_view(pa.int64()))
    found |= {str(kind): pa.array(lists, kind) for kind in kinds}
    uuids = extension(pa.uuid(), pa.array([b"0" * 16, None, b"1" * 16, b"2" * 16, b"3" * 16], pa.binary(16)))
    pairs = pa.array([[1, 2], None, [3, 4], [5, 6], [7, None]], pa.list_(pa.int64(), 2))
    categories = pa.array(["a", None, "1", "b", "a"]).dictionary_encode()
    offsets = [0, 1, 2, 3, 4, 5]
    found |= {
        "bool": pa.array([True, None, False, True, False]),
        "null": pa.nulls(5),
        "fixed_size_binary": pa.array([b"abc", None, b"123", b"\xff\xff\xff", b',,"'], pa.binary(3)),
        "decimal128 large": pa.array([Decimal(10) ** 37, None, Decimal(5), Decimal(1), Decimal(-1)], pa.decimal128(38)),
        "decimal256 large": pa.array([Decimal(10) ** 75, None, Decimal(5), Decimal(1), Decimal(-1)], pa.decimal256(76)),
        "date32 far": pa.array([2**31 - 1, None, -(2**31), 0, 1], pa.int32()).cast(pa.date32()),
        "interval": pa.array([pa.MonthDayNano([1, 2, 3]), None, *[pa.MonthDayNano([0, 0, i]) for i in range(3)]]),
        "fixed_size_list": pairs,
        "struct": pa.array([{"a": 1}, None, {"a": None}, {"a": 2}, {"a": 3}]),
        "struct of nothing": pa.array([{}, None, {}, {}, {}], pa.struct([])),
        "map": pa.array([[("k", 1)], None, [], [("a", None)], [("z", 2)]], pa.map_(pa.string(), pa.int64())),
        "union": pa.UnionArray.from_sparse(
            pa.array([0, 1, 0, 1, 0], pa.int8()), [pa.array([1, 2, 3, 4, 5]), pa.array(["a", None, "b", "c", "d"])]
        ),
        "uuid": uuids,
        "json": extension(pa.json_(), pa.array(["[]", None, "1", '"a"', "{}"])),
        "bool8": extension(pa.bool8(), pa.array([1, None, 0, 2, -1], pa.int8())),
        "opaque": extension(pa.opaque(pa.int64(), "t", "v"), counts),
        "opaque null": extension(pa.opaque(pa.null(), "t", "v"), pa.nulls(5)),
        "opaque list": extension(pa.opaque(pa.list_(pa.int64()), "t", "v"), found["list<item: int64>"]),
        "opaque categories": extension(pa.opaque(categories.type, "t", "v"), categories),
        "tensor": extension(pa.fixed_shape_tensor(pa.int64(), (2,)), pairs),
        "list of uuid": pa.ListArray.from_arrays(offsets, uuids),
        "list of categories": pa.ListArray.from_arrays(offsets, categories),
        "struct of categories": pa.StructArray.from_arrays([categories], names=["x"]),
        "struct of odd times": pa.StructArray.from_arrays([counts.cast(pa.timestamp("us", "Mars/Base"))], names=["x"]),
        "categories of categories": pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 2, 3]), categories),
    }
    indices = pa.array([0, None, 1, 2, 3], pa.int8())

    def without_null(column: Any) -> Any:  # Parquet has no null among categories
        return pa.concat_arrays([column.slice(0, 1), column.slice(2)])

    found |= {
        f"categories: {name}": pa.DictionaryArray.from_arrays(indices, without_null(column))
        for name, column in found.items()
        if name not in ("union", "categories of categories", "opaque categories")
    }
    widths = (pa.uint8(), pa.uint64(), pa.int64())
    values = without_null(counts)
    found |= {f"categories, {width}": pa.DictionaryArray.from_arrays(indices.cast(width), values) for width in widths}
    found["null among the categories"] = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4]), counts)
    for name in ("int64", "string", "string_view", "bool", "null", "uuid", "list<item: int64>", "decimal128(9, 2)"):
        found |= {f"runs: {name}, {width}": runs(found[name], width) for width in (pa.int16(), pa.int32(), pa.int64())}
    return {**found, "runs: categories": runs(categories, pa.int32())}


COLUMNS = _columns()


def _plain(name: str) -> pa.Array:
    """Return the values of a column without categories, runs and extension types: not by the code under test."""
    if name.startswith(("categories: ", "runs: ")):
        return _plain(name.partition(": ")[2].rpartition(", int")[0] or name.partition(": ")[2])
    if name.startswith("categories, ") or name in ("null among the categories", "opaque"):
        return pa.array([1, None, 2, 3, 4])
    known = {
        "categories": ["a", None, "1", "b", "a"],
        "opaque categories": ["a", None, "1", "b", "a"],
        "categories of categories": ["a", None, None, "1", "b"],
        "uuid": [None if byte is None else str(uuid.UUID(bytes=byte * 16)) for byte in (b"0", None, b"1", b"2", b"3")],
        "json": ["[]", None, "1", '"a"', "{}"],
        "bool8": [True, None, False, True, True],
        "tensor": [[1, 2], None, [3, 4], [5, 6], [7, None]],
        "opaque list": [[1], None, [], [None], [2, 3]],
        "opaque null": pa.nulls(5),
    }
    return pa.array(known[name]) if name in known else COLUMNS[name]


PLAIN = {name: _plain(name) for name in COLUMNS}
