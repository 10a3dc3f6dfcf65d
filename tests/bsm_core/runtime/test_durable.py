from __future__ import annotations

import threading

import pytest

from bsm_core.errors import SinkError, StorageError
from bsm_core.runtime import durable
from bsm_core.storage.objects import ObjectPath


@pytest.fixture(params=["disk", "objects"])
def folder(request, tmp_path):
    return tmp_path if request.param == "disk" else request.getfixturevalue("bucket") / "folder"


def test_lines_are_appended_to_a_file_that_was_written(folder):
    path = folder / "lines.jsonl"
    assert durable.read_lines(path)[0] == []
    durable.append(path, "one")
    durable.append(path, "two\nthree")
    lines, seen = durable.read_lines(path)
    assert lines == ["one", "two", "three"]
    durable.append(path, "new")
    lines, seen = durable.read_lines(path, seen)
    assert lines == ["new"]
    assert durable.read_lines(path, seen) == ([], seen)
    durable.write_lines(path, "four\n")
    lines, seen = durable.read_lines(path)
    assert lines == ["four"]
    durable.append(path, "five")
    assert durable.read_lines(path, seen)[0] == ["five"]
    assert durable.read_lines(path)[0] == ["four", "five"]


def test_what_was_read_before_is_not_listed_again(bucket, monkeypatch):
    """With thousands of parts, each list of all of them would take seconds."""
    path, listed = bucket / "lines.jsonl", []
    objects = ObjectPath.objects

    def counted(self, *args):
        for found in objects(self, *args):
            listed.append(found.name)
            yield found

    monkeypatch.setattr(ObjectPath, "objects", counted)
    seen, lines = 0, []
    for number in range(5):
        durable.append(path, str(number))
        new, seen = durable.read_lines(path, seen)
        lines += new
    assert lines == ["0", "1", "2", "3", "4"]
    assert len(listed) == 5


def test_a_line_without_an_end_is_none_yet(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"one\ntw")
    lines, seen = durable.read_lines(path)
    assert lines == ["one"]
    durable.append(path, "o")
    assert durable.read_lines(path, seen)[0] == ["two"]


def test_files_are_written_replaced_and_removed(folder, tmp_path):
    durable.store(folder / "a", memoryview(b"old"))
    durable.store(folder / "a", memoryview(b"new"))
    durable.write(folder / "b", "text")
    (tmp_path / "made").write_bytes(b"made")
    durable.replace(tmp_path / "made", folder / "b")
    assert [(folder / name).read_bytes() for name in ("a", "b")] == [b"new", b"made"]
    assert not (tmp_path / "made").exists()
    durable.remove_tree(folder)
    durable.remove_tree(folder)
    assert not folder.exists()


def test_values_keep_their_order_and_few_are_ahead():
    begun, most = [], threading.Semaphore(3)

    def double(value):
        assert most.acquire(timeout=10)
        begun.append(value)
        return 2 * value

    found = durable.in_parallel(double, range(20), 2)
    for value in range(20):
        assert next(found) == 2 * value
        assert max(begun) <= value + 2
        most.release()
    assert list(found) == []


def test_the_first_error_ends_the_rest():
    with pytest.raises(ZeroDivisionError):
        list(durable.in_parallel(lambda value: 1 // value, [1, 0, 1], 2))


def test_an_error_of_the_store_stays_what_it_is(bucket):
    with pytest.raises(StorageError, match="no credentials"), durable.writing(bucket):
        raise StorageError("no credentials")


def test_a_full_disk_before_an_upload_is_one_of_this_machine(bucket):
    with pytest.raises(SinkError, match="No space left on device") as caught, durable.writing(bucket / "out"):
        raise OSError(28, "No space left on device", "made")
    assert "TMPDIR" in caught.value.fix
    assert caught.value.where == str(bucket / "out")
