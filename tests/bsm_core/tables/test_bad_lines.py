"""Lines that cannot be read as rows, left out of a table: all other rows come, and each line is reported once."""

from __future__ import annotations

import gzip
import subprocess
import sys
from contextlib import closing
from itertools import chain, islice, repeat

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.errors import DataError
from bsm_core.tables import delimited
from bsm_core.tables.read import TableSource


def read(path, rows=4096, columns=("id", "x"), done=None, types=None):
    """The ids by window, and the bad lines by window: rows before the line, its line number, reason and text."""
    source = TableSource.open(path, "skip")
    source = source.typed(types) if types is not None else source
    windows = list(source.windows(list(columns), rows=rows, done=done))
    lines = [
        [(at, int(bad.where.rpartition(" ")[2]), bad.reason, bad.text) for at, bad in w.bad_lines] for w in windows
    ]
    return [w.table.column("id").to_pylist() for w in windows], lines, windows


def write(path, *lines):
    path.write_bytes(b"\n".join([b"id,x", *lines]) + b"\n")
    return path


NARROW, WIDE = "wrong number of cells: expected 2, found 1", "wrong number of cells: expected 2, found 3"
OPEN, MERGED = "a quote is opened and never closed", "a quote is closed in the middle of a cell of a later line"
CASES = {
    "too few cells": ([b"1,a", b"2", b"3,c"], [b"1", b"3"], [(1, 3, NARROW, "2")]),
    "too many cells": ([b"1,a", b"2,b,c", b"3,c"], [b"1", b"3"], [(1, 3, WIDE, "2,b,c")]),
    "the first and the last": ([b"1", b"2,b", b"3"], [b"2"], [(0, 2, NARROW, "1"), (1, 4, NARROW, "3")]),
    "all lines": ([b"1", b"2"], [], [(0, 2, NARROW, "1"), (0, 3, NARROW, "2")]),
    "an open quote": ([b"1,a", b'2,"b', b"3,c"], [b"1", b"3"], [(1, 3, OPEN, '2,"b')]),
    "a stray quote": (
        [b"1,a", b'2,"b', b"3,c", b'4,"d" e', b"5,f"],
        [b"1", b"3", b"4", b"5"],
        [(1, 3, MERGED, '2,"b')],
    ),
    "after a cell of two lines": ([b'1,"a\nb"', b"2", b"3,c"], [b"1", b"3"], [(1, 4, NARROW, "2")]),
    "bytes": ([b"1,a", b"\xff", b"3,\xe9"], [b"1", b"3"], [(1, 3, NARROW, r"\xff")]),
    "a line of two": ([b"1,a", b'2,"b\nc",d', b"3,c"], [b"1", b"3"], [(1, 3, WIDE, '2,"b\nc",d')]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_each_kind_of_bad_line(tmp_path, case, name):
    lines, ids, bad = CASES[case]
    path = write(tmp_path / "t", *lines)
    path = path.rename(tmp_path / name)
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError):
        list(TableSource.open(path).windows(["id", "x"]))
    got, found, _ = read(path)
    assert got == [ids]
    assert found == [bad]


def test_an_id_that_parquet_cannot_hold(tmp_path):
    path = write(tmp_path / "t.csv", b"1,a", b"\xff,b", b"3,\xff")
    got, found, _ = read(path, types=pa.schema([("id", pa.string())]))
    assert got == [["1", "3"]]
    assert found == [[(1, 3, "bytes that are not UTF-8: column 'id'", r"\xff,b")]]


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 6), st.booleans())
def test_windows_read_again_from_any_place_have_the_same_rows_and_lines(tmp_path_factory, good, rows, first, small):
    path = tmp_path_factory.mktemp("data") / "t.csv"
    write(path, *(b"%d,v" % i if ok else b"bad %d" % i for i, ok in enumerate(good)))
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(delimited, "BLOCK_SIZES", (16, 1 << 20))
        got, found, windows = read(path, rows)
        ids = [b"%d" % i for i, ok in enumerate(good) if ok]
        assert [i for window in got for i in window] == ids
        assert [line[3] for lines in found for line in lines] == [f"bad {i}" for i, ok in enumerate(good) if not ok]
        assert [line[1] for lines in found for line in lines] == [i + 2 for i, ok in enumerate(good) if not ok]
        done = {w.index: w.end for w in windows[:first]}
        again, lines_again, _ = read(path, rows, done=done)
        assert (again, lines_again) == (got[first:], found[first:])


def test_lines_of_several_files(tmp_path):
    write(tmp_path / "a.csv", b"1,a", b"bad", b"2,b", b"end of a")
    write(tmp_path / "b.csv", b"begin of b", b"3,c")
    got, found, windows = read(tmp_path, rows=2)
    assert got == [[b"1", b"2"], [b"3"]]
    assert [[line[3] for line in lines] for lines in found] == [["bad"], ["end of a", "begin of b"]]
    assert "b.csv, line 2" in windows[1].bad_lines[1][1].where
    again, lines_again, _ = read(tmp_path, rows=2, done={0: windows[0].end})
    assert (again, lines_again) == (got[1:], found[1:])


def test_long_tables_with_many_bad_lines(tmp_path):
    lines = [b"bad" if i % 97 == 0 else b"%07d,%s" % (i, b"x" * (i % 50)) for i in range(100_000)]
    got, found, _ = read(write(tmp_path / "t.csv", *lines))
    assert sum(map(len, got)) == sum(line != b"bad" for line in lines)
    assert sum(map(len, found)) == sum(line == b"bad" for line in lines)


MANY_ERRORS = """
import sys
from contextlib import closing
from itertools import chain, islice, repeat
from pathlib import Path
import pyarrow
from bsm_core.tables import delimited
from bsm_core.tables.read import TableSource
pyarrow.set_io_thread_count(1)
delimited.BLOCK_SIZES = (64, 1 << 20)
for _ in range(3):
    windows = TableSource.open(Path(sys.argv[1]), "skip").windows(["id", "x"], rows=10)
    assert sum(len(window.table) for window in windows) == 60
"""


def test_errors_while_arrow_reads_do_not_take_its_threads_away(tmp_path):
    """Arrow has one thread here, and hung after one error."""
    rows = [b"%d,abc" % i for i in range(60)]
    path = write(tmp_path / "t.csv", *rows[:30], b'1,"2', b'3,"4" 5', *rows[30:-1])
    subprocess.run([sys.executable, "-c", MANY_ERRORS, path], check=True, timeout=60)


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("header", [MARK + b"id,x", MARK + b'"id",x', MARK + b"\n\nid,x"])
def test_byte_order_marks_at_the_beginning_of_the_file_and_of_a_row(tmp_path, header, end, name):
    """The first is not a part of any cell, others are."""
    lines = [header, b"1,alpha", MARK + b"2,beta", b"3,x,many", b"4,gamma", MARK + b"5,delta", MARK + b"6"]
    content = b"\n".join(lines).replace(b"\n", end) + end
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    line = 4 + header.count(b"\n")
    got, found, windows = read(path, rows=1)
    assert got == [[b"1"], [MARK + b"2"], [b"4"], [MARK + b"5"]]
    assert found == [[], [], [(0, line, WIDE, "3,x,many")], [(1, line + 3, NARROW, "\ufeff6")]]
    for done in range(1, 4):
        again, lines_again, _ = read(path, rows=1, done={w.index: w.end for w in windows[:done]})
        assert (again, lines_again) == (got[done:], found[done:])


def test_a_reader_that_is_closed_does_not_wait_for_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_SIZES", (64, 128))
    path = write(tmp_path / "t.csv", *[b"1,a"] * 20, b"2", *[b"3,c"] * 200, b"4", *[b"5,e"] * 100)
    source, of_file = TableSource.open(path, "skip"), delimited._lines
    # After the second bad line, the search for a third one never ends. It is in another thread than the test by then.
    monkeypatch.setattr(delimited, "_lines", lambda *place: chain(islice(of_file(*place), 300), repeat("5,e\n")))
    with closing(source.windows(["id"], rows=10)) as windows:
        assert [window.table.num_rows for window in islice(windows, 7)] == [10] * 7
