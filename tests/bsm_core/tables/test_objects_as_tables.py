"""Tables in an object store are read as those on a disk."""

from __future__ import annotations

import gzip
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.object_store import make_bucket, put_as_it_is, upload
from support.tables import cells, write

from bsm_core.errors import DataError, NoInferenceDataError, ObjectChangedError, StorageError
from bsm_core.storage.object_reader import ObjectReader
from bsm_core.storage.objects import ObjectPath
from bsm_core.tables.convert import convert
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import splits_of, work_of


def rows(source, **options):
    windows = list(source.windows(source.columns, rows=7, **options))
    assert [window.index for window in windows] == list(range(len(windows)))
    return [window.table.to_pydict() for window in windows], [window.end for window in windows]


@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet"])
def test_rows_and_positions_are_those_on_disk(tmp_path, bucket, format):
    local = write(tmp_path, format, [23, 0, 40])
    remote = TableSource.open(upload(tmp_path, bucket / "data"))
    assert rows(remote) == rows(local)
    assert rows(pickle.loads(pickle.dumps(remote))) == rows(local)
    done = dict(enumerate(rows(local)[1][:4]))
    again, there = (list(source.windows(source.columns, rows=7, done=done)) for source in (remote, local))
    assert [window.table for window in again] == [window.table for window in there]
    assert rows(TableSource.open(bucket / "data" / f"0.{format}")) == rows(TableSource.open(tmp_path / f"0.{format}"))


def test_json_lines_are_read(tmp_path, bucket):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {i}, "text": "é{i}"}}\n' for i in range(30)))
    assert rows(TableSource.open(upload(tmp_path, bucket))) == rows(TableSource.open(tmp_path))


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_splits_are_those_on_disk(tmp_path, bucket, format):
    local = write(tmp_path, format, [23, 40])
    remote = TableSource.open(upload(tmp_path, bucket))
    assert list(splits_of(remote, 7)) == list(splits_of(local, 7))
    for split in splits_of(local, 7):
        windows = list(remote.windows_of(split, remote.columns, rows=7))
        assert [w.table for w in windows] == [w.table for w in local.windows_of(split, local.columns, rows=7)]
    assert list(work_of(remote, remote.columns, rows=7, done={}, consumers=2))


def test_a_split_reads_its_own_bytes(tmp_path, bucket, monkeypatch):
    content = b"id,text\n" + b"".join(b"%d,%s\n" % (i, b"x" * 90) for i in range(60_000))
    (bucket / "data.csv").put(content)
    source = TableSource.open(bucket / "data.csv")
    splits = list(splits_of(source, 4096))
    assert len(splits) > 3
    read, fetch = [], ObjectPath.read_range
    monkeypatch.setattr(ObjectPath, "read_range", lambda path, *ends: read.append(ends) or fetch(path, *ends))
    split = splits[1]
    list(source.windows_of(split, source.columns, rows=4096))
    assert sum(end - start for start, end in read) == split.end.offset - split.start.offset
    assert len(read) <= 3


def test_partitions_and_patterns(tmp_path, bucket):
    for day in (1, 2, 3):
        (tmp_path / f"t/dt={day}").mkdir(parents=True)
        pq.write_table(cells(5, day), tmp_path / f"t/dt={day}/part-0.parquet")
        (tmp_path / f"t/dt={day}/_SUCCESS").touch()
        (tmp_path / f"t/dt={day}/.crc").write_text("no rows")
    upload(tmp_path, bucket)
    for pattern in ("t", "t/dt=[12]/*.parquet", "t/dt=2", "t/*/part-0.parquet"):
        local, remote = TableSource.open(tmp_path / pattern), TableSource.open(bucket / pattern)
        assert remote.columns == local.columns
        assert rows(remote) == rows(local)


@pytest.mark.parametrize("sign", ["_delta_log/0.json", "_temporary/0/a.csv"])
def test_folders_of_other_programs_are_named(tmp_path, bucket, sign):
    (bucket / "t/dt=1/a.csv").put(b"id\n1\n")
    (bucket / "t" / sign).put(b"{}")
    for path in (bucket / "t", bucket / "t/dt=1", bucket / "t/*/a.csv"):
        with pytest.raises(DataError) as caught:
            TableSource.open(path)
        assert caught.value.where == str(bucket / "t")


def test_no_data_is_the_error_of_a_folder_without_data(bucket):
    with pytest.raises(NoInferenceDataError, match="no such file or folder"):
        TableSource.open(bucket / "nothing")
    (bucket / "empty/a.csv").put(b"")
    with pytest.raises(NoInferenceDataError, match="every data file is empty"):
        TableSource.open(bucket / "empty")


@pytest.mark.parametrize("path", ["", "*.csv", "a.csv"])
def test_a_bucket_may_be_called_data(bucket, s3_endpoint, path):
    top = make_bucket(s3_endpoint, "data")
    (top / "a.csv").put(b"id\n1\n")
    assert TableSource.open(top / path).columns == ("id",)


def test_a_file_beside_a_folder_of_the_same_name_is_read_alone(bucket):
    (bucket / "f/x.csv").put(b"id\n1\n")
    (bucket / "f/x.csv/part-0.csv").put(b"id\n2\n")
    for path, files in ((bucket / "f/x.csv", ["x.csv"]), (bucket / "f", ["x.csv", "part-0.csv"])):
        assert [file.name for file in TableSource.open(path).files] == files


def test_an_object_with_an_odd_name_hides_no_other(bucket, s3_endpoint):
    for name in ("q/dt=1/_tmp//x.csv", "q/dt=1/a.csv", "q/dt=2//b.csv", "q/dt=2/ok.csv"):
        put_as_it_is(s3_endpoint, bucket, name, b"id\n1\n")
    for path in ("q/dt=1", "q/dt=1/a.csv", "q/dt=2/ok.csv", "q/dt=1/*.csv", "q/*1"):
        assert len(TableSource.open(bucket / path).files) == 1
    for path in ("q", "q/dt=2", "q/*/*.csv"):
        with pytest.raises(StorageError, match="the name of an object") as caught:
            TableSource.open(bucket / path)
        assert caught.value.where.startswith(f"{bucket}/q/dt=2//")


def test_a_damaged_object_is_named(bucket):
    (bucket / "a.csv.gz").put(gzip.compress(b"id\n" + b"1\n" * 1000)[:-20])
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(TableSource.open(bucket / "a.csv.gz").windows(["id"]))
    assert caught.value.where == str(bucket / "a.csv.gz")


@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet"])
def test_an_object_that_is_replaced_while_it_is_read_is_named(tmp_path, bucket, format, monkeypatch):
    monkeypatch.setattr("bsm_core.storage.object_reader._FIRST_BYTES", 100)
    write(tmp_path, format, [2000])
    source = TableSource.open(upload(tmp_path, bucket))
    windows = source.windows(source.columns, rows=7)
    source.files[0].put(b"another")
    with pytest.raises(ObjectChangedError) as caught:
        list(windows)
    assert caught.value.where == str(bucket / f"0.{format}")


@pytest.mark.parametrize("format", ["csv", "csv.gz", "parquet"])
def test_a_connection_that_is_cut_costs_no_row(tmp_path, bucket, proxy, format):
    local = write(tmp_path, format, [5000])
    remote = TableSource.open(upload(tmp_path, bucket))
    proxy.cut_once("down", 9_000)
    assert rows(remote) == rows(local)
    assert proxy.cuts == 1


def test_reading_can_end_at_any_window(tmp_path, bucket):
    for format in ("csv", "parquet"):
        folder = tmp_path / format
        folder.mkdir()
        write(folder, format, [500])
        source = TableSource.open(upload(folder, bucket / format))
        windows = source.windows(source.columns, rows=7)
        next(windows)
        windows.close()
    assert isinstance(source.files[0].open("rb", buffering=0), ObjectReader)


def test_a_table_is_converted_from_object_to_object(bucket):
    (bucket / "a.csv").put(b"id,text\n1,a\n2,b\n")
    assert convert(bucket / "a.csv", bucket / "b/c.parquet") == 2
    with (bucket / "b/c.parquet").open("rb") as file:
        assert pq.read_table(file).equals(pa.table({"id": ["1", "2"], "text": ["a", "b"]}))
    assert [path.name for path in bucket.objects()] == ["a.csv", "c.parquet"]
