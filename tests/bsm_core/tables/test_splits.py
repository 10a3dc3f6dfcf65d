"""Splits: parts of a table that processes read by themselves."""

from __future__ import annotations

import pickle
import sys
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.tables import cells, csv_files, write

from bsm_core.errors import DataError
from bsm_core.tables import splits
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import can_split, known_rows, row_ends, splits_of, work_of
from bsm_core.tables.windows import BEGIN, Position, Split, Window

COLUMNS = ["id", "text"]


def whole_table(source, rows=4):
    return {window.index: window for window in source.windows(COLUMNS, rows=rows)}


def same(one, other):
    assert one.table.equals(other.table)
    for name in ("index", "start", "last", "end", "escapes", "loose_quotes"):
        assert getattr(one, name) == getattr(other, name), name


def read_all(source, found, rows):
    return [window for split in found for window in source.windows_of(split, COLUMNS, rows=rows)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(splits, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(splits, "_GROUP_ROWS", 7)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_windows_of_the_splits_are_those_of_the_table(tmp_path_factory, format):
    @settings(max_examples=30)
    @given(sizes=st.lists(st.integers(0, 23), min_size=1, max_size=4), data=st.data())
    def check(sizes, data):
        source, rows = write(tmp_path_factory.mktemp("data"), format, sizes), data.draw(st.integers(1, 9))
        whole = whole_table(source, rows)
        done = data.draw(st.sets(st.sampled_from(sorted(whole))))
        unknown = data.draw(st.sets(st.sampled_from(sorted(done)))) if done else set()
        found = list(splits_of(source, rows, {i: None if i in unknown else whole[i].end for i in done}))
        windows = read_all(source, found, rows)
        assert [window.index for window in windows] == sorted(set(whole) - done)
        for window in windows:
            same(window, whole[window.index])

    check()


@pytest.mark.usefixtures("small_blocks")
def test_any_text_is_split_where_its_windows_begin(tmp_path_factory):
    @settings(max_examples=150)
    @given(content=csv_files(bad=False), rows=st.integers(1, 5))
    def check(content, rows):
        path = tmp_path_factory.mktemp("data") / "a.csv"
        path.write_bytes(content)
        source = TableSource.open(path)
        whole = whole_table(source, rows)
        for window in read_all(source, splits_of(source, rows), rows):
            same(window, whole.pop(window.index))
        assert not whole

    check()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("delimiter", [",", " "])
def test_quotes_that_end_early_are_counted_alike_in_splits(tmp_path_factory, delimiter):
    found = []

    @settings(max_examples=100)
    @given(content=st.text(st.sampled_from(list('ab\\\\""", ;\n\n')), max_size=90), rows=st.integers(1, 4))
    @example('\rb\r;\na\rb\n\t\n" "\n\\\r;\n""\n,\r\\",', 1)
    @example('a\n"\\"b\na\n', 1)
    @example('"a"b\n"c\\"d"\n', 1)
    def check(content, rows):
        path = tmp_path_factory.mktemp("data") / "a.csv"
        path.write_text(f"id\n{content}", newline="")
        source = TableSource.open(path, dialect=Dialect(delimiter=delimiter))
        try:
            whole = [(window.escapes, window.loose_quotes) for window in source.windows(["id"], rows=rows)]
        except DataError:
            return
        found.extend(whole)
        parts = chain.from_iterable(source.windows_of(split, ["id"], rows=rows) for split in splits_of(source, rows))
        assert [(window.escapes, window.loose_quotes) for window in parts] == whole

    check()
    assert all(map(any, zip(*found, strict=True)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_share_that_is_read_grows_with_the_splits(tmp_path, format):
    source = write(tmp_path, format, [90, 0, 33, 0])
    shares = [window.fraction for window in read_all(source, splits_of(source, 4), 4)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-2] < shares[-1] == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_split_is_read_alone(tmp_path):
    source = write(tmp_path, "csv", [400])
    whole, found = whole_table(source), list(splits_of(source, 4))
    split = found[len(found) // 2]
    content = bytearray(source.files[0].read_bytes())
    content[: split.start.offset] = b"?" * split.start.offset
    content[split.end.offset :] = b'"' * (len(content) - split.end.offset)
    source.files[0].write_bytes(content)
    assert split.windows < 5
    for window in source.windows_of(split, COLUMNS, rows=4):
        same(window, whole[window.index])


def test_a_split_of_parquet_is_read_without_the_other_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "_GROUP_ROWS", 100)
    path = tmp_path / "a.parquet"
    pq.write_table(cells(1000), path, row_group_size=100, compression="none")
    source = TableSource.open(path)
    metadata, content = pq.read_metadata(path), bytearray(path.read_bytes())
    begin, end = (metadata.row_group(number).column(0).dictionary_page_offset for number in (5, 6))
    footer = len(content) - 8 - metadata.serialized_size
    content[4:begin] = bytes(begin - 4)
    content[end:footer] = bytes(footer - end)
    path.write_bytes(content)
    [split] = [split for split in splits_of(source, 100) if split.first == 5]
    [window] = source.windows_of(split, COLUMNS, rows=100)
    assert window.table["id"].to_pylist() == [str(i) for i in range(500, 600)]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("consumers", [1, 2, 5])
def test_the_work_ends_with_single_windows(tmp_path, monkeypatch, format, consumers):
    monkeypatch.setattr(splits, "_BLOCK_BYTES", 400)
    source = write(tmp_path, format, [90, 33])
    whole = whole_table(source)
    with closing(work_of(source, COLUMNS, rows=4, done={}, consumers=consumers)) as work:
        items = list(work)
    windows = []
    for item in items:
        windows += [item] if isinstance(item, Window) else source.windows_of(item, COLUMNS, rows=4)
    assert sorted(window.index for window in windows) == sorted(whole)
    for window in windows:
        same(window, whole[window.index])
    last = items[-consumers:]
    if format == "csv.gz":
        assert all(isinstance(item, Window) for item in items)
    elif format == "csv":
        assert all(isinstance(item, Split) for item in items)
        assert any(item.windows > 1 for item in items)
        assert all(item.windows == 1 for item in last)
    elif consumers < 5:
        assert isinstance(items[-1], Window) == (consumers > 1)


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [
        ([5, 5, 5], [10, 5]),
        ([10], [10]),
        ([], []),
        ([3, 41, 2], [3, 41, 2]),
        ([20, 20, 6], [20, 20, 6]),
        ([3, 8, 3, 9], [11, 12]),
    ],
)
def test_small_row_groups_are_joined_and_large_ones_are_left_alone(monkeypatch, sizes, blocks):
    monkeypatch.setattr(splits, "_GROUP_ROWS", 10)
    assert [len(block) for block in splits._row_groups(sizes, 0) if block] == blocks


def test_a_row_group_of_many_rows_takes_no_memory(tmp_path):
    blocks = list(splits._row_groups([1 << 40], (1 << 40) - 5_000_000))
    assert sum(map(len, blocks)) == 5_000_000
    assert sum(map(sys.getsizeof, blocks)) < 1000


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Simulates consumers of a table with row groups of these sizes, in windows of one row, which take work in turn.

    Returns the share of the rows that is read here; for each consumer, the shares that it decodes and that it is busy.
    """
    monkeypatch.setattr(splits, "_GROUP_ROWS", 16)

    def simulate(groups, consumers):
        table, begins = pa.table({"id": range(sum(groups))}), list(accumulate(groups, initial=0))
        with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
            for begin, size in zip(begins, groups, strict=False):
                writer.write_table(table.slice(begin, size), row_group_size=size)
        items = list(work_of(TableSource.open(tmp_path), ["id"], rows=1, done={}, consumers=consumers))
        here, decoded, busy, seen = 0, [0] * consumers, [0] * consumers, list[int]()
        for item in items:
            who = busy.index(min(busy))
            first, windows = (item.index, 1) if isinstance(item, Window) else (item.first, item.windows)
            seen += range(first, first + windows)
            here += isinstance(item, Window)
            busy[who] += windows
            if isinstance(item, Split):
                decoded[who] += first + windows - max(begin for begin in begins if begin <= first)
        assert sorted(seen) == list(range(len(table)))
        ideal = len(table) / consumers
        return here / len(table), [one / len(table) for one in decoded], [one / ideal for one in busy]

    return simulate


@pytest.mark.parametrize(
    ("groups", "consumers", "read_here"),
    [
        ([100], 2, 1),  # by nobody else
        ([100], 1, 0),  # there is nobody to wait for
        ([100] * 2, 2, 0.1),
        ([100] * 3, 2, 0.34),  # one process would read two of three row groups
        ([100] * 5, 2, 0.2),
        ([100] * 12, 2, 0.1),
        ([100] * 100, 2, 0.02),
        ([100] * 5, 4, 0.1),
        ([100] * 65, 64, 0.1),
        ([100] * 96, 64, 0.1),
        ([100] * 200, 64, 0.1),
        ([100] * 32, 64, 0.1),
        ([100] * 2, 64, 1),
        ([120, 90, 110, 80, 100, 100, 30], 3, 0.1),
        ([10, 900, 20, 70], 2, 1),  # a row group with most of the rows
        ([300, *[20] * 200], 16, 0.1),  # one that is large for a consumer only if nothing followed
    ],
)
def test_row_groups_are_shared_evenly_and_few_are_read_here(shared, groups, consumers, read_here):
    here, decoded, busy = shared(groups, consumers)
    assert read_here - 0.1 <= here <= read_here
    if consumers == 2:
        assert max(decoded) <= 0.6
    assert sum(decoded) <= 1 + (len(groups) < consumers or len(groups) % consumers > 0)
    assert max(busy) <= 1.15 + consumers / sum(groups)  # a window more


def test_a_table_without_rows_is_work_too(shared, tmp_path):
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    [item] = work_of(TableSource.open(tmp_path), ["id"], rows=1, done={}, consumers=2)
    assert (item.windows if isinstance(item, Split) else len([item])) == 1


def test_the_cost_of_a_split_does_not_grow_with_the_number_of_files(tmp_path, monkeypatch):
    source = write(tmp_path, "csv", [4] * 60)
    first, *others = splits_of(source, 4)
    read_all(source, [first], 4)
    looks, stat = [], Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **options: looks.append(path) or stat(path, **options))
    assert len(read_all(source, others, 4)) == 59
    assert len(looks) <= 2 * 59


@pytest.mark.parametrize(("now", "found"), [(b"1,x\n", 1), (b"1,x\n1,x\n1,xxxxx\n", 3), (b"1,\n" * 9, 8)])
def test_a_file_that_was_changed_since_it_was_scanned_is_named(tmp_path, now, found):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n" + b"1,x\n" * 7)
    source = TableSource.open(path)
    split = Split(0, 2, BEGIN, Position(0, 8 + 6 * 4), last=False)
    assert len(read_all(source, [split], 3)) == 2
    path.write_bytes(b"id,text\n" + now)
    with pytest.raises(DataError, match=rf"6 rows were found here before, and {found} now .*a\.csv"):
        read_all(source, [split], 3)


def test_text_that_is_not_read_as_it_is_cannot_be_split(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,x\n")
    assert can_split(TableSource.open(path))
    assert not can_split(TableSource.open(path, on_bad_line="skip"))
    assert not can_split(TableSource.open(path, dialect=Dialect(encoding="latin-1")))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "x"}\n')
    assert not can_split(TableSource.open(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("row", ["2,y", "2,y\n", "2,y\r", "2,y\r\n", "2,y\n\n", '2,"y"', '2,"y"\r', '2,"y\n"'])
def test_the_last_row_may_have_no_line_break(tmp_path, row):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,x\n" + row.encode())
    (tmp_path / "b.csv").write_bytes(b"id,text\n3,z\n")
    source = TableSource.open(tmp_path)
    ends = [int(at) for block in row_ends(source.files[0], source.dialect) for at in block]
    assert ends == [window.end.offset for window in source.windows(COLUMNS, rows=1)][:2]
    windows = read_all(source, splits_of(source, 1), 1)
    assert [window.table["id"].to_pylist() for window in windows] == [[b"1"], [b"2"], [b"3"]]


def test_a_pickled_window_holds_its_own_rows_alone(tmp_path):
    table = pa.table({"id": [b"x" * 100] * 10_000, "kind": pa.array(["a", "b"] * 5_000).dictionary_encode()})
    window = Window(3, 12, table.slice(8, 2), False, 0.5)
    content = pickle.dumps(window)
    assert len(content) < 3_000
    same(pickle.loads(content), window)


def test_a_split_ends_within_a_row_group_that_is_not_read_on(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(cells(2000), path, row_group_size=1000)
    taken = []
    batches = pq.ParquetFile.iter_batches

    def counted(self, **options):
        for batch in batches(self, **options):
            taken.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    monkeypatch.setattr(splits, "_GROUP_ROWS", 1000)
    source = TableSource.open(path)
    first, _ = splits_of(source, 300)
    assert [window.index for window in source.windows_of(first, COLUMNS, rows=300)] == [0, 1, 2, 3]
    assert sum(taken) <= 1300


def test_the_rows_of_parquet_are_known_before_they_are_read(tmp_path, monkeypatch):
    for name, rows in (("a", 5), ("b", 7)):
        pq.write_table(pa.table({"id": range(rows)}), tmp_path / f"{name}.parquet", row_group_size=3)
    source = TableSource.open(tmp_path)
    assert known_rows(source) == 12
    assert known_rows(replace(source, limit=4)) == 4
    assert known_rows(replace(source, limit=40)) == 12
    assert known_rows(source.share(1, 2)) == 7
    assert known_rows(source.share(2, 3)) == 0
    assert not can_split(replace(source, limit=4))
    monkeypatch.setattr(splits, "_MOST_FILES", 1)
    assert known_rows(source) is None
    (tmp_path / "t.csv").write_text("id\n1\n")
    assert known_rows(TableSource.open(tmp_path / "t.csv")) is None
