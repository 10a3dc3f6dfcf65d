from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bsm_core.tables.formats import row_ends
from bsm_core.tables.formats.row_ends import RowEnds

CHARACTERS = st.sampled_from(list('ab",\n\r é'))


def scanned(content: bytes, size: int, offset: int = 0) -> RowEnds:
    ends = RowEnds(",", offset, header=not offset)
    content += b"\n"
    for start in range(offset, len(content), size):
        ends.feed(content[start : start + size])
    return ends


def pyarrow_rows(content: bytes, names: list[str] | None = None) -> list[dict[str, bytes]]:
    options = pacsv.ReadOptions(column_names=names, use_threads=False)
    parse = pacsv.ParseOptions(newlines_in_values=True)
    convert = pacsv.ConvertOptions(column_types={"x": pa.binary(), "y": pa.binary()})
    return pacsv.read_csv(io.BytesIO(content), options, parse, convert).to_pylist()


def test_rows_are_taken_while_another_thread_scans():
    ends, rows = RowEnds(",", header=False), 20_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        scan = threading.Thread(target=lambda: [ends.feed(b"1\n") for _ in range(rows + 1)])
        scan.start()
        while scan.is_alive():
            ends.take(0)
    finally:
        sys.setswitchinterval(before)
    assert ends.take(rows).tolist() == list(range(2, 2 * rows + 1, 2))


@st.composite
def files(draw):
    cell = st.text(CHARACTERS, max_size=6)
    plain = cell.map(lambda text: text.replace(",", "").replace("\n", "").replace("\r", "").lstrip('"'))
    quoted = cell.map(lambda text: '"' + text.replace('"', '""') + '"')
    rows = draw(st.lists(st.tuples(plain | quoted, plain | quoted), max_size=8))
    breaks = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n"])
    lines = [draw(st.sampled_from(["x,y", '"x","y"'])), *(",".join(row) for row in rows)]
    lines[-1] += "" if rows else "\n"  # pyarrow wants a line break after the header
    text = "".join(line + draw(breaks) for line in lines)
    return (text if draw(st.booleans()) or not rows else text.rstrip("\r\n")).encode()


@given(files(), st.integers(3, 40))
@example(b'x,y\n"a\n","b"\n', 3)
def test_reading_from_the_end_of_a_row_gives_the_rows_after_it(content, size):
    rows = pyarrow_rows(content)
    ends = scanned(content, size).take(len(rows)).tolist()
    assert -1 not in ends
    for done, end in enumerate(ends, start=1):
        rest = content[end:]
        assert (pyarrow_rows(rest, ["x", "y"]) if rest.strip(b"\r\n") else []) == rows[done:]


@given(files(), st.integers(3, 40), st.data())
def test_a_scan_that_begins_at_a_row_finds_the_same_ends(content, size, data):
    count = len(pyarrow_rows(content))
    ends = scanned(content, 1 << 20).take(count).tolist()
    first = data.draw(st.integers(1, count)) if count else 0
    if first:
        assert scanned(content, size, offset=ends[first - 1]).take(count - first).tolist() == ends[first:]


@pytest.mark.parametrize("line", ['5" disk,a', 'a"b,"c\n""d"', 'a",b"', '"a"b"c,d'])
def test_quotes_in_the_middle_of_a_cell(line):
    content = f"x,y\n{line}\n1,2\n".encode()
    assert scanned(content, 1 << 20).take(2).tolist() == [len(content) - 4, len(content)]


def test_rows_whose_ends_were_not_found_and_all_after_them_have_no_position():
    ends = scanned(b"x,y\n1,2\n", 8)
    assert ends.take(2).tolist() == [-1, -1]
    ends.feed(b"3,4\n5,6\n")
    assert ends.take(1).tolist() == [-1]


def one_by_one(content: bytes, delimiter: str) -> tuple[list[int], list[int], list[int]]:
    """Positions after line breaks outside of quotes, and of quotes that end early: after a backslash, and others."""
    ends, escapes, loose, state = list[int](), list[int](), list[int](), "begins"
    for at, character in enumerate(content.decode("latin-1")):
        if state == "quoted":
            state = "closed" if character == '"' else state
        elif character == '"' and state in ("begins", "closed"):
            state = "quoted"
        elif character in f"{delimiter}\r\n":
            state = "begins"
            if character == "\n" or (character == "\r" and content[at + 1 : at + 2] != b"\n"):
                ends.append(at + 1)
        else:
            if state == "closed":
                (escapes if content[at - 2 : at - 1] == b"\\" else loose).append(at - 1)
            state = "cell"
    return ends, escapes, loose


@pytest.mark.parametrize("near", [1, 2, 64])
@settings(max_examples=300)
@given(
    content=st.text(st.sampled_from(list('a\\", \n\r')), max_size=60),
    delimiter=st.sampled_from([",", " ", ";"]),
    size=st.integers(1, 60),
)
def test_any_bytes_are_scanned_as_one_by_one(near, content, delimiter, size):
    content = content.encode() + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_ends, "_NEAR", near)
        found = RowEnds(delimiter, header=False, odd=True)
        for start in range(0, len(content), size):
            found.feed(content[start : start + size])
    ends, *odd = one_by_one(content, delimiter)
    rows = [end for end, before in zip(ends, [0, *ends], strict=False) if content[before:end].strip(b"\r\n")]
    assert found.found().tolist() == rows
    for places, expected in zip((found.escapes, found.loose), odd, strict=True):
        counts = np.bincount(np.searchsorted(rows, expected, side="right"), minlength=len(rows))
        assert places.take(np.array(rows, np.int64)).tolist() == counts.tolist()[: len(rows)]


@pytest.mark.parametrize("row", [b'1,"a, b"\n', b"1,a\n", b'1,a,"b\n""c"""\n'])
def test_a_quote_in_the_middle_of_a_cell_costs_only_what_is_near_it(monkeypatch, row):
    seen, one_by_one = list[int](), RowEnds._one_by_one

    def counted(self, data, quotes, begin, found):
        number, quoted = one_by_one(self, data, quotes, begin, found)
        seen.append(number - begin)
        return number, quoted

    monkeypatch.setattr(RowEnds, "_one_by_one", counted)
    many = row * 5_000
    ends = RowEnds(",", header=False)
    ends.feed(many + b'1,a 5" pipe\n' + many + b"1\n")
    assert len(ends.found()) == 10_002
    assert len(seen) == 1
    assert seen[0] <= 2 * row_ends._NEAR


def test_quotes_that_end_early_are_kept_only_where_they_are_asked_for():
    ends = RowEnds(",", header=False)
    ends.feed(b'1,"a\\"b"\n2,"a"b\n' * 3)
    rows = ends.found()
    assert len(rows) == 6
    assert not any(places.take(rows).any() for places in (ends.escapes, ends.loose))
