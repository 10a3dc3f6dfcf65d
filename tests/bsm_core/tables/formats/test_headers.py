"""Headers of CSV and TSV, and files that have none because they are something else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError
from bsm_core.tables.formats import headers
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource


def source(tmp_path: Path, content: bytes, name: str = "data.csv") -> TableSource:
    (tmp_path / name).write_bytes(content)
    return TableSource.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"id,\xff\n1,2\n", "not UTF-8"),
        (b'id,"x\n1,2\n', "unexpected end"),
    ],
)
def test_a_header_that_cannot_be_read(tmp_path, content, reason):
    with pytest.raises(DataError, match=reason) as caught:
        source(tmp_path, content)
    assert "data.csv, line 1" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("id,x\n1,2\n".encode("utf-16"), "text in UTF-16"),
        ("id,x\n1,2\n".encode("utf-32"), "text in UTF-32"),
        ("id,x\n1,2\n".encode("utf-16-le"), "text in UTF-16 without a byte order mark"),
        (b"PK\x03\x04\x14\0,", "a zip archive"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"<!DOCTYPE html>\n", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b'{"id": 1}\n', "JSON lines"),
    ],
)
def test_a_file_that_is_no_csv_is_named_for_what_it_is(tmp_path, content, what):
    with pytest.raises(DataError, match=f"the file is {what}"):
        source(tmp_path, content)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("first", ["sep=;\r\n", "SEP=;\n", '"sep=;"\n', "sep=;\r"])
def test_the_line_of_excel_that_says_the_delimiter(tmp_path, mark, first):
    table = source(tmp_path, mark + first.encode() + b"id;x\n1;a,b\n2;c\n3\n")
    assert table.columns == ("id", "x")
    with pytest.raises(DataError, match=r"data\.csv, line 5"):
        list(table.windows(["id"]))
    (tmp_path / "more.csv").write_bytes(b"sep=,\nid,x\n1,2\n")
    with pytest.raises(DataError, match="the first line says that ',' separates the cells, and not ';'"):
        TableSource.open(tmp_path)


def test_advice_about_a_line_that_contradicts_the_delimiter_is_not_to_give_the_same_again(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"sep=;\nid;x\n1;2\n")
    with pytest.raises(DataError, match=r"remove the line, or .*, or give --csv-delimiter ';'"):
        TableSource.open(tmp_path, dialect=Dialect(delimiter=","))
    (tmp_path / "b.csv").write_bytes(b"id;x\n1;2\n")
    assert TableSource.open(tmp_path, dialect=Dialect(delimiter=";")).columns == ("id", "x")


def test_the_line_of_powershell_is_no_header(tmp_path):
    table = source(tmp_path, b"#TYPE Selected.System.IO.DirectoryInfo\r\nid,x\r\n1,2\r\n")
    assert table.columns == ("id", "x")
    [window] = table.windows(["id"])
    assert window.table.column("id").to_pylist() == [b"1"]


@pytest.mark.parametrize("header", ["#TYPE,x", "#TYPE code,x", "sep=;,x", "separator,x", "sep=,;,x"])
def test_a_header_that_resembles_these_lines(tmp_path, header):
    assert source(tmp_path, f"{header}\n1,2\n".encode()).columns[-1] == "x"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"id" + b"," * 200_000 + b"\n", "the header has 200,001 columns; at most 100,000 are read"),
        (b"x" * (17 << 20), "no header in the first 16,777,216 characters"),
        (b"\n" * (17 << 20) + b"id\n1\n", "no header in the first 16,777,216 characters"),
    ],
    ids=["columns", "a long line", "blank lines"],
)
def test_a_header_without_bounds_is_refused(tmp_path, content, problem):
    with pytest.raises(DataError, match=problem):
        source(tmp_path, gzip.compress(content, 1), "data.csv.gz")


def test_an_error_without_text_is_named_by_its_class(tmp_path):
    with pytest.raises(DataError, match="cannot be read: TimeoutError"), headers.reading(tmp_path / "t.csv"):
        raise TimeoutError


@pytest.mark.parametrize("first", ["id,x", '"id", x', "\n\nid,x"])
def test_names_for_a_file_that_has_a_header_are_an_error(tmp_path, first):
    (tmp_path / "a.csv").write_text("1,2\n")
    (tmp_path / "b.csv").write_text(f"{first}\n1,2\n")
    dialect = Dialect.of({"csv_header": "none", "csv_columns": "id,x"}, {"csv_columns": "config.csv_columns"})
    with pytest.raises(DataError, match=r"leave out --csv-header and config\.csv_columns") as caught:
        TableSource.open(tmp_path, dialect=dialect)
    assert caught.value.where == f"{tmp_path / 'b.csv'}, line 1"
    assert TableSource.open(tmp_path / "a.csv", dialect=dialect).columns == ("id", "x")


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ("sep=;\nid;x\n1;2\n", "id,x\n1,2\n", "b.csv seem to be separated by ','"),
        ("id;x\n1;2\n", "id,x\n1,2\n", "a.csv seem to be separated by ';'"),
        ("id|x\n1|2\n", "id\tx\n1\t2\n", "a.csv seem to be separated by '|' and .*b.csv seem to be separated by a tab"),
    ],
)
def test_files_with_different_delimiters(tmp_path, one, other, named):
    (tmp_path / "a.csv").write_text(one)
    (tmp_path / "b.csv").write_text(other)
    with pytest.raises(DataError, match=named) as caught:
        TableSource.open(tmp_path)
    assert "--csv-header" not in str(caught.value)


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data.jsonl", "data.parquet"])
def test_a_file_that_may_not_be_read_is_not_said_to_be_damaged(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"id\n1\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Failed to open local file", str(tmp_path / name))

    for opener in ("input_stream", "OSFile", "memory_map", "PythonFile"):
        monkeypatch.setattr(pa, opener, refuse)
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied") as caught:
        TableSource.open(tmp_path / name)
    assert "chmod" in caught.value.fix
