import logging
import os
from functools import partial
from pathlib import Path

import pytest

from bsm_core.errors import DataError
from bsm_core.tables.data_files import discover
from bsm_core.tables.formats.folders import is_read, warn_of_no_marker


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("id\n1\n")


def found(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in discover(folder)[1]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg"), ("_spark_metadata", "Spark streaming")],
)
def test_a_table_with_a_log_of_its_files_is_named(tmp_path, name, kind):
    folder = tmp_path / "year=2024"
    (folder / name).mkdir(parents=True)
    (folder / "a.parquet").write_bytes(b"x")
    if name == "metadata":
        (folder / name / "v1.metadata.json").touch()
    with pytest.raises(DataError, match=f"the folder is a {kind} table") as caught:
        discover(tmp_path)
    assert caught.value.where == str(folder)
    assert discover(folder / "a.parquet")[1] == (folder / "a.parquet",)


@pytest.mark.parametrize("folder", ["data", "data/month=1", "month=1/day=2"])
def test_a_folder_in_a_table_with_a_log_is_a_part_of_it(tmp_path, folder):
    put(tmp_path, "_delta_log/0.json", f"{folder}/a.csv")
    with pytest.raises(DataError, match="the folder is a Delta table") as caught:
        discover(tmp_path / folder)
    assert caught.value.where == str(tmp_path)
    put(tmp_path, "own/a.csv")
    assert found(tmp_path / "own") == ["a.csv"]


@pytest.mark.parametrize("name", ["_temporary", ".spark-staging-1f2e", ".hive-staging_hive_2024-05-15"])
@pytest.mark.parametrize("folder", [".", "day=1"])
def test_the_folder_of_a_job_that_has_not_finished(tmp_path, name, folder):
    put(tmp_path, "_SUCCESS", f"{folder}/part-00000.csv")
    (tmp_path / folder / name).mkdir()
    with pytest.raises(DataError, match="is still writing into the folder, or has failed") as caught:
        discover(tmp_path)
    assert caught.value.where == str(tmp_path / folder)
    assert name in str(caught.value)
    (tmp_path / folder / name).rmdir()
    (tmp_path / name).mkdir()
    put(tmp_path, "day=2/part-00000.csv")
    with pytest.raises(DataError, match="is still writing into the folder"):
        discover(tmp_path / "day=2")


@pytest.mark.parametrize("name", ["_temporary", ".hive-staging_hive_2024-05-15"])
def test_a_job_beside_a_folder_named_data_is_none_of_its_business(tmp_path, name):
    put(tmp_path, "data/a.csv")
    (tmp_path / name).mkdir()
    assert found(tmp_path / "data") == ["a.csv"]


@pytest.mark.parametrize(
    ("marker", "data", "given", "warned"),
    [
        ("_SUCCESS", "part-00000-1f.csv", ".", False),
        ("_SUCCESS", "day=1/hour=2/part-00000-1f.csv", ".", False),
        ("_SUCCESS", "day=1/hour=2/part-00000-1f.csv", "day=1/hour=2", False),
        ("_committed_123", "part-00000-tid-1.csv", ".", False),
        ("other/_SUCCESS", "a.csv", ".", False),
        ("other/_SUCCESS", "part-00000-1f.csv", "part-00000-1f.csv", False),
        ("other/_SUCCESS", "part-r-00000", ".", True),
        ("other/_SUCCESS", "day=1/part-00000", "day=1", True),
        ("_SUCCESS", "other/part-00000", "other", True),
    ],
)
def test_parts_without_the_marker_of_their_job(tmp_path, caplog, monkeypatch, marker, data, given, warned):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    put(tmp_path, marker, data)
    warn_of_no_marker(tmp_path / given)
    assert ["there is no _SUCCESS" in line for line in caplog.messages] == [True] * warned


def test_a_folder_above_that_cannot_be_listed_may_hold_the_marker(tmp_path, caplog, monkeypatch):
    """The superuser, who may run the tests, lists every folder, so that no mode of the folder would do."""
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    put(tmp_path, "table/year=2024/part-00000.csv")

    def refuse(path, of):
        if str(path) == str(tmp_path / "table"):
            raise PermissionError(13, "Permission denied", path)
        return of(path)

    monkeypatch.setattr("os.scandir", partial(refuse, of=os.scandir))
    monkeypatch.setattr("os.listdir", partial(refuse, of=os.listdir))
    assert found(tmp_path / "table/year=2024") == ["part-00000.csv"]
    warn_of_no_marker(tmp_path / "table/year=2024")
    assert not caplog.messages


def test_a_partition_may_have_a_name_that_would_hide_another_folder(tmp_path):
    put(tmp_path, "dt=1/_hour=2/b.csv", "_ingest=7/c.csv", "_x/d.csv", ".y=1/e.csv", "dt=1/_a=b.csv")
    assert found(tmp_path) == ["_ingest=7/c.csv", "dt=1/_hour=2/b.csv"]
    assert [file.name for file in discover(tmp_path / "*" / "*=*")[1]] == ["b.csv"]
    is_input = partial(is_read, path=tmp_path / "*" / "*")
    assert list(map(is_input, (tmp_path / "_x=1/out.csv", tmp_path / "_x/out.csv"))) == [True, False]
