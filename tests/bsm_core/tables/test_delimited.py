"""CSV and TSV as input: every byte kept, every error with its line."""

import csv
import gzip
import io
import string
import threading
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bsm_core.errors import BSMError, DataError, MissingColumnsError, NoInferenceDataError
from bsm_core.tables import delimited as text
from bsm_core.tables.formats import text_stream
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource


def source(tmp_path: Path, content: bytes, name: str = "data.csv") -> TableSource:
    (tmp_path / name).write_bytes(content)
    return TableSource.open(tmp_path)


def rows(table: TableSource, *columns: str) -> list[tuple]:
    return [tuple(row.values()) for w in table.windows(columns, rows=3) for row in w.table.to_pylist()]


def failure(tmp_path: Path, content: bytes, *columns: str, name: str = "data.csv") -> BSMError:
    with pytest.raises(DataError) as caught:
        rows(source(tmp_path, content, name), *columns)
    assert str(tmp_path / name) in str(caught.value)
    return caught.value


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(text, "BLOCK_SIZES", (64, 1024, 16384))


CELLS = [b"00123", b"NA", b"1e5", b"  x ", b"", b"null", b"\xff\xfe", "é".encode(), b"9007199254740993", b"\x00", b"-"]


@pytest.mark.parametrize(("name", "delimiter"), [("data.csv", b","), ("data.tsv", b"\t")])
def test_cells_are_the_bytes_they_are(tmp_path, name, delimiter):
    content = b"id\n".replace(b"\n", delimiter + b"x\n") + b"".join(cell + delimiter + cell + b"\n" for cell in CELLS)
    assert rows(source(tmp_path, content, name), "id", "x") == [(cell, cell) for cell in CELLS]


@pytest.mark.parametrize(("name", "delimiter"), [("data.csv", ","), ("data.tsv", "\t")])
def test_quotes(tmp_path, name, delimiter):
    content = 'id,"a ""b"",c"\n"x,y","line\nbreak\r\n"\n"say ""hi""",5" pipe\n"",a"b"\n'.replace(",", delimiter)
    expected = [("x,y", "line\nbreak\r\n"), ('say "hi"', '5" pipe'), ("", 'a"b"')]
    expected = [tuple(cell.replace(",", delimiter).encode() for cell in row) for row in expected]
    table = source(tmp_path, content.encode(), name)
    assert table.columns == ("id", f'a "b"{delimiter}c')
    assert rows(table, *table.columns) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"id,x\n1,a\n2,b\n",
        b"id,x\n1,a\n2,b",
        b"id,x\r\n1,a\r\n2,b\r\n",
        b"id,x\r1,a\r2,b",
        b"\xef\xbb\xbfid,x\n1,a\n2,b\n",
        b'\xef\xbb\xbf"id",x\n1,a\n2,b\n',
        b"id,x\n1,a\n2,b\n\n",
        b"\n\nid,x\n\n1,a\r\n\r\n2,b\n\n\n",
        b'id,x\n1,"a"\n2,"b"',
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks(tmp_path, content):
    assert rows(source(tmp_path, content), "id", "x") == [(b"1", b"a"), (b"2", b"b")]


def test_an_empty_cell_of_a_single_column_is_a_row(tmp_path):
    assert rows(source(tmp_path, b'id\n""\nx\n""\n'), "id") == [(b"",), (b"x",), (b"",)]


@pytest.mark.parametrize("content", [b"id,x\n", b"id,x", b"id,x\n\n"])
def test_a_header_alone_is_one_window_without_rows(tmp_path, content):
    (window,) = source(tmp_path, content).windows(["x", "id"])
    assert (window.table.num_rows, window.last, window.fraction) == (0, True, 1.0)
    assert window.table.column_names == ["x", "id"]


def test_junk_in_a_column_not_asked_for_does_no_harm(tmp_path):
    table = source(tmp_path, b'id,junk,junk,x\n1,\xff\xfe\x00,"\n",a\n2,,NaN,b\n')
    assert rows(table, "x", "id") == [(b"a", b"1"), (b"b", b"2")]


def test_a_cell_larger_than_a_block(tmp_path, small_blocks):
    big = [b"a" * 60, b"b\n" * 400, b"c" * 9000]
    content = b"id,x\n" + b"".join(b'%d,"%s"\n%d,s\n' % (i, cell, i) * 5 for i, cell in enumerate(big))
    expected = [(b"%d" % i, value) for i, cell in enumerate(big) for _ in range(5) for value in (cell, b"s")]
    assert rows(source(tmp_path, content), "id", "x") == expected


def test_a_header_larger_than_a_block(tmp_path, small_blocks):
    table = source(tmp_path, b"id," + b"x" * 300 + b"\n1,2\n")
    assert rows(table, "id", "x" * 300) == [(b"1", b"2")]


def test_a_cell_larger_than_the_largest_block_is_an_error_with_its_line(tmp_path, small_blocks):
    limit = csv.field_size_limit()
    error = failure(tmp_path, b'id,x\n1,"a\nb"\n2,' + b"x" * 40000 + b"\n", "id")
    assert "line 4" in error.where
    assert "16,384 bytes" in error.what
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("found", [1, 3])
def test_a_ragged_row_is_named_by_its_line(tmp_path, found):
    bad = b",".join([b"bad\xff", b"2", b"3"][:found])
    error = failure(tmp_path, b'id,x\n1,"a\n\nb"\n\n' + bad + b"\n2,b\n", "id")
    assert error.where.endswith("data.csv, line 6")
    assert error.what == f"wrong number of cells: expected 2, found {found}"
    assert r"bad\xff" in error.details[0]


def test_a_ragged_row_far_down_and_packed(tmp_path):
    content = gzip.compress(b'\xef\xbb\xbf"i,d"\tx\n' + b"1\t2\n" * 300_000 + b"3\n" + b"1\t2\n" * 10)
    error = failure(tmp_path, content, "x", name="data.tsv.gz")
    assert "line 300002" in error.where


@pytest.mark.parametrize("columns", [["id"], ["x"], ["id", "x"]])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'id,x\n1,"a\n2,b\n3,c\n', 2),
        (b'id,x\n1,"a\nb"\n2,"b\n', 4),
        (b'id,x\n"1\n2,b\n3,c\n', 2),
        (b'id,x\n"1\n1","b\n2,c\n', 3),
        (b'id,x\n1,a\n2,"', 3),
        (b'id,x\n1,a\n2,"b""', 3),
    ],
)
def test_an_unclosed_quote_is_never_taken_for_a_cell(tmp_path, content, line, columns):
    error = failure(tmp_path, content, *columns)
    assert error.where.endswith(f"line {line}")
    assert "never closed" in error.what
    assert "bsm-end" not in str(error)


@pytest.mark.parametrize(
    ("rest", "shown"),
    [(b'"2\n', "'1,\"2'"), (b'"2', "'1,\"2'"), (b'"', "'1,\"'"), (b'"\x1b\xff\n2\n', r"""'1,"\x1b\xff'""")],
)
def test_the_line_on_which_a_quote_is_opened_is_shown_as_it_is_in_the_file(tmp_path, rest, shown):
    for before in (b"", b'0,"a\nb"\n'):
        assert failure(tmp_path, b"id,x\n" + before + b"1," + rest, "id").details == (f"the row begins with {shown}",)


def test_a_row_is_shown_with_its_quotes_and_control_characters_escaped(tmp_path):
    error = failure(tmp_path, b'id,x\n4,"quoted "wrong, text" and\n', "id")
    assert error.details == ('the row begins with \'4,"quoted "wrong, text" and\'',)
    (tmp_path / "tabs").mkdir()
    error = failure(tmp_path / "tabs", b'id,x\n4\t"a\tb" c\td,e,f\n', "id")
    assert error.details == (r"""the row begins with '4\t"a\tb" c\td,e,f'""",)


def test_a_row_is_shown_with_its_delimiter(tmp_path):
    assert failure(tmp_path, b"id,x\nonly,two,three\n", "id").details == ("the row begins with 'only,two,three'",)


@pytest.mark.parametrize("header", [b'id,"x\n1,2\n', b'id,"x"y\n1,2\n'])
def test_a_header_with_a_fault_in_its_quotes_says_so(tmp_path, header):
    error = failure(tmp_path, header, "id")
    assert error.what.startswith("the header cannot be read: ")
    assert error.fix.startswith("close every quote in the header")


def test_an_unclosed_quote_before_many_rows(tmp_path, small_blocks):
    error = failure(tmp_path, b"id,x\n" + b"1,2\n" * 100 + b'3,"4\n' + b"1,2\n" * 2000, "id")
    assert "line 102" in error.where
    assert "never closed" in error.what


@pytest.mark.parametrize("columns", [["id"], ["x"], ["id", "x"]])
@pytest.mark.parametrize(("name", "delimiter"), [("data.csv", b","), ("data.tsv", b"\t"), ("data.tsv.gz", b"\t")])
def test_two_lone_quotes_do_not_merge_the_rows_between(tmp_path, name, delimiter, columns):
    content = b'id,x\n0,"two\nlines"\n1,"lone\n2,b\n3,"again\n4,c\n'.replace(b",", delimiter)
    content = gzip.compress(content) if name.endswith("gz") else content
    error = failure(tmp_path, content, *columns, name=name)
    assert error.where.endswith("line 4")
    assert error.what == "a quote is closed in the middle of a cell of a later line: the row would run to line 6"
    assert "lone" in error.details[0]
    assert "double the quotes" in error.fix


def test_two_lone_quotes_in_other_columns_are_named_before_the_number_of_cells(tmp_path):
    error = failure(tmp_path, b'id,x\n"1,a\n2,b\n3,"c\n4,d\n', "id")
    assert error.where.endswith("line 2")
    assert "middle of a cell" in error.what


def test_two_lone_quotes_far_down(tmp_path, small_blocks):
    error = failure(tmp_path, b"id,x\n" + b"1,2\n" * 99 + b'3,"4\n' + b"1,2\n" * 9 + b'3,"4\n' + b"1,2\n" * 99, "id")
    assert error.where.endswith("line 101")
    assert error.what.endswith("line 111")


def test_text_behind_a_quote_on_the_same_line_stays_part_of_its_cell(tmp_path):
    """As it does for other readers: no row is at stake."""
    table = source(tmp_path, b'id\tx\n1\t"great" stuff\n2\t"a" and "b"\n3\t"c"\n', "data.tsv")
    assert rows(table, "id", "x") == [(b"1", b"great stuff"), (b"2", b'a and "b"'), (b"3", b"c")]


PIECES = st.sampled_from(["a", "bc", '"', ",", "\n", '""', "\r\n", " ", "\r", "é"])


def has_merged_rows(content: str) -> bool:
    """Whether a quoted cell with a line break goes on behind its closing quote."""
    state, broken = "start", False
    for character in content:
        if state == "quoted":
            state = "closing" if character == '"' else state
            broken = broken or character in "\r\n"
        elif state == "closing" and character == '"':
            state = "quoted"
        elif character in ",\r\n":
            state = "start"
        elif state == "closing" and broken:
            return True
        elif state == "start" and character == '"':
            state, broken = "quoted", False
        else:
            state = "plain"
    return False


@given(cells=st.lists(PIECES, max_size=25), final=st.sampled_from(["", "\n"]), block=st.sampled_from([16, 64, 1 << 20]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_text_is_read_as_pythons_reader_reads_it(tmp_path, cells, final, block):
    """Or refused, where a row is ragged, a quote not closed (both show in a row put behind it), or rows are merged."""
    content = "id,x\n" + "".join(cells) + final
    *expected, last = filter(None, csv.reader(io.StringIO(content + "\nlast,row\n", newline="")))
    good = last == ["last", "row"] and all(len(row) == 2 for row in expected) and not has_merged_rows(content)
    table = source(tmp_path, content.encode())
    with mock.patch.object(text, "BLOCK_SIZES", (block, 1 << 20)):
        if good:
            assert [[cell.decode() for cell in row] for row in rows(table, "id", "x")] == expected[1:]
        else:
            with pytest.raises(DataError, match=r"wrong number of cells|never closed|middle of a cell"):
                rows(table, "id")


STRINGS = pa.schema([("id", pa.string()), ("x", pa.binary())])


def test_a_cell_that_is_to_be_a_string_and_is_none_is_named_with_its_line_as_it_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,x\n" + b"\xc3\xa9,a\n" * 20)
    (tmp_path / "b.csv").write_bytes(b'x,id\n\xff,good\n"two\nlines",\n\na,bad\xff\nb,bad\xff too\n')
    windows = TableSource.open(tmp_path).typed(STRINGS).windows(["id", "x"], rows=10)
    assert next(windows).table.schema == STRINGS
    with pytest.raises(DataError, match="write csv or tsv") as caught:
        list(windows)
    assert caught.value.where == f"{tmp_path / 'b.csv'}, line 6, column 'id'"
    assert "bad\\xff" in caught.value.what


@pytest.mark.parametrize("block", [16, 1 << 20])
@given(
    cells=st.lists(st.sampled_from([b"", b"a", b"\xc3\xa9", b"\xff", b'"q\n"', b"\xed\xa0\x80", b"\xc3"]), min_size=1)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_strings_are_the_bytes_or_an_error(tmp_path, block, cells):
    table = source(tmp_path, b"id,x\n" + b"".join(cell + b",\xff\n" for cell in cells))
    bad = [cell for cell in cells if cell in (b"\xff", b"\xed\xa0\x80", b"\xc3")]
    with mock.patch.object(text, "BLOCK_SIZES", (block, 1 << 20)):
        expected = rows(table, "id", "x")
        if bad:
            with pytest.raises(DataError, match="is not UTF-8") as caught:
                rows(table.typed(STRINGS), "id", "x")
            assert repr(bad[0]) in caught.value.what
        else:
            assert [(i.encode(), x) for i, x in rows(table.typed(STRINGS), "id", "x")] == expected


def test_what_only_arrow_objects_to_is_said_in_its_words(tmp_path):
    table = source(tmp_path, b"id,x\n1,2\n")
    with (
        mock.patch.object(text, "_parse", side_effect=pa.ArrowInvalid("out of sync")),
        pytest.raises(DataError, match="cannot be read: out of sync"),
    ):
        rows(table, "id")


def test_a_wanted_column_that_is_there_twice(tmp_path):
    table = source(tmp_path, b"id,x,x\n1,2,3\n")
    assert rows(table, "id") == [(b"1",)]
    for read in (table.windows, table.schema, lambda names: table.require(dict.fromkeys(names, "id_name"))):
        with pytest.raises(DataError, match="more than once: 'x'"):
            read(["id", "x"])


def test_another_delimiter_shows_in_the_columns_found(tmp_path):
    with pytest.raises(MissingColumnsError, match="'id;x'"):
        source(tmp_path, b"id;x\n1;2\n").require({"id": "ID_FIELD"})


@pytest.mark.parametrize("damage", [lambda b: b"no gzip", lambda b: b[: len(b) // 2], lambda b: b[:-4]])
def test_a_damaged_archive(tmp_path, damage):
    content = gzip.compress(b"id,x\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(30_000)))
    error = failure(tmp_path, damage(content), "id", name="data.csv.gz")
    assert "cannot be read" in error.what


def test_an_archive_of_several_members(tmp_path):
    content = gzip.compress(b"id\n1\n") + gzip.compress(b"2\n")
    assert rows(source(tmp_path, content, "data.csv.gz"), "id") == [(b"1",), (b"2",)]


def test_an_archive_of_nothing_is_an_empty_file(tmp_path):
    with pytest.raises(NoInferenceDataError, match="empty"):
        source(tmp_path, gzip.compress(b""), "a.csv.gz")
    assert source(tmp_path, b"id\n1\n", "b.csv").files == (tmp_path / "b.csv",)


def test_reading_may_be_given_up_half_way(tmp_path):
    windows = source(tmp_path, b"id\n" + b"12345\n" * 1_000_000).windows(["id"])
    assert next(windows).table.num_rows == 4096
    windows.close()
    (tmp_path / "data.csv").unlink()


@pytest.mark.parametrize("on_bad_line", ["fail", "skip"])
def test_a_row_that_no_block_holds_is_not_advised_to_be_left_out(tmp_path, monkeypatch, on_bad_line):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1," + "x" * 9000 + "\n")
    monkeypatch.setattr(text, "BLOCK_SIZES", (1024, 2048))
    with pytest.raises(DataError, match=r"a row is longer than 2,048 bytes") as caught:
        list(TableSource.open(tmp_path / "t.csv", on_bad_line).windows(["a"]))
    assert "--on-bad-line" not in str(caught.value)
    assert "close the quote, or remove the row" in str(caught.value)


def test_a_row_that_no_block_holds_is_named_and_not_a_line_that_was_left_out(tmp_path, monkeypatch):
    cell = '"' + "line\n" * 300 + '"'
    (tmp_path / "t.csv").write_text(f"a,b,c,d\n1,2,3,4\n1,2,3\n{cell},{cell},{cell},{cell}\n")
    monkeypatch.setattr(text, "BLOCK_SIZES", (1024, 2048))
    with pytest.raises(DataError, match=r"a row is longer than 2,048 bytes; .*t.csv, line 4\)"):
        list(TableSource.open(tmp_path / "t.csv", "skip").windows(["a"]))


def test_a_file_is_closed_after_the_read_that_another_thread_is_in(tmp_path, monkeypatch):
    """Or the read takes bytes of the next file that is opened, which has the same descriptor."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    reads, goes_on, order = threading.Event(), threading.Event(), []

    class SlowFile(io.BytesIO):
        def read(self, size):
            reads.set()
            assert goes_on.wait(60)
            order.append("read")
            return b""

        def close(self):
            order.append("closed")

    monkeypatch.setattr(text_stream.pa, "OSFile", lambda path: SlowFile())
    stream = text_stream.TextStream(tmp_path / "a.csv", Dialect())
    reader, closer = threading.Thread(target=stream.read, args=[1]), threading.Thread(target=stream.close)
    reader.start()
    assert reads.wait(60)
    closer.start()
    closer.join(0.05)
    goes_on.set()
    reader.join()
    closer.join()
    assert order == ["read", "closed"]
    assert stream.closed


DELIMITERS = [*string.punctuation.replace('"', ""), *"\t \x01", *string.ascii_letters, *string.digits]


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_every_delimiter_gives_the_rows_that_the_csv_module_reads(tmp_path, delimiter):
    cells = [
        ["x", "y"],
        ["^]", 'q"'],
        ["[\\-\n", "&~"],
        ["", delimiter],
        [f"a{delimiter}\r\nb", "bsm-end-of-table"],
        *[["1", "2"]] * 3,
    ]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(cells)
    content = file.getvalue() + f'é"é{delimiter}"w"\n'  # a quote in the middle of a cell: ends are searched one by one
    assert list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)) == [*cells, ['é"é', "w"]]
    (tmp_path / "data.csv").write_bytes(content.encode())
    table = TableSource.open(tmp_path, dialect=Dialect.of({"csv_delimiter": delimiter}))
    expected = [tuple(cell.encode() for cell in row) for row in [*cells[1:], ['é"é', "w"]]]
    assert rows(table, "x", "y") == expected
    for done, window in enumerate(table.windows(["x"], rows=1), start=1):
        assert window.last or content.encode()[: window.end.offset].count(b"\n") == [2, 4, 5, 7, 8, 9, 10][done - 1]
        rest = table.windows(["x", "y"], rows=9, done={0: window.end}) if not window.last else ()
        assert [tuple(row.values()) for w in rest for row in w.table.to_pylist()] == expected[done:]


@pytest.mark.parametrize("delimiter", [mark for mark in DELIMITERS if mark not in string.ascii_letters])
def test_every_delimiter_has_stray_quotes_found(tmp_path, delimiter):
    content = 'x,y,z\n1,"2,3\n4,5,6" 7,8\n9,9,9\n'.replace(",", delimiter)
    if delimiter != " ":  # before which the cell ends
        (tmp_path / "data.csv").write_bytes(content.encode())
        with pytest.raises(DataError, match="a quote is closed in the middle of a cell"):
            rows(TableSource.open(tmp_path, dialect=Dialect(delimiter=delimiter)), "x")
    (tmp_path / "data.csv").write_bytes(content.partition('"')[0].encode() + b'"2\n')
    with pytest.raises(DataError, match="a quote is opened and never closed"):
        rows(TableSource.open(tmp_path, dialect=Dialect(delimiter=delimiter)), "x")
