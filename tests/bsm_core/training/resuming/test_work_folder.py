from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bsm_core import Batch
from bsm_core.errors import CheckpointError, DivergedError, SinkError, UsageError
from bsm_core.runtime import durable
from bsm_core.training.resuming.work_folder import TrainingFolder, beside, claim, located, publish, work_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def job(lr=0.1, rows=4):
    batch = Batch(rows, features=torch.ones(rows, 1), labels=torch.zeros(rows, dtype=torch.int64))
    return SimpleNamespace(values={"lr": lr}), SimpleNamespace(train=batch, validation=None)


@pytest.fixture
def artifact(output):
    """An artifact in the work folder of a job that has a checkpoint."""
    folder = output.with_name(".model.training") / "artifact"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer/vocab.txt").write_text("words")
    (folder / "model.pth").write_text("weights")
    (folder.parent / "last.ckpt").touch()
    return folder


# The place


@pytest.mark.parametrize("given", ["model", "n1/../model", "./model", "none/../model"])
def test_a_place_has_an_absolute_path_and_a_name(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n1").mkdir()
    whole = located(Path(given))
    assert whole == tmp_path / "model"
    assert beside(whole, "-report.html") == tmp_path / "model-report.html"


@pytest.mark.parametrize("given", ["n1/..", "none/..", ".", "/", "file"])
def test_a_place_that_holds_something_is_refused_however_it_is_written(tmp_path, monkeypatch, given):
    (tmp_path / "n1").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="already exists and is not an empty folder") as caught:
        located(Path(given))
    assert caught.value.where == given


def test_a_link_to_nothing_is_refused_and_one_to_an_empty_folder_is_not(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("elsewhere")
    with pytest.raises(UsageError, match="a link to elsewhere, which does not exist") as caught:
        located(link)
    assert "make this folder, or remove the link" in caught.value.fix
    (tmp_path / "elsewhere").mkdir()
    assert located(link) == link


# The folder


def test_the_folder_is_removed_at_the_end(output):
    with work_folder(output) as work:
        (work.path / "last.ckpt").touch()
    assert names(output.parent) == []


def fails_after(output, name, error=ZeroDivisionError, *, claimed=True):
    """Fail as a job that has written a file."""

    def fail():
        with work_folder(output) as work:
            if claimed:
                claim(work, *job())
            (work.path / name).parent.mkdir(exist_ok=True)
            (work.path / name).touch()
            raise error("what")

    with pytest.raises(error):
        fail()


@pytest.mark.parametrize("name", ["last.ckpt", "fold-1/last.ckpt", "fold-2/fold.pt", "publishing"])
def test_the_folder_of_a_job_that_has_begun_is_kept(output, caplog, name):
    fails_after(output, name)
    assert names(output.parent) == [".model.training"]
    assert "run the same job again to resume from its last epoch, which is kept in /" in caplog.text


def test_the_folder_of_a_job_that_has_not_begun_is_removed(output, caplog):
    fails_after(output, ".last.ckpt.tmp")
    assert names(output.parent) == []
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["last.ckpt", "fold-2/fold.pt"])
def test_the_folder_of_a_job_that_diverged_is_removed(output, caplog, name):
    fails_after(output, name, DivergedError)
    assert names(output.parent) == []
    assert caplog.text == ""


@pytest.mark.parametrize(("error", "claimed"), [(ZeroDivisionError, False), (CheckpointError, True)])
def test_a_job_that_cannot_resume_is_not_told_to_run_again(output, caplog, error, claimed):
    fails_after(output, "last.ckpt", error, claimed=claimed)
    assert names(output.parent) == [".model.training"]
    assert caplog.text == ""


def test_a_file_in_the_place_of_the_folder_is_an_error(output):
    output.with_name(".model.training").touch()
    with pytest.raises(SinkError, match="could not be written: File exists"), work_folder(output):
        pass


# The mark


def test_the_same_job_goes_on(tmp_path):
    claim(TrainingFolder(tmp_path), *job())
    (tmp_path / "last.ckpt").touch()
    claim(TrainingFolder(tmp_path), *job())


@pytest.mark.parametrize("other", [{"lr": 0.2}, {"rows": 5}])
def test_another_job_is_refused_once_the_first_has_begun(tmp_path, other):
    claim(TrainingFolder(tmp_path), *job())
    claim(TrainingFolder(tmp_path), *job(**other))
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(UsageError, match="a job with a different config or different rows was stopped here") as caught:
        claim(TrainingFolder(tmp_path), *job())
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize("mark", [None, b"", b"0123", b"\xff" * 10])
def test_a_mark_that_is_missing_or_damaged_is_an_error_that_says_what_to_remove(tmp_path, mark):
    (tmp_path / "last.ckpt").touch()
    if mark is not None:
        (tmp_path / "job.sha256").write_bytes(mark)
    with pytest.raises(UsageError, match=r"the file job\.sha256 is missing or damaged") as caught:
        claim(TrainingFolder(tmp_path), *job())
    assert "remove the folder to begin the training anew" in caught.value.fix


# The artifact


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_there", [False, True])
def test_an_artifact_that_was_published_once_may_be_published_again(output, artifact, is_there):
    if is_there:
        output.mkdir()
    publish(artifact, artifact.parent, output)
    whole = {"model.pth": "weights", "tokenizer/vocab.txt": "words"}
    assert content(output) == whole
    (output / "tokenizer/vocab.txt").write_text("wo")
    (output / "precious").touch()
    if not is_there:
        (artifact / "tokenizer").mkdir(parents=True)
        for name, text in whole.items():
            (artifact / name).write_text(text)
    assert located(output) == output  # which the job has begun to fill
    publish(artifact, artifact.parent, output)
    assert content(output) == {**whole, "precious": ""}


def test_a_place_that_was_filled_completely_is_taken(output, artifact):
    with work_folder(output) as work:
        publish(artifact, work.path, output)
    with pytest.raises(UsageError, match="already exists"):
        located(output)


def test_what_is_published_is_on_the_disk_before_the_folder_is_removed(output, artifact, monkeypatch):
    flushed = []
    monkeypatch.setattr(durable, "flush", flushed.append)
    publish(artifact, artifact.parent, output)
    assert {path.name for path in flushed} >= {"model.pth", "vocab.txt", "jobs"}
