from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from bsm_core.storage import temporary
from bsm_core.storage.temporary import temporary_folder

HOLDS = """
from bsm_core.storage.temporary import temporary_folder

with temporary_folder() as folder:
    (folder / "sub").mkdir()
    (folder / "sub/file").touch()
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def held(scratch):
    """A process that holds a folder until its input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS], text=True, **pipes) as process:
        process.folder = process.stdout.readline().strip()
        yield process
        process.kill()


def test_a_folder_is_removed_at_the_end_and_after_an_error(scratch):
    def use():
        with temporary_folder() as folder:
            (folder / "file").touch()
            assert folder.parent == scratch
            assert folder.stat().st_mode & 0o077 == 0
            assert str(os.getpid()) in folder.name
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert list(scratch.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not(scratch, held):
    with temporary_folder():
        assert (Path(held.folder) / "sub/file").exists()
    held.kill()
    held.wait()
    assert (Path(held.folder) / "sub/file").exists()
    with temporary_folder() as folder:
        assert list(scratch.iterdir()) == [folder]


def test_a_process_that_ends_well_removes_its_own(scratch, held):
    held.communicate("\n")
    assert held.returncode == 0
    assert list(scratch.iterdir()) == []


def test_what_is_not_ours_stays(scratch, monkeypatch):
    others = ["bsm-artifact-x7", "bsm-artifact-12-abc", "other"]
    for name in others[::2]:
        (scratch / name).mkdir()
    (scratch / others[1]).symlink_to(scratch / "other")
    with temporary_folder():
        pass
    assert sorted(entry.name for entry in scratch.iterdir()) == sorted(others)
    (scratch / "bsm-artifact-13-abc").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    temporary._remove_abandoned(scratch)
    assert (scratch / "bsm-artifact-13-abc").exists()


def test_a_folder_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(scratch, monkeypatch):
    locked, taken = temporary._locked, []

    def slow(folder):
        if not taken:
            taken.append(folder)
            temporary._remove_abandoned(scratch)
        return locked(folder)

    monkeypatch.setattr(temporary, "_locked", slow)
    with temporary_folder() as folder:
        assert folder != taken[0]
        assert list(scratch.iterdir()) == [folder]


def test_where_the_file_system_has_no_locks_a_folder_is_never_removed_by_others(scratch, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with temporary_folder() as first, temporary_folder() as second:
        assert sorted(scratch.iterdir()) == sorted([first, second])
    assert list(scratch.iterdir()) == []


def test_what_is_made_for_an_object_store_is_written_there_at_the_end(bucket):
    with temporary.uploading(bucket / "jobs/model.tar.gz") as made:
        made.write_bytes(b"archive")
        made.with_name("model.tar.gz.sha256").write_bytes(b"checksum")
        assert not (bucket / "jobs").exists()
    assert {path.name: path.read_bytes() for path in bucket.objects()} == {
        "model.tar.gz": b"archive",
        "model.tar.gz.sha256": b"checksum",
    }
    with temporary.uploading(bucket / "folder") as made:
        (made / "inner").mkdir(parents=True)
        (made / "inner/file").write_bytes(b"1")
    assert (bucket / "folder/inner/file").read_bytes() == b"1"
    assert not made.parent.exists()


def test_nothing_is_written_there_after_an_error(bucket):
    with suppress(ZeroDivisionError), temporary.uploading(bucket / "folder") as made:
        made.mkdir()
        (made / "file").write_bytes(b"1")
        raise ZeroDivisionError
    assert not (bucket / "folder").exists()


def test_on_a_disk_files_are_made_in_their_place(tmp_path, bucket):
    with temporary.uploading(tmp_path / "a") as made, temporary.scratch(tmp_path) as folder:
        assert (made, folder) == (tmp_path / "a", tmp_path)
    with temporary.scratch(bucket) as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_objects_are_copied_into_a_folder(bucket, tmp_path):
    (bucket / "a/b").put(b"content")
    temporary.download({"x/y": bucket / "a/b"}, tmp_path)
    assert (tmp_path / "x/y").read_bytes() == b"content"
