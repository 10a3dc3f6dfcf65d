import bz2
import gzip
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.tables.formats.first_bytes import kind_of, misnamed, wide_text

TEXT = b"id,text\n1,a\n"


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["1"]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", TEXT, None),
        ("a.csv", b"", None),
        ("a.csv", b"ORC,SEQ\n1,2\n", None),
        ("a.csv", b"PAR1,BZh\n1,2\n", None),
        ("a.csv", b"PK\3\4\0\0", "a zip archive"),
        ("a.csv", b"PK\3\4 xl/workbook.xml", "an Excel workbook"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an Excel workbook"),
        ("a.csv", gzip.compress(TEXT, mtime=0), "packed with gzip"),
        ("a.csv", bz2.compress(TEXT), "packed with bz2"),
        ("a.csv", lzma.compress(TEXT), "packed with xz"),
        ("a.csv", parquet(), "a Parquet file"),
        ("a.csv", b"SQLite format 3\0", "an SQLite database"),
        ("a.csv", "id,text".encode("utf-16"), "text in UTF-16"),
        ("a.csv", "id,text".encode("utf-32"), "text in UTF-32"),
        ("a.csv", b"\0\0\xfe\xff" + "id,text".encode("utf-32-be"), "text in UTF-32"),
        ("part-00000", "id,text".encode("utf-16"), "text in UTF-16"),
        ("a.csv", "id,text".encode("utf-16-le"), "text in UTF-16 without a byte order mark"),
        ("a.tsv", "\u00e9d\ttext".encode("utf-16-be"), "text in UTF-16 without a byte order mark"),
        ("a.csv", "id,text".encode("utf-32-le"), "text in UTF-32 without a byte order mark"),
        ("a.csv", "id,text".encode("utf-32-be"), "text in UTF-32 without a byte order mark"),
        ("a.csv", b"id,\0x\n1,\0\n", None),
        ("a.jsonl", '{"id": 1}'.encode("utf-16"), "text in UTF-16"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        ("a.csv", b"\n<!DOCTYPE HTML>", "a web page"),
        ("a.csv", b"<?xml version=", "an XML document"),
        ("a.csv", b'{"id": 1}', "JSON lines"),
        ("a.tsv", b'[{"id": 1}]', "one JSON array"),
        ("a.jsonl", b'{"id": 1}', None),
        ("a.jsonl", b'[{"id": 1}]', None),
        ("a.json", b'{"id": 1}', "JSON lines"),
        ("a.csv.gz", gzip.compress(TEXT, mtime=0), None),
        ("a.csv.gz", gzip.compress(TEXT, mtime=0)[:9], None),
        ("a.csv.gz", TEXT, "not packed with gzip"),
        ("a.csv.gz", bz2.compress(TEXT), "packed with bz2"),
        ("a.csv.br", b"\x8b\x05\x80", None),
        ("a.parquet", parquet(), None),
        ("a.parquet", parquet()[:20], None),
        ("a.parquet", TEXT, "text"),
        ("a.pq", gzip.compress(TEXT, mtime=0), "packed with gzip"),
        ("a.txt", TEXT, "text"),
        ("a.md", TEXT, None),
    ],
)
def test_a_file_whose_content_is_not_what_its_name_says(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    kind = misnamed(tmp_path / name)
    assert (kind and kind.what) == what
    assert kind is None or kind.fix


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_encoding_that_is_advised_reads_the_text(encoding):
    kind = wide_text(TEXT.decode().encode(encoding))
    assert kind.settings == [{"csv_encoding": encoding}]
    assert wide_text(TEXT) is None


def test_a_file_that_is_not_there(tmp_path):
    assert misnamed(tmp_path / "a.csv") is None


def test_text_is_of_no_kind():
    assert kind_of(TEXT) is None
