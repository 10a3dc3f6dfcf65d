"""Reading the rest of a table: windows that an earlier run has finished are not read again."""

from __future__ import annotations

import dataclasses
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tables import csv_files, write

from bsm_core.tables import delimited
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Position


def read(source, done=None, rows=4):
    return {w.index: w for w in source.windows(["id", "text"], rows=rows, done=done)}


@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet"])
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 23), min_size=1, max_size=3), data=st.data())
def test_the_windows_that_are_left_are_those_of_the_whole_table(tmp_path_factory, format, sizes, data):
    source = write(tmp_path_factory.mktemp("data"), format, sizes)
    whole = read(source)
    assert [w.end for w in whole.values()][-1] == Position(len(sizes), 0)
    done = data.draw(st.sets(st.sampled_from(sorted(whole))))
    unknown = data.draw(st.sets(st.sampled_from(sorted(done)))) if done else set()
    again = read(source, {i: None if i in unknown else whole[i].end for i in done})
    assert sorted(again) == sorted(set(whole) - done)
    for index, window in again.items():
        assert window.table.equals(whole[index].table)
        assert (window.start, window.last, window.end) == (whole[index].start, whole[index].last, whole[index].end)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("on_bad_line", ["fail", "skip"])
@settings(max_examples=40)
@given(st.data())
def test_any_text_read_again_has_the_rows_and_bad_lines_of_the_whole_table(tmp_path_factory, name, on_bad_line, data):
    path = tmp_path_factory.mktemp("data") / name
    content = data.draw(csv_files(bad=on_bad_line == "skip"))
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source, rows = TableSource.open(path, on_bad_line), data.draw(st.integers(1, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_SIZES", (data.draw(st.sampled_from([16, 32, 64])), 1 << 20))
        whole = read(source, rows=rows)
        done = data.draw(st.sets(st.sampled_from(sorted(whole))))
        again = read(source, {i: whole[i].end for i in done}, rows)
    assert [w.end for w in whole.values() if w.end is None] == []
    assert sorted(again) == sorted(set(whole) - done)
    for index, window in again.items():  # the share of the input that was read depends on the time
        assert dataclasses.replace(window, fraction=1) == dataclasses.replace(whole[index], fraction=1)


def openings(source, done, monkeypatch):
    """The windows that are left, and each position at which the reader of a text file was opened."""
    found = []
    batches = delimited.read_batches

    def recorded(path, dialect, schema, wanted, offset, *more):
        found.append((path.name, offset))
        return batches(path, dialect, schema, wanted, offset, *more)

    monkeypatch.setattr(delimited, "read_batches", recorded)
    return read(source, done), found


def test_a_compressed_file_is_read_on_through_windows_that_are_done(tmp_path, monkeypatch):
    source = write(tmp_path, "csv.gz", [200, 200])
    whole = read(source)
    done = {i: w.end for i, w in whole.items() if i in (0, 1, 2) or i % 2}
    left, found = openings(source, done, monkeypatch)
    assert [w.table for w in left.values()] == [w.table for i, w in whole.items() if i not in done]
    assert found == [("0.csv.gz", whole[3].end.offset), ("1.csv.gz", 0)]


def test_plain_text_is_read_from_the_byte_at_which_the_window_begins(tmp_path, monkeypatch):
    source = write(tmp_path, "csv", [400])
    whole = read(source)
    monkeypatch.setattr(delimited, "BLOCK_SIZES", (512, 1 << 20))
    left, found = openings(source, {i: w.end for i, w in whole.items() if i not in (50, 90)}, monkeypatch)
    assert sorted(left) == [50, 90]
    assert found == [("0.csv", whole[49].end.offset), ("0.csv", whole[89].end.offset)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("on_bad_line", ["fail", "skip"])
def test_a_line_break_in_quotes_between_two_blocks_keeps_its_bytes(tmp_path, monkeypatch, name, on_bad_line):
    rows = [(f"{i}", f"{'x' * i}\r\ny\r\r\n") for i in range(80)]
    content = b"id,text\r\n" + "".join(f'{i},"{text}"\r\n' for i, text in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    monkeypatch.setattr(delimited, "BLOCK_SIZES", (256, 1 << 20))
    source = TableSource.open(tmp_path, on_bad_line)
    whole = read(source)
    texts = [text.decode() for window in whole.values() for text in window.table["text"].to_pylist()]
    assert texts == [text for _, text in rows]
    for first in range(1, len(whole)):
        again = read(source, {i: whole[i].end for i in range(first)})
        assert [w.table for w in again.values()] == [whole[i].table for i in range(first, len(whole))]


def test_row_groups_that_are_done_are_not_read(tmp_path):
    table = pa.table({"id": list(range(1000)), "text": ["x"] * 1000})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100, compression="none")
    source = TableSource.open(tmp_path / "a.parquet")
    ends = {i: w.end for i, w in read(source, rows=100).items()}
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:1000] = bytes(996)  # destroys the first row groups
    (tmp_path / "a.parquet").write_bytes(content)
    left = read(source, {i: ends[i] for i in range(9)}, rows=100)
    assert left[9].table["id"].to_pylist() == list(range(900, 1000))
