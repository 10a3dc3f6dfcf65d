"""Parquet as input: every column with its own type."""

import datetime
import decimal
import re
import time

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError
from bsm_core.tables import parquet
from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.formats.plain_values import plain_values
from bsm_core.tables.read import TableSource


def put(path, **columns) -> None:
    pq.write_table(pa.table(columns), path)


def column(table: TableSource, name: str = "x") -> pa.ChunkedArray:
    return pa.concat_tables([w.table for w in table.windows([name], rows=2)]).column(name)


IDS = {
    "int64": pa.array([9007199254740993, None, -1]),
    "string": pa.array(["00123", None, ""]),
    "large_string": pa.array(["NA", "1e5", " x "], pa.large_string()),
    "binary": pa.array([b"\xff", b"", None], pa.binary()),
    "uuid": pa.array([b"0" * 16, b"1" * 16, None], pa.binary(16)),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.00")], pa.decimal128(20, 2)),
    "timestamp": pa.array([datetime.datetime(2024, 1, 2, 3), None, None], pa.timestamp("us", "UTC")),
    "list": pa.array([[1, 2], None, []]),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_a_column_keeps_its_type(tmp_path, ids):
    put(tmp_path / "a.parquet", id=ids, junk=ids)
    table = TableSource.open(tmp_path)
    assert table.schema(["id"]).field("id").type == ids.type
    assert column(table, "id").type == ids.type
    assert column(table, "id").to_pylist() == ids.to_pylist()


def decimals(text, *kind):
    return pa.array([decimal.Decimal(text)], pa.decimal128(*kind))


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        (pa.array([1], pa.int8()), pa.array([2]), pa.int64()),
        (pa.array([1], pa.uint32()), pa.array([-2], pa.int8()), pa.int64()),
        (decimals("1.50", 5, 2), decimals("2.00", 9, 2), pa.decimal128(9, 2)),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), pa.large_string()),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), pa.string()),
        (pa.array(["a"]), pa.array(["b"], pa.string_view()), pa.large_string()),
        (pa.array(["a"], pa.large_string()), pa.array(["b"], pa.string_view()), pa.large_string()),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.string_view()), pa.large_string()),
        (pa.array([b"a"]), pa.array([b"b"], pa.binary_view()), pa.large_binary()),
    ],
)
def test_types_are_promoted_if_no_text_changes_but_not_those_of_an_id(tmp_path, one, other, merged):
    for first, second in ((one, other), (other, one)):
        put(tmp_path / "a.parquet", x=first)
        put(tmp_path / "b.parquet", x=second)
        table = TableSource.open(tmp_path)
        assert column(table).type == merged
        assert column(table).to_pylist() == [*first.to_pylist(), *second.to_pylist()]
        with pytest.raises(DataError, match=re.escape(f"'x' has type {second.type}, but {first.type}")) as caught:
            table.schema(["x"])
        assert caught.value.where.endswith("b.parquet")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, None]), pa.array([0.5, None])),
        (pa.array([2**60]).dictionary_encode(), pa.array([0.5]).dictionary_encode()),
        (pa.array([0.5], pa.float32()), pa.array([2.0])),
        (pa.array([1, -1]), pa.array([2**63 + 1], pa.uint64())),
        (decimals("1.50", 5, 2), decimals("1.5000", 9, 4)),
        (decimals("1.50", 5, 2), pa.array([1])),
        (pa.array([10**12], pa.timestamp("s")), pa.array([1], pa.timestamp("ns"))),
        (pa.array([1], pa.duration("s")), pa.array([1], pa.duration("us"))),
        (pa.array([[1], None]), pa.array([[1.0]])),
        (pa.array([1]), pa.array(["1"])),
        (pa.array([1]), pa.array(["1"], pa.string_view())),
        (pa.array([True]), pa.array([1])),
        (pa.array([b"1"]), pa.array([[1]])),
    ],
)
def test_types_that_write_a_value_otherwise_stand_in_a_union(tmp_path, one, other):
    for first, second in ((one, other), (other, one)):
        put(tmp_path / "a.parquet", x=first)
        put(tmp_path / "b.parquet", x=second)
        put(tmp_path / "c.parquet", x=pa.nulls(1))
        table = TableSource.open(tmp_path)
        kind = column(table).type
        alone = [pq.read_table(tmp_path / f"{name}.parquet")["x"] for name in "ab"]
        assert pa.types.is_union(kind)
        assert [kind.field(number).type for number in range(2)] == [plain_values(a).type for a in alone]
        assert cell_values(column(table)) == [*cell_values(alone[0]), *cell_values(alone[1]), None]
        with pytest.raises(DataError, match=r"column 'x' has type"):
            table.schema(["x"])


def test_many_types_of_numbers_have_few_members(tmp_path):
    kinds = ["uint8", "int8", "float", "uint64", "int64", "double", "uint16", "int32"]
    for number, kind in enumerate(kinds):
        put(tmp_path / f"{number}.parquet", x=pa.array([number, None], kind))
    read = column(TableSource.open(tmp_path))
    assert [str(read.type.field(n).type) for n in range(read.type.num_fields)] == ["int64", "float", "uint64", "double"]
    assert read.to_pylist() == [x for number in range(8) for x in (number, None)]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_of_nulls_fits_every_type(tmp_path, kind):
    put(tmp_path / "a.parquet", x=pa.nulls(1))
    put(tmp_path / "b.parquet", x=pa.nulls(1, kind))
    put(tmp_path / "c.parquet", x=pa.nulls(1))
    table = TableSource.open(tmp_path)
    assert table.schema(["x"]).field("x").type == kind == column(table).type


def test_categoricals_of_another_width_are_of_one_type(tmp_path):
    values = [str(i) for i in range(300)]
    pd.DataFrame({"x": pd.Categorical(["a", "b"])}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"x": pd.Categorical(values)}).to_parquet(tmp_path / "b.parquet")
    table = TableSource.open(tmp_path)
    assert pa.types.is_dictionary(table.schema(["x"]).field("x").type)
    assert column(table).to_pylist() == ["a", "b", *values]


def test_names_with_dots_and_nested_columns(tmp_path):
    put(tmp_path / "a.parquet", **{"a": [1], "a.b": [2], "c": [{"d": 3}]})
    table = TableSource.open(tmp_path)
    assert next(table.windows(["c", "a.b", "a"])).table.to_pylist() == [{"c": {"d": 3}, "a.b": 2, "a": 1}]
    assert column(table, "a").to_pylist() == [1]


def test_the_unnamed_index_of_pandas_is_no_column(tmp_path):
    pd.DataFrame({"id": ["a", "b", "c"]})[1:].to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"id": ["d"]}).to_parquet(tmp_path / "b.parquet")
    pd.DataFrame({"x": [1]}, index=pd.Index(["e"], name="id")).to_parquet(tmp_path / "named.parquet")
    table = TableSource.open(tmp_path / "a.parquet")
    assert table.columns == ("id",)
    assert TableSource.open(tmp_path / "named.parquet").columns == ("x", "id")
    (tmp_path / "named.parquet").unlink()
    assert column(TableSource.open(tmp_path), "id").to_pylist() == ["b", "c", "d"]


@pytest.mark.parametrize("at", [0, 0.02, 0.999])
def test_a_damaged_file(tmp_path, at):
    path = tmp_path / "a.parquet"
    put(path, id=list(range(10_000)))
    content = bytearray(path.read_bytes())
    start = int(at * len(content))
    content[start : start + 40] = b"\xff" * 40 if at else b""
    path.write_bytes(content if at else content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read") as caught:
        column(TableSource.open(tmp_path), "id")
    assert caught.value.where == str(path)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_flipped_byte_in_a_page_with_a_checksum_is_found(tmp_path, version):
    path = tmp_path / "a.parquet"
    ids = [f"id-{i:05d}" for i in range(100)]
    table = pa.table({"id": ids})
    options = {"write_page_checksum": True, "compression": "none", "use_dictionary": False}
    pq.write_table(table, path, data_page_version=version, **options)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"id-00042", b"id-00043"))
    with pytest.raises(DataError, match="cannot be read") as caught:
        column(TableSource.open(tmp_path), "id")
    assert caught.value.where == str(path)


def test_a_file_without_rows_and_without_row_groups(tmp_path):
    schema = pa.schema([("id", pa.string()), ("list", pa.list_(pa.int64()))])
    pq.ParquetWriter(tmp_path / "a.parquet", schema).close()
    assert column(TableSource.open(tmp_path), "id").to_pylist() == []
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    assert column(TableSource.open(tmp_path), "list").to_pylist() == []


def test_a_table_of_many_columns_takes_time_in_proportion(tmp_path):
    names = [f"column_{i}" for i in range(20_000)]
    pq.write_table(pa.table({name: [1] for name in names}), tmp_path / "a.parquet")
    table = TableSource.open(tmp_path)
    began = time.process_time()
    schema = table.schema(names)
    assert (schema.names, schema.types) == (names, [pa.int64()] * len(names))
    assert time.process_time() - began < 2


FAR, NEAR = 253_402_300_799_000_000, 0  # 9999-12-31 in microseconds, which INT96 holds and nanoseconds do not


@pytest.mark.parametrize("far", [True, False])
@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (pa.timestamp("us"), lambda time: time),
        (pa.list_(pa.timestamp("us")), lambda time: [NEAR, time]),
        (pa.struct({"at": pa.timestamp("us")}), lambda time: {"at": time}),
        (pa.map_(pa.string(), pa.timestamp("us")), lambda time: [("at", time)]),
    ],
    ids=["time", "list", "struct", "map"],
)
def test_times_as_int96_that_arrow_would_change(tmp_path, kind, wrap, far):
    times = pa.array([wrap(NEAR), None, wrap(FAR if far else NEAR)], kind)
    table = pa.table({"id": ["1", "2", "3"], "times": times})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    source = TableSource.open(tmp_path)
    assert sum(len(window.table) for window in source.windows(["id"])) == 3
    if far:
        with pytest.raises(DataError, match="'times' has times outside of the years 1677 to 2262"):
            list(source.windows(["id", "times"]))
    else:
        assert [len(window.table) for window in source.windows(["id", "times"])] == [3]


def put_int96(path, times):
    columns = {"id": range(len(times)), "t": pa.array(times, pa.timestamp("us"))}
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=True, row_group_size=2)


def test_times_as_int96_of_all_files_are_checked_before_the_first_window(tmp_path):
    put_int96(tmp_path / "a.parquet", [NEAR] * 6)
    put_int96(tmp_path / "b.parquet", [NEAR, FAR])
    with pytest.raises(DataError, match="'t' has times outside") as caught:
        TableSource.open(tmp_path).windows(["id", "t"], rows=2)
    assert caught.value.where == str(tmp_path / "b.parquet")


def test_times_as_int96_are_checked_once_and_not_in_row_groups_that_are_done(tmp_path, monkeypatch):
    put_int96(tmp_path / "a.parquet", [NEAR] * 6)
    source, read = TableSource.open(tmp_path), []
    done = {window.index: window.end for window in source.windows(["t"], rows=2) if window.index < 2}
    iter_batches = pq.ParquetFile.iter_batches

    def spied(*args, **options):
        for batch in iter_batches(*args, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spied)
    checked = source.with_checked(["t"], done)
    assert read == [2]
    assert [window.index for window in checked.windows(["t"], rows=2, done=done)] == [2]
    assert read == [2, 2]


def test_times_as_int96_in_columns_with_dots_in_their_names(tmp_path):
    near, far = (
        pa.array([{"c": time, "d": 1}], pa.struct({"c": pa.timestamp("us"), "d": pa.int64()})) for time in (NEAR, FAR)
    )
    columns = {"a": pa.array([{"b": 1}]), "a.b": pa.array([FAR], pa.timestamp("us")), "x.y": near, "x": far}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    source = TableSource.open(tmp_path)
    assert next(source.windows(["a", "x.y"])).table["a"].to_pylist() == [{"b": 1}]
    for name in ("a.b", "x"):
        with pytest.raises(DataError, match=f"'{name}' has times outside of the years 1677 to 2262"):
            list(source.windows([name]))


def test_wanted_columns_are_not_looked_through_for_each_column_of_the_file(tmp_path):
    """Twenty thousand columns took half a minute."""

    class Names(list):
        passes = 0

        def __iter__(self):
            Names.passes += 1
            return super().__iter__()

    names = [f"x{i}" for i in range(200)]
    put(tmp_path / "a.parquet", **{name: [1, 2] for name in names})
    (rows,) = parquet.read_batches(tmp_path / "a.parquet", Names(names), 10)
    assert rows.batch.schema.names == names
    assert Names.passes < 10


def test_a_repeated_field_without_an_annotation_and_without_rows(tmp_path):
    """As other programs write lists. Its schema is in Thrift's compact protocol; pyarrow writes no such file."""
    field = b"\x15\x02\x25\x04\x18\x01x\x00"  # int32, repeated, "x"
    root = b"\x48\x04root\x15\x02\x00"  # one field
    footer = b"\x15\x02\x19\x2c" + root + field + b"\x16\x00\x19\x0c\x00"  # no row, no row group
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    values = column(TableSource.open(path))
    assert (len(values), values.type.value_type) == (0, pa.int32())
