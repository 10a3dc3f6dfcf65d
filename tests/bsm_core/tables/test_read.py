"""Windows over the whole table, whatever the format and the files."""

import pickle
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError, MissingColumnsError
from bsm_core.tables.data_files import FORMATS
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import TableWriter


def numbers(start: int, stop: int) -> pa.Table:
    ids = [f"{i:05}" for i in range(start, stop)]
    return pa.table({"id": pa.array(ids, pa.binary()), "x": pa.array([f"t {i}" for i in ids], pa.binary())})


def put(path, table: pa.Table, format: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with TableWriter(path, table.schema, format) as writer:
        writer.write(table)


@pytest.fixture(params=[*FORMATS, "csv.gz", "tsv.bz2", "csv.zst", "csv.lz4"])
def folder(request, tmp_path):
    """23 rows in files of 5, 0, 1, 1, 13 and 3 rows."""
    start = 0
    for i, stop in enumerate([5, 5, 6, 7, 20, 23]):
        put(tmp_path / f"{i // 2}" / f"part-{i}.{request.param}", numbers(start, stop), request.param.split(".")[0])
        start = stop
    return tmp_path


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 22, 23, 24, 4096])
def test_windows_are_full_but_the_last_and_cross_the_borders_of_files(folder, rows):
    table = TableSource.open(folder)
    assert len(table.files) == 6
    windows = list(table.windows(["x", "id"], rows=rows))
    assert pa.concat_tables([w.table for w in windows]).equals(numbers(0, 23).select(["x", "id"]))
    assert [w.table.num_rows for w in windows[:-1]] == [rows] * (len(windows) - 1)
    assert 1 <= windows[-1].table.num_rows <= rows
    assert [w.index for w in windows] == list(range(len(windows)))
    assert [w.start for w in windows] == [i * rows for i in range(len(windows))]
    assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
    fractions = [w.fraction for w in windows]
    assert fractions == sorted(fractions)
    assert fractions[0] > 0
    assert fractions[-1] == 1


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_the_share_of_plain_text_is_that_of_the_bytes_before_the_end_of_a_window(tmp_path, format):
    """Not of the bytes that were read: the reader reads ahead, and a small file at once."""
    line = {"csv": "{:03},x\n", "jsonl": '{{"id": "{:03}"}}\n'}[format]
    for name, start, stop in (("a", 0, 10), ("b", 10, 30)):
        head = "id,x\n" if format == "csv" else ""
        (tmp_path / f"{name}.{format}").write_text(head + "".join(map(line.format, range(start, stop))))
    head, size = len(head), len(line.format(0))
    table = TableSource.open(tmp_path)
    want = [min(1, (head * (1 + (rows > 10)) + size * rows) / (2 * head + 30 * size)) for rows in (8, 16, 24, 30)]
    assert [window.fraction for window in table.windows(["id"], rows=8)] == pytest.approx(want)
    done = {0: next(table.windows(["id"], rows=8)).end}
    assert [window.fraction for window in table.windows(["id"], rows=8, done=done)] == pytest.approx(want[1:])


def test_the_schema_is_that_of_the_windows(folder):
    table = TableSource.open(folder)
    assert table.schema(["x", "id"]) == next(table.windows(["x", "id"])).table.schema


def test_a_source_travels_to_other_processes(folder):
    table = TableSource.open(folder)
    assert pickle.loads(pickle.dumps(table)) == table


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows_is_one_window(tmp_path, format):
    put(tmp_path / f"a.{format}", numbers(0, 0), format)
    put(tmp_path / f"b.{format}", numbers(0, 0), format)
    (window,) = TableSource.open(tmp_path).windows(["id"])
    assert (window.index, window.start, window.table.num_rows, window.last, window.fraction) == (0, 0, 0, True, 1)


@pytest.mark.parametrize("format", FORMATS)
def test_columns_are_matched_by_name(tmp_path, format):
    put(tmp_path / f"a.{format}", numbers(0, 2), format)
    put(tmp_path / f"b.{format}", numbers(2, 4).select(["x", "id"]), format)
    table = TableSource.open(tmp_path)
    assert pa.concat_tables([w.table for w in table.windows(["id", "x"])]).equals(numbers(0, 4))


@pytest.mark.parametrize("format", FORMATS)
def test_files_with_other_columns_are_named(tmp_path, format):
    put(tmp_path / f"a.{format}", numbers(0, 2), format)
    put(tmp_path / f"b.{format}", numbers(0, 2).rename_columns(["id", "y"]), format)
    with pytest.raises(DataError) as caught:
        TableSource.open(tmp_path)
    assert caught.value.where.endswith(f"b.{format}")
    assert caught.value.details == ("lacks: 'x'", "adds: 'y'")


def test_all_missing_columns_are_named_at_once(folder):
    table = TableSource.open(folder)
    table.require({"id": "ID_FIELD"})
    with pytest.raises(MissingColumnsError) as caught:
        table.require({"ids": "ID_FIELD", "id": "ID_FIELD", "price": "config.tab_field_list"})
    assert caught.value.details == (
        "'ids', wanted by ID_FIELD; did you mean 'id'?",
        "'price', wanted by config.tab_field_list",
        "columns found: 'id', 'x'",
    )
    for read in (table.windows, table.schema):
        with pytest.raises(MissingColumnsError, match="price"):
            read(["id", "price"])


@pytest.mark.parametrize(
    ("name", "header", "looks"),
    [("a.csv", "id;x", "';'"), ("a.csv", "id\tx", "a tab"), ("a.tsv", "id,x", "','"), ("a.tsv", "id|x", "'|'")],
)
def test_a_header_that_is_split_by_something_else_is_told_so(tmp_path, name, header, looks):
    (tmp_path / name).write_text(f"{header}\n1\n")
    with pytest.raises(MissingColumnsError) as caught:
        TableSource.open(tmp_path).require({"id": "ID_FIELD"})
    assert caught.value.details[-1].startswith(f"the columns seem to be separated by {looks}: ")


@pytest.mark.parametrize("header", ["ids", "a;b,c"])
def test_another_header_is_not(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header}\n")
    with pytest.raises(MissingColumnsError) as caught:
        TableSource.open(tmp_path).require({"id": "ID_FIELD"})
    assert not any("seem to be separated" in line for line in caught.value.details)


def test_senseless_windows_are_refused(folder):
    table = TableSource.open(folder)
    for columns, rows in (([], 1), (["id", "id"], 1), (["id"], 0)):
        with pytest.raises(ValueError, match="at least one row"):
            table.windows(columns, rows=rows)


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_rows(tmp_path, format):
    """Ten times the rows, in one row group, take no more memory; tracemalloc is blind to Arrow, its pool is not."""

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.{format}"
        # Every text is another one, so that no dictionary makes the file small.
        texts = pa.array([f"{i:06}" * 50 for i in range(count)], pa.binary())
        table = pa.table({"id": pa.array(map(str, range(count)), pa.binary()), "text": texts})
        if format == "parquet":
            pq.write_table(table, path, row_group_size=count, compression="none")
        else:
            put(path, table, format)
        del texts, table
        highest, before, read = 0, pa.total_allocated_bytes(), 0
        for window in TableSource.open(path).windows(["id", "text"], rows=512):
            highest = max(highest, pa.total_allocated_bytes() - before)
            read += window.table.num_rows
        assert read == count
        return highest

    few, many = peak(15_000), peak(150_000)
    # Arrow reads a little ahead, as far as the clock lets it.
    assert many < 3 * few
    assert many < (tmp_path / f"150000.{format}").stat().st_size / 4


# The first rows, and the share of the input


ROWS_OF_LIMITS = 50


def limited(tmp_path, name, limit, **options):
    """Return the windows of 8 rows of a table of 50 rows, of which the first ones are read."""
    frame = pd.DataFrame({"id": range(ROWS_OF_LIMITS), "text": ["a b\nc" * 9] * ROWS_OF_LIMITS})
    if name.endswith(".parquet"):
        frame.to_parquet(tmp_path / name, row_group_size=30)
    elif "jsonl" in name:
        frame.to_json(tmp_path / name, orient="records", lines=True)
    else:
        frame.to_csv(tmp_path / name, index=False)
    source = replace(TableSource.open(tmp_path / name, **options), limit=limit)
    return list(source.windows(["id", "text"], rows=8))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("limit", [1, 7, 8, 9, 16, 31, 50, 99])
def test_a_table_may_end_after_a_number_of_rows(tmp_path, name, limit):
    windows = limited(tmp_path, name, limit)
    assert sum(len(window.table) for window in windows) == min(limit, ROWS_OF_LIMITS)
    assert [len(window.table) for window in windows[:-1]] == [8] * (len(windows) - 1)
    assert [window.last for window in windows] == [False] * (len(windows) - 1) + [True]
    assert windows[-1].end == (1, 0)
    assert [window.fraction for window in windows[:-1]] == [8 * i / limit for i in range(1, len(windows))]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("on_bad_line", ["fail", "skip"])
def test_the_share_of_the_input_is_that_of_its_rows(tmp_path, name, on_bad_line):
    windows = limited(tmp_path, name, None, on_bad_line=on_bad_line)
    for window in windows:
        share = (window.start + len(window.table)) / ROWS_OF_LIMITS
        assert window.fraction == pytest.approx(share, abs=0.05)
