from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from support.google_store import google_bucket
from support.object_store import put_as_it_is, upload

from bsm_core.errors import ObjectChangedError, StorageError, UsageError
from bsm_core.storage.objects import BLOCK_BYTES, ObjectPath, folders_in, pinned, place, walk
from bsm_core.storage.stores import UnusableNameError

FILES = ["a.csv", "b/c.csv", "b/d/e.csv", "b/d/f.parquet", "dt=1/x.csv", "dt=2/x.csv", "é ü/g?h#%20.csv"]


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b.csv", "s3://bucket/a/b.csv"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("S3://bucket/a".lower(), "s3://bucket/a"),
        ("gs://bucket/a b#c?d%20e", "gs://bucket/a b#c?d%20e"),
        ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net/a"),
    ],
)
def test_a_url_is_an_object_path(text, printed):
    path = place(text)
    assert isinstance(path, ObjectPath)
    assert str(path) == printed
    assert place(path) is path
    assert pickle.loads(pickle.dumps(path)) == path


@pytest.mark.parametrize("text", ["/a/b", "a", "./s3:/bucket/a", "C:\\data", "a://", "s3:bucket", "", "é"])
def test_any_other_text_is_a_path_of_this_machine(text):
    assert place(text) == Path(text)
    assert type(place(text)) is type(Path(text))


@pytest.mark.parametrize("text", ["s3://bucket", "s3://bucket/a b/c.csv", "gs://bucket/a", "file:///a/b"])
def test_a_url_in_a_path_of_pathlib_is_still_a_url(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    found = place(Path(text))
    assert (found, type(found)) == (place(text), type(place(text)))
    Path(text.partition("/")[0]).mkdir()
    assert place(Path(text.partition("/")[0])) == Path(text.partition("/")[0])


def test_a_path_that_looks_like_an_unknown_url_is_a_path_if_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the URL cannot be used"):
        place("day://one")
    (tmp_path / "day:" / "one").mkdir(parents=True)
    assert place("day://one").is_dir()


@pytest.mark.parametrize("text", ["file:///a/b%20c", "file://localhost/a/b%20c"])
def test_a_file_url_is_a_path_of_this_machine(text):
    assert place(text) == Path("/a/b c")


@pytest.mark.parametrize("text", ["hdfs://host/a", "https://host/a", "s3://", "s3:///a", "file://host/a"])
def test_a_url_that_cannot_be_used_is_an_error_with_the_known_schemes(text):
    with pytest.raises(UsageError, match="the URL cannot be used") as caught:
        place(text)
    assert "s3://BUCKET/PATH" in caught.value.fix


def test_paths_have_parts():
    path = place("s3://bucket/folder/data.csv.gz")
    assert (path.name, path.suffix, path.stem) == ("data.csv.gz", ".gz", "data.csv")
    assert str(path.parent) == "s3://bucket/folder"
    assert str(path.parent / "b") == str(path.with_name("b")) == "s3://bucket/folder/b"
    assert path.relative_to(place("s3://bucket")).as_posix() == "folder/data.csv.gz"
    assert path.is_relative_to(place("s3://bucket/folder"))
    assert not path.is_relative_to(Path("/bucket"))
    assert not Path("/a").is_relative_to(path)
    assert path.key == "folder/data.csv.gz"
    assert place("s3://bucket/a").parent == place("s3://bucket").parent == place("s3://bucket")
    assert len({path, place("s3://bucket/folder/data.csv.gz"), place("s3://bucket/folder")}) == 2


@pytest.mark.parametrize("act", [os.stat, os.listdir, Path.touch, Path.chmod, open])
def test_functions_of_the_file_system_do_not_take_an_object_for_a_file(act):
    with pytest.raises(TypeError):
        act(place("s3://bucket/a"))


def test_an_object_is_read_and_written_as_a_file(bucket):
    path = bucket / "folder/a.txt"
    assert not path.exists()
    assert not path.parent.exists()
    path.put(b"content")
    assert path.is_file()
    assert path.parent.is_dir()
    assert path.parent.exists()
    assert not path.is_dir()
    assert not path.parent.is_file()
    assert path.stat().st_size == 7
    assert path.read_bytes() == b"content"
    assert path.read_text() == "content"
    with path.open("rb") as file:
        assert file.read(3) + file.read() == b"content"
    path.unlink()
    path.unlink()
    assert not path.parent.exists()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    with pytest.raises(OSError, match="reading bytes only"):
        path.open("w")


def test_a_large_file_is_one_object(bucket, tmp_path):
    content = os.urandom(2 * BLOCK_BYTES + 5)
    (tmp_path / "large").write_bytes(content)
    (bucket / "large").put(tmp_path / "large")
    with (bucket / "large").open("rb") as file:
        assert file.read() == content


def test_folders_are_walked_as_on_disk(bucket, folder):
    upload(folder, bucket)
    (bucket / "b/d/marker").put(b"")
    (folder / "b/d/marker").touch()

    def walked(top):
        for here, names, files in walk(top):
            yield [
                str(here.relative_to(top)),
                sorted(names),
                sorted(file.relative_to(top).as_posix() for file in files),
            ]

    assert sorted(walked(bucket)) == sorted(walked(folder))
    assert sorted(folders_in(bucket)) == sorted(folders_in(folder))
    assert sorted(path.name for path in bucket.iterdir()) == sorted(path.name for path in folder.iterdir())
    walking = walk(bucket / "b")
    next(walking)[1].clear()
    assert list(walking) == []
    assert all(file.known for _, _, files in walk(bucket) for file in files)


@pytest.mark.parametrize("pattern", ["*.csv", "*/*.csv", "**/*.csv", "dt=[12]/x.csv", "*", "**/e.csv", "b/d/e.csv"])
def test_patterns_match_as_on_disk(bucket, folder, pattern):
    upload(folder, bucket)
    found, expected = bucket.glob(pattern), folder.glob(pattern)
    assert sorted(str(p.relative_to(bucket)) for p in found) == sorted(str(p.relative_to(folder)) for p in expected)


@pytest.mark.parametrize("mark", ["folder/", "folder"])
def test_the_mark_of_a_folder_is_no_file(bucket, s3_endpoint, mark):
    put_as_it_is(s3_endpoint, bucket, mark, b"")
    put_as_it_is(s3_endpoint, bucket, "folder/sub/", b"")
    put_as_it_is(s3_endpoint, bucket, "folder/sub/a", b"x")
    assert not (bucket / "folder").is_file()
    assert (bucket / "folder").is_dir()
    for top in (bucket, bucket / "folder"):
        assert list(top.objects()) == [file for _, _, files in walk(top) for file in files] == [bucket / "folder/sub/a"]


def test_an_empty_folder_has_no_objects(bucket, s3_endpoint):
    put_as_it_is(s3_endpoint, bucket, "folder/", b"")
    assert list((bucket / "folder").iterdir()) == list((bucket / "folder").objects()) == []
    assert not (bucket / "folder").is_file()


def test_a_path_at_which_there_are_bytes_is_a_file(bucket):
    (bucket / "a.csv").put(b"x")
    (bucket / "a.csv/part-0.csv").put(b"y")
    assert (bucket / "a.csv").is_file()
    assert not (bucket / "a.csv").is_dir()
    (bucket / "empty.csv").put(b"")
    assert (bucket / "empty.csv").is_file()
    assert not (bucket / "empty.csv").is_dir()


@pytest.mark.parametrize("name", ["q//b", "q/./b", "q/../b", "q/a\tb", "q/a\x7fb", "q//b/c"])
def test_a_name_that_obstore_cannot_represent_is_an_error_with_this_name_alone(bucket, s3_endpoint, name):
    put_as_it_is(s3_endpoint, bucket, name, b"x")
    (bucket / "q/ok").put(b"y")
    (bucket / "q/sub/ok").put(b"z")
    for act in (lambda: list((bucket / "q").objects()), lambda: list(walk(bucket / "q")), lambda: list(walk(bucket))):
        with pytest.raises(UnusableNameError, match=r"an empty folder \(//\)") as caught:
            act()
        assert caught.value.where.startswith(f"{bucket}/{name[:3]}")
    assert (bucket / "q").is_dir()
    assert not (bucket / "q/ok").is_dir()
    assert (bucket / "q/ok").read_bytes() == b"y"
    assert folders_in(bucket) == ["q"]
    assert folders_in(bucket / "q") == []
    assert [files for _, _, files in walk(bucket / "q/sub")] == [[bucket / "q/sub/ok"]]


def test_such_a_name_in_a_folder_that_is_left_out_is_passed_over(bucket, s3_endpoint):
    put_as_it_is(s3_endpoint, bucket, "b/_tmp//x", b"x")
    (bucket / "b/ok").put(b"y")
    (bucket / "a/ok").put(b"y")
    found = []
    for here, names, files in walk(bucket):
        found.append((here, files))
        names[:] = [name for name in names if not name.startswith("_")]
    assert found == [(bucket, []), (bucket / "a", [bucket / "a/ok"]), (bucket / "b", [bucket / "b/ok"])]


@pytest.mark.parametrize("twin", ["/a.csv", "a.csv/"])
def test_two_objects_that_obstore_calls_the_same_are_an_error(bucket, s3_endpoint, twin):
    put_as_it_is(s3_endpoint, bucket, twin, b"x")
    (bucket / "a.csv").put(b"x")
    with pytest.raises(StorageError, match="differ only in a slash") as caught:
        list(bucket.objects())
    assert caught.value.where == str(bucket / "a.csv")


def test_a_tree_is_removed(bucket, folder):
    upload(folder, bucket)
    (bucket / "b").remove_tree()
    assert sorted(path.name for path in bucket.objects()) == ["a.csv", "g?h#%20.csv", "x.csv", "x.csv"]
    (bucket / "b").remove_tree()


def test_an_object_with_a_known_state_is_read_only_as_long_as_it_has_this_state(bucket):
    path = bucket / "a"
    path.put(b"old")
    known = pickle.loads(pickle.dumps(pinned(path)))
    assert known.stat().st_size == 3
    path.put(b"new!")
    assert known.stat().st_size == 3
    with pytest.raises(ObjectChangedError, match="changed while the run used it") as caught, known.open("rb") as file:
        file.read()
    assert caught.value.where == str(path)
    assert pinned(known).stat().st_size == 4


def test_conditions_of_writing(bucket):
    path = bucket / "lock"
    version = path.put(b"1", mode="create")
    with pytest.raises(FileExistsError):
        path.put(b"2", mode="create")
    path.put(b"3", mode=version)
    with pytest.raises(ObjectChangedError):
        path.put(b"4", mode=version)
    assert path.read_bytes() == b"3"


def test_the_objects_after_one_that_is_not_there_are_removed_too(monkeypatch):
    """Google's store removes one by one."""
    with google_bucket(monkeypatch) as bucket:
        paths = [bucket / f"{i}" for i in range(20)]
        for path in paths[1:]:
            path.put(b"x")
        bucket.remove(paths)
        assert not any(path.is_file() for path in paths)
