import itertools
import logging
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError, UsageError
from bsm_core.preprocess.columns import text_values
from bsm_core.tables.convert import convert
from bsm_core.tables.data_files import FORMATS
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import TableWriter

IDS = ["00123", "9007199254740993", "NA", "1e5", "  x ", "", "a,b", "a\tb", 'q"', "two\nlines", "é", "00123"]


def make(path, format: str) -> None:
    table = pa.table({"id": IDS, "n": [f"{i}" for i in range(len(IDS))]})
    with TableWriter(path, table.schema, format) as writer:
        writer.write(table)


def read(path, name: str) -> list[bytes]:
    windows = TableSource.open(path).windows([name])
    return [value for w in windows for value in w.table.column(name).cast(pa.binary()).to_pylist()]


@pytest.mark.parametrize(("source", "destination"), [*itertools.product([*FORMATS, "csv.gz"], [*FORMATS, "tsv.zst"])])
def test_rows_order_and_ids_are_kept_between_all_formats(tmp_path, source, destination):
    (tmp_path / "in").mkdir()
    for part in range(3):
        make(tmp_path / "in" / f"{part}.{source}", source.split(".")[0])
    out = tmp_path / f"out.{destination}"
    assert convert(tmp_path / "in", out, rows=5) == 3 * len(IDS)
    assert read(out, "id") == [i.encode() for i in IDS] * 3
    assert read(out, "n") == [b"%d" % i for i in range(len(IDS))] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", out.name]


def test_compression_is_real(tmp_path):
    make(tmp_path / "a.parquet", "parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.csv.gz")
    assert (tmp_path / "b.csv.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_types_of_parquet_stay_and_text_becomes_string(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "b": [b"\xff", None]}), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet").equals(pq.read_table(tmp_path / "a.parquet"))
    (tmp_path / "c.csv").write_text("id\n007\n")
    convert(tmp_path / "c.csv", tmp_path / "d", format="parquet")
    assert pq.read_table(tmp_path / "d").equals(pa.table({"id": ["007"]}))


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id\nok\n\xff\n")
    (tmp_path / "b.parquet").write_bytes(b"before")
    with pytest.raises(DataError, match="line 3, column 'id'"):
        convert(tmp_path / "a.csv", tmp_path / "b.parquet")
    assert (tmp_path / "b.parquet").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.parquet"]


def test_files_that_may_hold_rows_and_are_not_read_are_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "a.csv", "csv")
    (tmp_path / "in" / "b.json").write_text("[1]")
    convert(tmp_path / "in", tmp_path / "out.csv")
    assert str(tmp_path / "in" / "b.json") in caplog.text


def test_a_table_is_not_written_over_itself(tmp_path):
    make(tmp_path / "a.csv", "csv")
    with pytest.raises(UsageError, match="over itself"):
        convert(tmp_path, tmp_path / "a.csv")
    assert read(tmp_path, "n")


def test_a_destination_of_no_format(tmp_path):
    make(tmp_path / "a.csv", "csv")
    with pytest.raises(DataError, match="not a data file"):
        convert(tmp_path / "a.csv", tmp_path / "b.json")


def test_columns_in_the_names_of_folders_are_written(tmp_path):
    table = pa.table({"id": ["1", "2"], "Division Name": ["General", "Petite"]})
    pq.write_to_dataset(table, tmp_path / "year=1/t", ["Division Name"])
    assert convert(tmp_path / "year=1/t", tmp_path / "out.csv") == 2
    assert (tmp_path / "out.csv").read_text() == "id,Division Name\n1,General\n2,Petite\n"


def test_a_table_as_csv_has_the_texts_that_a_run_reads_from_parquet(tmp_path):
    table = {
        "bool": pa.array([True, None]),
        "float": pa.array([1.0, math.nan]),
        "small": pa.array([1e-5, 0.1], pa.float32()),
        "zone": pa.array([0, 1], pa.int64()).cast(pa.timestamp("us", "Europe/Paris")),
        "ns": pa.array([0, 1], pa.int64()).cast(pa.timestamp("ns")),
        "date": pa.array([0, None], pa.int32()).cast(pa.date32()),
        "time": pa.array([0, 1], pa.int64()).cast(pa.time64("us")),
        "duration": pa.array([1, None], pa.int64()).cast(pa.duration("us")),
        "decimal": pa.array([1, None]).cast(pa.decimal128(21, 2)),
        "words": pa.array([True, False]).cast(pa.string()).dictionary_encode(),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.csv")
    one, other = (next(TableSource.open(tmp_path / name).windows([*table])).table for name in ("a.parquet", "b.csv"))
    for name in table:
        assert text_values(one[name]) == text_values(other[name]), name


def test_a_date_or_time_without_a_text_is_its_number_in_csv_with_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    numbers = {
        pa.date32(): [0, -(2**31), 2**31 - 1, None],
        pa.time32("ms"): [86_399_999, 86_400_000, -1, None],
        pa.timestamp("us", "UTC"): [0, 10**18, -(2**62), None],
        pa.timestamp("us", "Europe/Paris"): [0, 10**18, -(2**62), None],
    }
    widths = {kind: pa.int32() if kind.bit_width == 32 else pa.int64() for kind in numbers}
    table = {str(kind): pa.array(values, widths[kind]).view(kind) for kind, values in numbers.items()}
    pq.write_table(pa.table({**table, "of": table["date32[day]"].dictionary_encode()}), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.csv", rows=1)
    one, other = (TableSource.open(tmp_path / name).windows([*table, "of"]) for name in ("a.parquet", "b.csv"))
    one, other = next(one).table, next(other).table
    for name, values in [*zip(table, numbers.values(), strict=True), ("of", numbers[pa.date32()])]:
        texts, issues = text_values(one[name])
        assert (texts[1:], [*issues]) == (["", "", ""], [1, 2])
        assert text_values(other[name])[0] == [texts[0], str(values[1]), str(values[2]), ""]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    what = "a date or time that is out of range has no text: its number is written, such as -2147483648"
    assert said[0] == f"column 'date32[day]': {what}"
