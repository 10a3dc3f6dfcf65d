"""Files with an escape character, in another encoding, with another delimiter, or without a header."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.errors import DataError
from bsm_core.tables import delimited
from bsm_core.tables.formats import plain_text
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource


def opened(path, content, on_bad_line="fail", **values):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return TableSource.open(path, on_bad_line, Dialect.of({f"csv_{name}": value for name, value in values.items()}))


def cells(source, done=None, rows=2):
    """The rows of each window, decoded."""
    windows = source.windows(["id", "x"], rows=rows, done=done)
    return {w.index: [tuple(c.decode() for c in row.values()) for row in w.table.to_pylist()] for w in windows}


CELL = st.text(st.sampled_from(list('ab\\";\n\r\ufeffé')), max_size=6)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@settings(max_examples=60)
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=8), block=st.integers(1, 40), data=st.data())
def test_what_an_escaping_writer_wrote_is_read_from_any_place(tmp_path_factory, name, rows, block, data):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";", quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\")
    writer.writerows([("id", "x"), *rows])
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
    path = tmp_path_factory.mktemp("data") / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "_BLOCK_BYTES", block)
        patch.setattr(delimited, "BLOCK_SIZES", (32, 1 << 20))
        source = opened(path, text.getvalue().encode(encoding), delimiter=";", escape="\\", encoding=encoding)
        ends = {w.index: w.end for w in source.windows(["id"], rows=2)}
        whole = cells(source)
        done = data.draw(st.sets(st.sampled_from(sorted(ends))))
        again = cells(source, {i: ends[i] for i in done})
    assert [row for window in whole.values() for row in window] == rows
    assert again == {i: window for i, window in whole.items() if i not in done}


def test_an_escape_character_is_ordinary_outside_of_quotes_and_before_other_characters(tmp_path):
    content = b'id,x\nC:\\\\a\\,"C:\\new \\"x\\" ""y"" \\\\"\n'
    assert cells(opened(tmp_path / "a.csv", content, escape="\\")) == {0: [("C:\\\\a\\", 'C:\\new "x" "y" \\')]}


def test_cells_that_seem_to_have_an_escape_character_are_counted_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_SIZES", (40, 1 << 20))
    rows = [b'1,"he \\"said\\" it"', b"2,b", b'3,"C:\\"', b'4,"a\\""b"', b'5,"\\"q"', b'6,5\\" pipe', b'7,"\\"q"']
    source = opened(tmp_path / "a.csv", b"id,x\n" + b"\n".join(rows) + b"\n")
    assert [w.escapes for w in source.windows(["id"], rows=1)] == [1, 0, 0, 0, 1, 0, 1]
    assert [w.escapes for w in source.windows(["x"], rows=3)] == [1, 1, 1]
    assert sum(w.escapes for w in opened(tmp_path / "b.csv", b'id\n"\\"x"\n', escape="\\").windows(["id"])) == 0


@pytest.mark.parametrize("size", [40, 1 << 20])
def test_cells_that_go_on_after_their_quotes_are_counted_by_row(tmp_path, monkeypatch, size):
    monkeypatch.setattr(delimited, "BLOCK_SIZES", (size, 1 << 20))
    rows = [b'1,"a "b" c"', b'2,"a ""b"" c"', b'3,5" pipe', b'4,"a" ', b'5,"a"b"c"d"', b'"6"x,"a "b"']
    rows += [b'7,"\\"q"', b'8,""']
    source = opened(tmp_path / "a.csv", b"id,x\n" + b"\n".join(rows) + b"\n")
    assert cells(source)[0][0] == ("1", 'a b" c"')
    assert [w.loose_quotes for w in source.windows(["id"], rows=1)] == [1, 0, 0, 1, 1, 2, 0, 0]
    assert [w.loose_quotes for w in source.windows(["x"], rows=3)] == [1, 4, 0]
    assert sum(w.escapes for w in source.windows(["x"])) == 1


def test_the_error_of_an_escaped_quote_before_a_comma_names_the_flag(tmp_path):
    source = opened(tmp_path / "a.csv", b'id,x\n1,"he said \\"no, it\\""\n')
    with pytest.raises(DataError, match=r"--csv-escape '\\'"):
        cells(source)


@pytest.mark.parametrize(
    ("row", "escape"), [(b"1,hi\\, there", None), (b'1,"a\\b",c', None), (b'1,"a \\"b\\" c",d', "\\")]
)
def test_the_flag_is_not_named_where_it_cannot_help(tmp_path, row, escape):
    with pytest.raises(DataError, match="expected 2, found 3") as caught:
        cells(opened(tmp_path / "a.csv", b"id,x\n" + row + b"\n", escape=escape))
    assert "--csv-escape" not in str(caught.value)


def test_bytes_that_are_not_text_in_the_encoding_are_named_with_their_line(tmp_path):
    with pytest.raises(DataError, match="not text in the encoding cp1252") as caught:
        cells(opened(tmp_path / "a.csv", b"id,x\n1,\x80\n2,\x81\n", encoding="cp1252"))
    assert caught.value.where.endswith("a.csv, line 3")


@pytest.mark.parametrize("block", [1, 2, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize(
    ("encoding", "wrong"),
    [("ascii", b"\xc3\xa9"), ("cp1252", b"\x81"), ("utf-16-le", b"\x00\xdc"), ("utf-7", b"+2AA-")],
)
def test_lines_of_every_end_are_counted(tmp_path, monkeypatch, block, end, encoding, wrong):
    monkeypatch.setattr(plain_text, "_BLOCK_BYTES", block)
    before = end.join(["id,x", "1,\N{GURMUKHI LETTER UU}" if encoding == "utf-16-le" else "1,a", "2,"])
    content = before.encode(encoding) + wrong + f"{end}3,b{end}".encode(encoding)
    with pytest.raises(DataError, match=r"not text in the encoding") as caught:
        cells(opened(tmp_path / "a.csv", content, encoding=encoding))
    assert caught.value.where.endswith("a.csv, line 3")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "shift_jis"])
def test_a_file_that_ends_within_a_character_may_be_cut_off(tmp_path, encoding):
    content = "id,x\n1,日".encode(encoding)[:-1]
    with pytest.raises(DataError, match=f"the file ends within a character of the encoding {encoding}") as caught:
        cells(opened(tmp_path / "a.csv", content, encoding=encoding))
    assert caught.value.where.endswith("a.csv, line 2")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030", "iso2022_jp"])
def test_encodings(tmp_path, encoding):
    text = "é" if encoding == "cp1252" else "日本"
    source = opened(tmp_path / "a.csv", f"id,x\r\n1,{text}\r\n2,\r\n".encode(encoding), encoding=encoding)
    assert cells(source) == {0: [("1", text), ("2", "")]}


def test_files_without_a_header(tmp_path):
    source = opened(tmp_path / "a.tsv", b"1\x01a\n2\x01b\n3\x01c\n", delimiter="\\x01", header="none", columns="id,x")
    ends = {w.index: w.end for w in source.windows(["id"], rows=2)}
    assert cells(source) == {0: [("1", "a"), ("2", "b")], 1: [("3", "c")]}
    assert cells(source, {0: ends[0]}) == {1: [("3", "c")]}
    with pytest.raises(DataError, match=r"has 2 cell\(s\), and --csv-columns names 3"):
        opened(tmp_path / "b.csv", b"1,2\n", header="none", columns="a,b,c")


def test_bad_lines_are_left_out(tmp_path):
    content = 'id;x\r\né;"a\\"\r\nb"\r\nbad\r\n2;c\r\n'.encode("latin-1")
    source = opened(tmp_path / "a.csv", content, "skip", delimiter=";", escape="\\", encoding="latin-1")
    (window,) = source.windows(["id", "x"])
    assert window.table.to_pylist() == [{"id": "é".encode(), "x": b'a"\r\nb'}, {"id": b"2", "x": b"c"}]
    assert [(at, bad.where[-6:], bad.text) for at, bad in window.bad_lines] == [(1, "line 4", "bad")]
