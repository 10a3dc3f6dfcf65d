"""Tables as they lie in lakes: partitions in the names of folders, and patterns."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError, MissingColumnsError, NoInferenceDataError
from bsm_core.tables.convert import convert
from bsm_core.tables.formats.folders import is_read
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import splits_of


def put(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("parquet"):
            pq.write_table(pa.table({"id": [f"{number}a", f"{number}b"], "n": [number, number + 1]}), path)
        elif name.endswith("jsonl"):
            path.write_text(f'{{"id": "{number}a", "n": {number}}}\n{{"id": "{number}b", "n": {number + 1}}}\n')
        else:
            content = f"id,n\n{number}a,{number}\n{number}b,{number + 1}\n".encode()
            path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def rows(path, *columns, size=3):
    """The rows of a table, read as one and by its splits."""
    source = TableSource.open(path)
    names = list(columns) or list(source.columns)
    tables = [window.table for window in source.windows(names, rows=size)]
    found = [tuple(map(text, row.values())) for table in tables for row in table.to_pylist()]
    if source.format in ("csv", "parquet") and not str(source.files[0]).endswith("gz"):
        again = [w.table for split in splits_of(source, size) for w in source.windows_of(split, names, rows=size)]
        assert pa.concat_tables(again).equals(pa.concat_tables(tables))
    return found


@pytest.mark.parametrize("extension", ["csv", "csv.gz", "jsonl", "parquet"])
def test_partitions_are_columns(tmp_path, extension):
    put(tmp_path, *(f"dt=2026-01-3{day}/channel={c}/part-0.{extension}" for day in (0, 1) for c in ("web", "a%2Fb")))
    source = TableSource.open(tmp_path)
    assert source.columns == ("id", "n", "dt", "channel")
    assert source.schema(["dt"]).field(0).type == (pa.string() if extension == "parquet" else pa.binary())
    assert rows(tmp_path, "channel", "id", "dt")[:5] == [
        ("a/b", "1a", "2026-01-30"),
        ("a/b", "1b", "2026-01-30"),
        ("web", "0a", "2026-01-30"),
        ("web", "0b", "2026-01-30"),
        ("a/b", "3a", "2026-01-31"),
    ]
    assert rows(tmp_path, "dt") == [("2026-01-30",)] * 4 + [("2026-01-31",)] * 4


def test_a_missing_value_is_null_and_a_column_of_the_files_is_theirs(tmp_path):
    put(tmp_path, "n=7/dt=__HIVE_DEFAULT_PARTITION__/a.csv", "n=8/dt=x=y/b.csv")
    assert TableSource.open(tmp_path).columns == ("id", "n", "dt")
    assert rows(tmp_path, "n", "dt") == [("0", None), ("1", None), ("1", "x=y"), ("2", "x=y")]


def test_a_partition_that_is_named_outright_keeps_its_column(tmp_path):
    put(tmp_path, "t/dt=1/a.csv", "t/dt=2/b.csv")
    assert rows(tmp_path / "t/dt=2", "dt") == [("2",)] * 2
    assert rows(tmp_path / "t/dt=2/b.csv", "dt") == [("2",)] * 2


def test_partitions_differ_is_an_error_that_names_both(tmp_path):
    put(tmp_path, "dt=1/a.csv", "day=2/b.csv")
    with pytest.raises(DataError, match="other partition columns") as caught:
        TableSource.open(tmp_path)
    assert list(caught.value.details) == [f"{tmp_path}/day=2: 'day'", f"{tmp_path}/dt=1: 'dt'"]


def test_leftovers_of_spark_are_passed_over(tmp_path):
    put(tmp_path, "dt=1/part-0.parquet", "_metadata", "_common_metadata", "dt=1/.part-0.parquet.crc", "_SUCCESS")
    assert rows(tmp_path) == [("0a", 0, "1"), ("0b", 1, "1")]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("dt=2026-01-3*", "0a 0b 1a 1b"),
        ("dt=2026-0[12]-*/*.csv", "0a 0b 1a 1b 2a 2b"),
        ("**/part-1.csv", "1a 1b"),
        ("*/part-?.csv", "0a 0b 1a 1b 2a 2b"),
    ],
)
def test_a_pattern_names_files_and_folders(tmp_path, pattern, ids):
    put(tmp_path, "dt=2026-01-30/part-0.csv", "dt=2026-01-31/part-1.csv", "dt=2026-02-01/part-2.csv")
    put(tmp_path, "dt=2026-01-31/_other.csv")
    assert " ".join(row[0] for row in rows(tmp_path / pattern)) == ids
    assert TableSource.open(tmp_path / pattern).columns[-1] == "dt"


def test_a_pattern_without_files_is_an_error(tmp_path):
    put(tmp_path, "a.csv")
    with pytest.raises(NoInferenceDataError, match="no data file matches the pattern") as caught:
        TableSource.open(tmp_path / "*.parquet")
    assert caught.value.fix.startswith("check the pattern; ")


def test_a_name_with_wildcards_is_a_name(tmp_path):
    put(tmp_path, "a[1].csv", "a1.csv")
    assert rows(tmp_path / "a[1].csv") == [("0a", "0"), ("0b", "1")]


def test_a_table_with_a_log_is_refused_by_a_pattern_too(tmp_path):
    put(tmp_path, "t/part-0.parquet", "t/_delta_log/0.json")
    with pytest.raises(DataError, match="Delta"):
        TableSource.open(tmp_path / "t/*.parquet")


def test_shares_of_a_table_keep_its_partitions(tmp_path):
    put(tmp_path, "dt=1/a.csv", "dt=2/b.csv", "dt=3/c.csv")
    share = TableSource.open(tmp_path).share(1, 2, ["dt"])
    [window] = share.windows(["dt", "id"])
    assert window.table.to_pydict() == {"dt": [b"2", b"2"], "id": [b"1a", b"1b"]}
    assert [Path(file).name for file in share.files] == ["b.csv"]


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_the_folder_in_which_one_is_has_its_column(tmp_path, monkeypatch, extension):
    put(tmp_path, f"t/dt=1/hour=2/a.{extension}")
    monkeypatch.chdir(tmp_path / "t" / "dt=1" / "hour=2")
    for path in (".", f"a.{extension}", f"*.{extension}"):
        assert rows(Path(path), "id", "dt", "hour") == [("0a", "1", "2"), ("0b", "1", "2")]
    monkeypatch.chdir(tmp_path / "t")
    assert rows(Path("dt=*"), "dt") == [("1",)] * 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dt=1/dt=2/a.csv", "the path has two values of the partition column 'dt'"),
        ("dt=%FF/a.csv", "the name of the partition 'dt=%FF' is not UTF-8"),
    ],
)
def test_names_of_folders_that_say_nothing_clear(tmp_path, name, said):
    put(tmp_path, name)
    with pytest.raises(DataError, match=said) as caught:
        TableSource.open(tmp_path)
    assert caught.value.where == str((tmp_path / name).parent)


def test_files_with_no_column_of_their_own(tmp_path):
    (tmp_path / "dt=1").mkdir()
    (tmp_path / "dt=1" / "a.jsonl").write_text("{}\n{}\n")
    with pytest.raises(DataError, match="the files have no columns"):
        TableSource.open(tmp_path)
    (tmp_path / "dt=1" / "a.jsonl").unlink()
    pq.write_table(pa.table({}), tmp_path / "dt=1" / "a.parquet")
    with pytest.raises(DataError, match="the files have no columns"):
        TableSource.open(tmp_path)
    (tmp_path / "b.jsonl").write_text("{}\n{}\n")
    with pytest.raises(MissingColumnsError, match="missing"):
        rows(tmp_path / "b.jsonl", "id")


def test_hints_are_about_the_columns_of_the_files(tmp_path):
    path = tmp_path / "dt=1" / "a.csv"
    path.parent.mkdir()
    path.write_text("id;n\n1;2\n")
    with pytest.raises(MissingColumnsError, match="the columns seem to be separated by ';'"):
        rows(path, "id")
    path.write_text("7,2\n8,3\n")
    with pytest.raises(MissingColumnsError, match="the first row may be data"):
        rows(path, "id", "dt")


def test_one_file_is_converted_as_it_is(tmp_path):
    put(tmp_path, "dt=1/a.csv")
    for source in ("dt=1/a.csv", "dt=1"):
        convert(tmp_path / source, tmp_path / f"{source.count('/')}.csv")
    assert (tmp_path / "1.csv").read_text() == (tmp_path / "dt=1" / "a.csv").read_text()
    assert (tmp_path / "0.csv").read_text() == "id,n,dt\n0a,0,1\n0b,1,1\n"


# Patterns


def names(path):
    return [file.name for file in TableSource.open(path).files]


def test_a_pattern_passes_over_what_a_folder_passes_over(tmp_path):
    put(tmp_path, "a/1.csv", "_old/2.csv", ".git/3.csv", "a/_b/4.csv", "a/.c/5.csv", "a/b/_6.csv", "a/b/7.csv")
    for pattern in ("**", "**/*.csv", "*", "*/**", "**/**/*"):
        assert names(tmp_path / pattern) == ["1.csv", "7.csv"] == names(tmp_path)
    assert names(tmp_path / "_old" / "*.csv") == ["2.csv"]
    with pytest.raises(NoInferenceDataError):
        TableSource.open(tmp_path / "*" / "_b" / "*.csv")


def test_only_the_folders_of_a_pattern_must_be_finished(tmp_path):
    put(tmp_path, "t/dt=1/a.csv", "t/dt=2/b.csv", "t/dt=2/_temporary/0/c.csv", "t/dt=3/_delta_log/0.json", "u/d.csv")
    assert names(tmp_path / "t" / "dt=1*") == ["a.csv"]
    assert names(tmp_path / "u*") == ["d.csv"]
    for pattern, kind in (("t/dt=2/*.csv", "still writing"), ("t/dt=[23]", "still writing"), ("t/*3", "Delta")):
        with pytest.raises(DataError, match=kind):
            TableSource.open(tmp_path / pattern)
    (tmp_path / "t" / "_temporary").mkdir()
    with pytest.raises(DataError, match="still writing"):
        TableSource.open(tmp_path / "t" / "dt=1*")


def test_a_file_that_a_pattern_matches_twice_is_read_once(tmp_path):
    put(tmp_path, "a/b/1.csv")
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "a" / "up").symlink_to("..")
    for pattern in ("*/**", "**/b", "**/b/**"):
        assert names(tmp_path / pattern) == ["1.csv"]
    (tmp_path / "a" / "b" / "2.csv").symlink_to("1.csv")  # as in a folder: a file by another name is a file
    assert names(tmp_path / "c*") == ["1.csv", "2.csv"]
    (tmp_path / "a" / "b" / "3.csv").symlink_to("nowhere")
    with pytest.raises(DataError, match="No such file"):
        TableSource.open(tmp_path / "c*")


def test_the_name_of_a_folder_that_is_there_is_no_pattern(tmp_path):
    put(tmp_path, "a[1]/x1.csv", "a1/x2.csv")
    assert names(tmp_path / "a[1]" / "x*.csv") == ["x1.csv"]
    with pytest.raises(NoInferenceDataError, match="no such file or folder"):
        TableSource.open(tmp_path / "b" / "*.csv")


@pytest.mark.parametrize(
    ("pattern", "name", "read"),
    [
        ("**/*.csv", "out/p.csv", True),
        ("**/*.csv", "out/_SUCCESS", False),
        ("*/part-*.csv", "out/p.csv", False),
        ("o*", "out/p.csv", True),
        ("dt=*/*.csv", "out/p.csv", False),
        ("*.csv", "../p.csv", False),
        (".", "out/_SUCCESS", True),
        (".", "../p.csv", False),
    ],
)
def test_what_would_be_read(tmp_path, pattern, name, read):
    put(tmp_path / "data", "a.csv")
    assert is_read(tmp_path / "data" / name, tmp_path / "data" / pattern) is read


ODD = {
    "of another type": pa.array(["p", "q"]),
    "in a list": pa.array([["a"], []]),
    "categories": pa.array(["a", "b"]).dictionary_encode(),
    "in nanoseconds": pa.array([0, 1], pa.timestamp("ns")),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_column_that_nobody_asked_for_may_have_any_type(tmp_path, kind):
    for name, first in (("1", pa.array([1, 2])), ("2", ODD[kind])):
        (tmp_path / f"dt={name}").mkdir()
        pq.write_table(pa.table({"a": first, "id": ["x", "y"]}), tmp_path / f"dt={name}" / "p.parquet")
    assert rows(tmp_path, "dt") == [("1",), ("1",), ("2",), ("2",)]


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_only_partitions_of_files_with_a_column_twice(tmp_path, extension):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", "b"])
    (tmp_path / "dt=1").mkdir()
    if extension == "csv":
        (tmp_path / "dt=1/p.csv").write_text("a,a,b\n1,2,3\n")
    else:
        pq.write_table(table, tmp_path / "dt=1/p.parquet")
    assert rows(tmp_path, "dt") == [("1",)]


def test_rows_of_parquet_are_counted_without_reading_a_column(tmp_path):
    put(tmp_path, "dt=1/p.parquet")
    path = tmp_path / "dt=1/p.parquet"
    footer, content = pq.read_metadata(path).serialized_size + 8, bytearray(path.read_bytes())
    content[4:-footer] = bytes(len(content) - footer - 4)
    path.write_bytes(content)
    assert rows(tmp_path, "dt") == [("1",)] * 2
