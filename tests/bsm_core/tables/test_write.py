import csv
import datetime
import decimal
import io
import math
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mounts import seeing_empty
from support.plugins import run_python

from bsm_core.errors import DataError
from bsm_core.tables import write
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import TableWriter, output_schema

DELIMITERS = {"csv": ",", "tsv": "\t"}


def written(tmp_path, table: pa.Table, format: str = "csv") -> bytes:
    path = tmp_path / f"out.{format}"
    with TableWriter(path, table.schema, format) as writer:
        writer.write(table)
    return path.read_bytes()


def lines(tmp_path, column: pa.Array) -> list[str]:
    text = written(tmp_path, pa.table({"x": column, "y": pa.nulls(len(column))})).decode()
    header, *rows, end = text.split("\n")
    assert (header, end) == ("x,y", "")
    return [row.removesuffix(",") for row in rows]


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_only_cells_that_need_quotes_have_them(tmp_path, format):
    cells = ["plain", " x ", "a,b", "a\tb", 'say "hi"', "a\nb", "a\rb", "", "é", "'", "#;\\"]
    table = pa.table({"id": cells, "a,b\t": cells})
    quoted = {"a,b", 'say "hi"', "a\nb", "a\rb"} if format == "csv" else {"a\tb", 'say "hi"', "a\nb", "a\rb"}
    cell = {c: '"' + c.replace('"', '""') + '"' if c in quoted else c for c in cells}
    expected = [f'id{DELIMITERS[format]}"a,b\t"', *(cell[c] + DELIMITERS[format] + cell[c] for c in cells)]
    assert written(tmp_path, table, format).decode() == "\n".join(expected) + "\n"


def test_bytes_are_written_as_they_are(tmp_path):
    cells = [b"\xff\xfe", b"\x00", b'\xff"', None]
    for kind in (pa.binary(), pa.large_binary()):
        table = pa.table({"id": pa.array(cells, kind), "x": pa.array(cells, kind)})
        assert written(tmp_path, table) == b'id,x\n\xff\xfe,\xff\xfe\n\x00,\x00\n"\xff""","\xff"""\n,\n'


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, -9007199254740993, None]), ["1", "-9007199254740993", ""]),
        (pa.array([True, False, None]), ["True", "False", ""]),
        (pa.array([0.1, 1.0, 1e300, 1e-5, math.inf, math.nan]), ["0.1", "1.0", "1e+300", "1e-05", "inf", ""]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([decimal.Decimal("1.50")], pa.decimal128(9, 2)), ["1.50"]),
        (pa.array([datetime.date(2024, 1, 2)]), ["2024-01-02"]),
        (pa.array([datetime.datetime(2024, 1, 2, 3, 4, 5)], pa.timestamp("s")), ["2024-01-02 03:04:05"]),
        (pa.array([datetime.datetime(2024, 1, 2, 3)], pa.timestamp("s", "UTC")), ["2024-01-02 03:00:00+00:00"]),
        (pa.array([1704106800 * 10**6 + 500], pa.timestamp("us", "Asia/Tokyo")), ["2024-01-01 20:00:00.000500+09:00"]),
        (pa.array([1, None], pa.duration("s")), ["0 days 00:00:01", ""]),
        (pa.array([datetime.time(1, 2, 3)], pa.time64("us")), ["01:02:03"]),
        (pa.array([datetime.time(1, 2, 3)], pa.time32("s")), ["01:02:03"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", "", "a"]),
        (pa.array([1, None, 1]).dictionary_encode(), ["1", "", "1"]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array(["ab"], pa.string_view()), ["ab"]),
        (pa.nulls(2), ["", ""]),
    ],
)
def test_the_text_of_every_type(tmp_path, column, expected):
    assert lines(tmp_path, column) == expected


@given(values=st.lists(st.floats(width=32, allow_nan=False) | st.floats(allow_nan=False), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_floats_read_back_the_same(tmp_path, values):
    assert [float(cell) for cell in lines(tmp_path, pa.array(values, pa.float64()))] == values


@pytest.mark.parametrize("format", ["csv", "tsv"])
@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.string()), pa.list_(pa.int8(), 2)],
)
def test_nested_types_are_refused_at_once(tmp_path, kind, format):
    with pytest.raises(DataError, match="write parquet") as caught:
        TableWriter(tmp_path / "x", pa.schema([("id", pa.int64()), ("tags", kind)]), format)
    assert "column 'tags'" in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_an_empty_cell_of_a_single_column_is_not_an_empty_line(tmp_path):
    assert written(tmp_path, pa.table({"id": ["", None, "a"]})) == b'id\n""\n""\na\n'


IDS = st.lists(st.binary(max_size=8) | st.sampled_from([b"", b'"', b",", b"\n", b"\r\n", b"\t", b"NA", b'""', b"007"]))


@pytest.mark.parametrize("format", ["csv", "tsv"])
@given(ids=IDS, twice=st.booleans(), rows=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_ids_survive_a_round_trip(tmp_path, format, ids, twice, rows):
    column = pa.array(ids, pa.binary())
    table = pa.table({"id": column, "x": column} if twice else {"id": column})
    content = written(tmp_path, table, format)
    assert [w.table.num_rows for w in TableSource.open(tmp_path).windows(["id"], rows=rows)][:-1] == [rows] * (
        max(len(ids) - 1, 0) // rows
    )
    read = pa.concat_tables([w.table for w in TableSource.open(tmp_path).windows(table.column_names, rows=rows)])
    assert read.to_pydict() == table.to_pydict()
    # And Python's own reader sees the same cells; latin-1 gives it every byte.
    _, *others = csv.reader(io.StringIO(content.decode("latin-1"), newline=""), delimiter=DELIMITERS[format])
    assert [row[0].encode("latin-1") for row in others] == ids


def test_a_header_alone(tmp_path):
    for format in ("csv", "parquet"):
        with TableWriter(tmp_path / f"out.{format}", pa.schema([("id", pa.string())]), format):
            pass
    assert (tmp_path / "out.csv").read_bytes() == b"id\n"
    assert pq.read_table(tmp_path / "out.parquet").schema == pa.schema([("id", pa.string())])


def test_the_bytes_of_text_become_strings_in_parquet_and_nothing_else_changes():
    schema = pa.schema([("id", pa.binary()), ("p", pa.float32())])
    assert output_schema(schema, "csv", "parquet") == pa.schema([("id", pa.string()), ("p", pa.float32())])
    assert output_schema(schema, "parquet", "parquet") == schema
    assert output_schema(schema, "parquet", "csv") == schema
    assert output_schema(schema, "csv", "tsv") == schema


def test_parquet_row_groups_are_large_though_the_tables_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "_GROUP_ROWS", 100)
    table = pa.table({"id": list(range(30)), "x": ["a"] * 30})
    with TableWriter(tmp_path / "x.parquet", table.schema, "parquet") as writer:
        for _ in range(9):
            writer.write(table)
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [120, 120, 30]
    monkeypatch.setattr(write, "_GROUP_BYTES", 1)
    with TableWriter(tmp_path / "x.parquet", table.schema, "parquet") as writer:
        writer.write(table)
        writer.write(table)
    assert pq.read_metadata(tmp_path / "x.parquet").num_row_groups == 2


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_other_columns_than_those_of_the_file_are_refused(tmp_path, format):
    with TableWriter(tmp_path / "x", pa.schema([("id", pa.string())]), format) as writer:
        with pytest.raises(ValueError, match="do not fit"):
            writer.write(pa.table({"ID": ["a"]}))
        with pytest.raises(pa.ArrowException):
            writer.write(pa.table({"id": [{}]}))


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_no_handle_stays_open_after_an_error(tmp_path, format):
    writer = TableWriter(tmp_path / "x", pa.schema([("id", pa.string())]), format)

    def fail() -> None:
        with writer:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert writer._file.closed
    writer.close()


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_system_errors_stay_what_they_are(tmp_path, format):
    with pytest.raises(FileNotFoundError):
        TableWriter(tmp_path / "nowhere" / "x", pa.schema([("id", pa.string())]), format)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_full_disk_is_an_os_error_and_leaves_no_handle(format):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="No space"):
        TableWriter(Path("/dev/full"), pa.schema([("id", pa.string())]), format)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("format", ["orc", "CSV", ""])
def test_an_unknown_format_is_refused_and_writes_no_file(tmp_path, format):
    with pytest.raises(ValueError, match=f"cannot be written in the format '{format}'"):
        TableWriter(tmp_path / "out", pa.schema([("x", pa.int64())]), format)
    assert list(tmp_path.iterdir()) == []


def test_categories_with_other_dictionaries_in_each_table(tmp_path):
    tables = [pa.table({"id": pa.array(ids).dictionary_encode()}) for ids in (["a", "b", "a"], ["c", "b"])]
    for format in ("csv", "parquet"):
        path = tmp_path / f"t.{format}"
        with TableWriter(path, tables[0].schema, format) as writer:
            for table in tables:
                writer.write(table)
    assert (tmp_path / "t.csv").read_text() == "id\na\nb\na\nc\nb\n"
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.schema.field("id").type == tables[0].schema.field("id").type
    assert back["id"].to_pylist() == ["a", "b", "a", "c", "b"]


def test_values_of_extension_types_as_text(tmp_path):
    ids = [uuid.UUID(int=i * 7919) for i in range(2)]
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([*(i.bytes for i in ids), None], pa.binary(16)))
    assert lines(tmp_path, uuids) == [str(ids[0]), str(ids[1]), ""]
    words = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    assert lines(tmp_path, words) == ["True", "False", ""]
    objects = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[]", "1", None]))
    assert lines(tmp_path, objects) == ["[]", "1", ""]
    schema = pa.schema([("id", pa.uuid())])
    assert output_schema(schema, "parquet", "csv") == output_schema(schema, "parquet", "parquet") == schema


NOWHERE = pa.timestamp("us", "Mars/\x1bBase")


@pytest.mark.parametrize(
    "kind",
    [
        NOWHERE,
        pa.dictionary(pa.int8(), NOWHERE),
        pa.run_end_encoded(pa.int32(), NOWHERE),
        pa.opaque(NOWHERE, "a", "b"),
        pa.dictionary(pa.int8(), pa.opaque(NOWHERE, "a", "b")),
    ],
    ids=["plain", "categories", "runs", "extension", "categories of an extension"],
)
def test_a_time_zone_that_the_system_does_not_have_is_found_before_anything_is_written(kind):
    schema = pa.schema([("t", kind)])
    with pytest.raises(DataError, match="column 't'") as caught:
        output_schema(schema, "parquet", "csv")
    assert str(caught.value).isascii()
    assert "\x1b" not in str(caught.value)
    assert "install the time zones of the system" in str(caught.value)
    assert output_schema(schema, "parquet", "parquet") == schema


def test_a_system_without_time_zones_is_told_so_and_writes_times_in_utc():
    code = """
        import pyarrow as pa
        from bsm_core.errors import DataError
        from bsm_core.tables.write import output_schema

        output_schema(pa.schema([("t", pa.timestamp("us", "UTC"))]), "parquet", "csv")
        try:
            output_schema(pa.schema([("t", pa.timestamp("us", "Europe/Paris"))]), "parquet", "csv")
        except DataError as error:
            print(error.fix)
    """
    fix = run_python(code, before=seeing_empty("/usr/share/zoneinfo"))
    assert fix.startswith("write parquet, leave the column out, or install the time zones of the system")


def test_a_time_that_pandas_cannot_hold_is_written_as_arrow_prints_it(tmp_path):
    times = pa.array([0, None, 10**12], pa.timestamp("s"))
    assert lines(tmp_path, times) == ["1970-01-01 00:00:00", "", "33658-09-27 01:46:40"]


def test_the_shortest_digits(tmp_path):
    floats = pa.array([1.0, 0.25, 1e-5, None, math.nan])
    with TableWriter(tmp_path / "out.csv", pa.schema({"x": pa.float64(), "p": pa.float64()}), "csv", ["p"]) as writer:
        writer.write(pa.table({"x": floats, "p": floats}))
    assert (tmp_path / "out.csv").read_text() == "x,p\n1.0,1\n0.25,0.25\n1e-05,0.00001\n,\n,nan\n"


def test_pages_of_parquet_have_checksums(tmp_path):
    column = pa.array([f"id-{i:05d}" for i in range(100)])
    path = tmp_path / "out.parquet"
    content = written(tmp_path, pa.table({"id": column}), "parquet")
    path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_twenty_thousand_columns_take_little_time(tmp_path):
    pieces = [pa.table({f"c{i}": pa.array([b"x"], pa.binary()) for i in range(20_000)})] * 5
    began = time.process_time()
    text = written(tmp_path, pa.concat_tables(pieces))
    assert text.count(b"x") == 100_000
    assert time.process_time() - began < 20
