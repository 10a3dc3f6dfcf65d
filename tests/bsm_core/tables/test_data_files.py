import gzip
import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core.errors import DataError, MixedFormatsError, NoInferenceDataError
from bsm_core.tables.data_files import detect_format, discover, source_format, warn_of_passed_over
from bsm_core.tables.read import TableSource


def put(folder: Path, *names: str, content: str = "id\n1\n") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def found(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in discover(folder)[1]]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "tsv"),
        ("a.b.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("a.PARQ", "parquet"),
        ("a.snappy.parquet", "parquet"),
        ("a.csv.gz", "csv"),
        ("a.tsv.zst", "tsv"),
        ("A.CSV.BZ2", "csv"),
        ("a.csv.lz4", "csv"),
        ("a.tsv.br", "tsv"),
    ],
)
def test_the_extension_tells_the_format(name, format):
    assert detect_format(name) == format


@pytest.mark.parametrize("name", ["a", "a.json", "csv", "a.gz", "a.json.gz", "a.parquet.gz", "a.csv.zip", ".csv"])
def test_other_extensions_are_refused(name):
    with pytest.raises(DataError, match=r"\.csv, \.tsv"):
        detect_format(name)


def test_files_come_in_path_order_out_of_all_folders(tmp_path):
    put(tmp_path, "b.csv", "a/2.csv", "a/10.csv", "a-b/1.csv.gz", "c/d/e.csv", "notes.txt")
    assert found(tmp_path) == ["a/10.csv", "a/2.csv", "a-b/1.csv.gz", "b.csv", "c/d/e.csv"]


def test_markers_and_empty_files_are_passed_over(tmp_path):
    put(tmp_path, "a.csv", "_SUCCESS", "_old.csv", ".a.csv.swp", "._a.tsv", "_other/0/a.parquet", ".git/x.tsv")
    put(tmp_path, "empty.csv", "empty.parquet", content="")
    assert found(tmp_path) == ["a.csv"]


def test_a_file_named_outright_is_taken_whatever_its_name(tmp_path):
    put(tmp_path, "_a.csv", "b.csv")
    assert discover(tmp_path / "_a.csv") == ("csv", (tmp_path / "_a.csv",))


def test_linked_folders_are_read_once(tmp_path):
    put(tmp_path, "elsewhere/a.csv", "data/b.csv")
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    assert found(tmp_path / "data") == ["b.csv", "link/a.csv"]


def test_two_formats_are_listed_with_their_files(tmp_path):
    put(tmp_path, "a.csv", "x/b.csv.gz", "c.tsv")
    with pytest.raises(MixedFormatsError) as caught:
        discover(tmp_path)
    assert caught.value.details == (f"csv: {tmp_path}/a.csv, {tmp_path}/x/b.csv.gz", f"tsv: {tmp_path}/c.tsv")


def test_a_folder_without_data_names_the_extensions_and_what_is_there(tmp_path):
    put(tmp_path, "a.json")
    with pytest.raises(NoInferenceDataError) as caught:
        discover(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert ".parquet" in str(caught.value)
    assert "a.json" in str(caught.value)


def test_a_folder_of_empty_files_says_so(tmp_path):
    put(tmp_path, "a.csv", "b.parquet", content="")
    with pytest.raises(NoInferenceDataError, match="every data file is empty") as caught:
        discover(tmp_path)
    assert "a.csv" in str(caught.value)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(NoInferenceDataError, match="no such file or folder"):
        discover(tmp_path / "nowhere")


def test_a_name_that_is_not_utf8(tmp_path):
    put(tmp_path, os.fsdecode(b"\xff.csv"))
    with pytest.raises(DataError, match="rename the file") as caught:
        discover(tmp_path)
    caught.value.one_line().encode()


@pytest.mark.parametrize("name", ["b.csv.xz", "b.parquet.gz", "b.tsv.zip", "b.CSV.snappy", "b.csv.zstd", "b.csv.tar"])
def test_a_data_file_packed_in_an_unread_way_is_not_passed_over(tmp_path, name):
    put(tmp_path, "a.csv", name)
    with pytest.raises(DataError, match="unpack it"):
        discover(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("part-00001.snappy", "part-00001.deflate", "part-00001-1f-c000.json.snappy", "part-00001-1f-c000.txt.lzo"),
        *("000000_0.snappy", "000000_0_copy_1.deflate"),
    ],
)
def test_a_part_packed_in_an_unread_way_is_not_passed_over(tmp_path, name):
    put(tmp_path, "part-00000", name)
    with pytest.raises(DataError, match="unpack it") as caught:
        discover(tmp_path)
    assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize("name", ["x/b.csv.bak", "b.gz", "b.json.gz", "b.txt", "part-00000.orc"])
def test_what_may_hold_rows_and_is_passed_over_is_named(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    put(tmp_path, "a.csv", name)
    warn_of_passed_over(tmp_path, discover(tmp_path)[1])
    assert caplog.messages[0].startswith(
        f"files that are not data files were ignored: {tmp_path / name}; the extensions are .csv, "
    )


def test_what_holds_no_rows_is_passed_over_without_a_word(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    put(tmp_path, "a.csv", "b.csv.gz", "_SUCCESS", ".b.json", "_c/d.json")
    put(tmp_path, "empty.json", content="")
    (tmp_path / "link.json").symlink_to(tmp_path / "nowhere")
    warn_of_passed_over(tmp_path, discover(tmp_path)[1])
    put(tmp_path, "notes.txt")
    warn_of_passed_over(tmp_path / "a.csv", [tmp_path / "a.csv"])
    assert not caplog.messages


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    put(tmp_path, "a.csv", "secret/b.csv")

    def walk(folder, followlinks, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "secret")))
        yield from ()

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match="Permission denied") as caught:
        discover(tmp_path)
    assert "secret" in str(caught.value)


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["1"]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("part-00000", b"id,x\n1,2\n", "csv"),
        ("part-r-00000", b"id\tx\n1\t2,3\n", "tsv"),
        ("part-00000-1f2e-c000", b'\xef\xbb\xbf {"id": 1}\n', "jsonl"),
        ("part-00000-1f2e-c000", parquet(), "parquet"),
        ("part-00000.gz", gzip.compress(b"id\tx\n1\t2\n", mtime=0), "tsv"),
        ("part-00000-1f2e-c000.json", b'{"id": 1}\n', "jsonl"),
        ("000000_0", b"id\x01x\n1\x012\n", "csv"),
        ("000000_0_copy_1", b"id,x\n1,2\n", "csv"),
        ("reviews-000000000001", b"id,x\n1,2\n", "csv"),
        ("export000.gz", gzip.compress(b"id,x\n1,2\n", mtime=0), "csv"),
        ("reviews_0003_part_00", b"id,x\n1,2\n", "csv"),
        ("20240515_123456_00012_abcde_0d1f4c2e-7f2a-4a4b-9c55-0f4c1b6d2e11", b'{"id": 1}\n', "jsonl"),
        ("orders", parquet(), "parquet"),
        ("part-00000", b"SEQ,ORC\n1,2\n", "csv"),
        ("000000_0_copy_12.gz", gzip.compress(b"id,x\n1,2\n", mtime=0), "csv"),
        ("a.parquet.gzip", parquet(), "parquet"),
        ("a.parquet.gz", parquet(), "parquet"),
        ("a.parq.snappy", parquet(), "parquet"),
        ("a.pq", parquet(), "parquet"),
        ("a.ndjson.gz", gzip.compress(b'{"id": 1}\n', mtime=0), "jsonl"),
    ],
)
def test_names_that_other_programs_give(tmp_path, name, content, format):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / f".{name}.crc").write_bytes(b"crc")
    assert source_format(tmp_path / name) == format
    source = TableSource.open(tmp_path)
    assert (source.format, source.files) == (format, (tmp_path / name,))
    assert len(next(source.windows(source.columns)).table) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"ORC\n\x03\0", "an ORC file"),
        (b"Obj\x01\x04\0", "an Avro file"),
        (b"\0\1\2", "no text"),
        (b"SEQ\6\0", "a Hadoop"),
        (b"PK\3\4\0", "a zip archive"),
    ],
)
def test_parts_of_other_formats_are_named(tmp_path, content, what):
    (tmp_path / "part-00000").write_bytes(content)
    with pytest.raises(DataError, match=f"the file is {what}") as caught:
        discover(tmp_path)
    assert caught.value.where == str(tmp_path / "part-00000")


def test_other_names_without_an_extension_are_passed_over_unless_they_are_named_outright(tmp_path):
    put(tmp_path, "a.csv", "README", "reviews_manifest")
    assert found(tmp_path) == ["a.csv"]
    assert source_format(tmp_path / "README") == "csv"


@pytest.mark.parametrize("name", ["NOTES2024", "backup_20240101", "orders-000000000001"])
def test_a_text_with_the_name_of_an_export_is_read_beside_other_data_if_it_begins_alike(
    tmp_path, caplog, monkeypatch, name
):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    put(tmp_path, "a.csv")
    put(tmp_path, name, content="Notes, of 2024\n")
    (tmp_path / "run_123").write_bytes(b"\0\1\2")
    assert found(tmp_path) == ["a.csv"]
    warn_of_passed_over(tmp_path, discover(tmp_path)[1])
    others = ", ".join(str(tmp_path / other) for other in sorted([name, "run_123"]))
    assert f"ignored: {others}; " in caplog.messages[0]
    put(tmp_path, name, content="\ufeff" + (tmp_path / "a.csv").read_text().replace("\n", "\r\n"))
    assert found(tmp_path) == sorted([name, "a.csv"])
    for other in ("a.csv", "run_123"):
        (tmp_path / other).unlink()
    put(tmp_path, "empty.csv", content="\n \n")
    assert name in found(tmp_path)


def test_json_lines_with_the_name_of_an_export_are_read_beside_others(tmp_path):
    put(tmp_path, "a.jsonl", content='{"id": 1}\n')
    put(tmp_path, "b001", content=' {"id": 2, "x": 3}\n')
    assert found(tmp_path) == ["a.jsonl", "b001"]


def test_parquet_of_any_name_without_an_extension_is_data(tmp_path):
    insert = "20240101_010101_00001_abcde_0a1b2c3d-0000-1111-2222-0a1b2c3d4e5f"
    for name in ("part-00000-x.snappy.parquet", insert, "other"):
        (tmp_path / name).write_bytes(parquet())
    assert found(tmp_path) == sorted([insert, "other", "part-00000-x.snappy.parquet"])
    put(tmp_path, "a.csv")
    with pytest.raises(MixedFormatsError):
        discover(tmp_path)


def test_what_is_read_because_of_its_content_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    caplog.set_level(logging.INFO, "bsm")
    put(tmp_path, "part-00000", "b.csv")
    warn_of_passed_over(tmp_path, discover(tmp_path)[1])
    assert [line.partition(": ")[2] for line in caplog.messages] == [f"{tmp_path}/part-00000"]


@pytest.mark.parametrize("content", [b"id\ttext\n1\ta\n", b'{"id": 1}\n', parquet()])
@pytest.mark.parametrize("empty", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_part_that_holds_nothing_has_the_format_of_the_others(tmp_path, content, empty):
    packed = not content.startswith(b"PAR1")
    (tmp_path / "part-00000.gz").write_bytes(gzip.compress(empty, mtime=0))
    name = "part-00001.gz" if packed else "part-00001"
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert found(tmp_path) == [name]
    (tmp_path / name).unlink()
    with pytest.raises(NoInferenceDataError, match="every data file is empty"):
        discover(tmp_path)


@pytest.mark.parametrize(("delimiter", "format"), [("\t", "tsv"), (",", "csv"), (";", "csv"), (None, "csv")])
def test_the_parts_of_a_table_have_one_format(tmp_path, delimiter, format):
    put(tmp_path, "part-00000", content="1\thello, you, there\n2\tx\n")
    put(tmp_path, "part-00001", content="3\thi\n")
    assert discover(tmp_path, delimiter) == (format, (tmp_path / "part-00000", tmp_path / "part-00001"))
    put(tmp_path, "a.tsv", content="4\ta\n")
    assert discover(tmp_path)[0] == "tsv"


def test_a_header_that_begins_as_parquet_does(tmp_path):
    put(tmp_path, "part-00000", content="PAR1,x\n1,2\n")
    put(tmp_path, "README", content="PAR1\n")
    assert found(tmp_path) == ["part-00000"]
    (tmp_path / "part-00000").unlink()
    with pytest.raises(NoInferenceDataError, match="no data file"):
        discover(tmp_path)


def test_the_files_of_a_folder_without_data_are_said_to_be_what_they_are(tmp_path):
    put(tmp_path, "a.txt", "notes")
    put(tmp_path, "b.json", content='{"id": 1}\n')
    (tmp_path / "c.xlsx").write_bytes(b"PK\3\4 [Content_Types].xml")
    with pytest.raises(NoInferenceDataError) as caught:
        discover(tmp_path)
    assert caught.value.details[1:] == (
        f"{tmp_path}/a.txt seems to be text: name the file with .csv, .tsv or .jsonl at the end",
        f"{tmp_path}/b.json seems to be JSON lines: name the file with .jsonl at the end",
        f"{tmp_path}/c.xlsx seems to be an Excel workbook: save the sheet as CSV in UTF-8",
    )
    with pytest.raises(DataError, match="it seems to be JSON lines"):
        discover(tmp_path / "b.json")


def test_a_job_that_wrote_no_row(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(NoInferenceDataError, match="has finished, and wrote no row"):
        discover(tmp_path)
