"""Jobs whose model, data and output lie in an object store."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import MappingProxyType

import pytest
from support.object_store import KEY, SECRET, refusing_server, upload, uploads
from support.processes import python
from support.toy import SITE, toy_rows

from bsm_core.cli import main
from bsm_core.errors import (
    CorruptArtifactError,
    DataError,
    MissingArtifactFilesError,
    NothingToResumeError,
    OutputInUseError,
    StorageError,
    UsageError,
)
from bsm_core.predictor import Predictor
from bsm_core.preprocess.findings import ALTERED_PARTS
from bsm_core.scoring import job
from bsm_core.scoring.output.done_shard import DoneShard
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.sink import Sink
from bsm_core.storage.objects import ObjectPath


class Stopped(BaseException):
    """Takes the place of a kill, in this process."""


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.objects())


@pytest.fixture
def remote(run, bucket):
    """Runs a job from objects to objects, in windows of three rows."""
    toy_rows(23).to_csv(run.data / "t.csv", index=False)
    upload(run.artifact, bucket / "model")
    upload(run.data, bucket / "data")

    def start(env=MappingProxyType({"ID_FIELD": "id"}), **flags):
        places = {f"{name}_dir": f"{bucket}/{name}" for name in ("model", "data")} | {"output_dir": f"{bucket}/out"}
        return job.run({"job_type": "inference", "window_rows": 3, "device": "cpu", **places, **flags}, env)

    start.bucket, start.out, start.local = bucket, bucket / "out", run
    return start


@contextmanager
def stopping(window):
    """Stop the run of the block in place of the part of a window, or of the commit."""
    write, commit = Sink.write_part, Sink.commit

    def write_part(self, part):
        if part.window == window:
            raise Stopped
        write(self, part)

    def stopped_commit(self, *args):
        if window == "commit":
            raise Stopped
        return commit(self, *args)

    with pytest.MonkeyPatch.context() as patch, suppress(Stopped):
        patch.setattr(Sink, "write_part", write_part)
        patch.setattr(Sink, "commit", stopped_commit)
        yield
        pytest.fail("the run was not stopped")


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_bytes_are_those_of_a_local_run(remote, format):
    flags = {"output_format": format, "run_record": True, "keep_columns": "all"}
    there = remote(row_issues=f"{remote.bucket}/issues/rows.csv", **flags)
    here = remote.local(window_rows=3, device="cpu", row_issues=remote.local.out / "rows.csv", **flags)
    assert there.path.read_bytes() == here.path.read_bytes()
    assert (there.rows, there.windows, there.counts) == (here.rows, here.windows, here.counts)
    assert (remote.bucket / "issues/rows.csv").read_bytes() == (remote.local.out / "rows.csv").read_bytes()
    assert listing(remote.out) == ["_HEALTH", "_SUCCESS", f"inference_predictions.{format}", "run.json"]
    record = json.loads((remote.out / "run.json").read_bytes())
    assert record["settings"]["output_dir"] == str(remote.out)
    assert KEY not in json.dumps(record)
    assert SECRET not in json.dumps(record)


def test_two_processes_with_loader_workers_write_the_same(remote):
    alone = remote().path.read_bytes()
    assert remote(devices=2, accelerator="cpu", num_workers=1).path.read_bytes() == alone


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_an_actor_of_ray_reads_objects(remote, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    alone = remote().path.read_bytes()
    assert remote(engine="ray").path.read_bytes() == alone


def test_only_the_output_is_an_object(remote):
    there = remote(model_dir=remote.local.artifact, data_dir=remote.local.data)
    here = remote.local(
        window_rows=3, device="cpu", model_dir=f"{remote.bucket}/model", data_dir=f"{remote.bucket}/data"
    )
    assert there.path.read_bytes() == here.path.read_bytes()


@pytest.mark.parametrize("place", ["model.tar.gz", "folder"])
def test_the_model_may_be_an_archive(remote, tmp_path, place):
    expected = remote().path.read_bytes()
    shutil.make_archive(str(tmp_path / "model"), "gztar", remote.local.artifact)
    (remote.bucket / "archive/model.tar.gz").put(tmp_path / "model.tar.gz")
    (remote.bucket / "archive/other").put(b"is not read")
    url = f"{remote.bucket}/archive" + ("/model.tar.gz" if place == "model.tar.gz" else "/")
    assert remote(model_dir=url).path.read_bytes() == expected
    assert list(Predictor.from_artifact(url).predict(toy_rows(3)).columns) == ["prob_class_0", "prob_class_1"]


@pytest.mark.parametrize("window", [0, 5, "commit"])
def test_a_run_that_was_stopped_goes_on(remote, window):
    whole = remote().path.read_bytes()
    with stopping(window):
        remote()
    windows = 8 if window == "commit" else window
    done = min(3 * windows, 23)
    assert len(WorkFolder(remote.out).records()) == windows
    assert (f"{done} rows are done" in (remote.out / "_FAILURE").read_text()) == (done > 0)
    assert not (remote.out / "_SUCCESS").exists()
    again = remote(run_record=True, resume="require" if done else "auto")
    assert again.path.read_bytes() == whole
    attempts = json.loads((remote.out / "run.json").read_bytes())["attempts"]
    assert [attempt["rows"] for attempt in attempts if attempt["rows"]] == [n for n in (done, 23 - done) if n]
    assert listing(remote.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv", "run.json"]


KILLED = """
import os, signal
from bsm_core.scoring.output.sink import Sink
from bsm_core.storage.objects import ObjectPath
write = Sink.write_part

def kill(self, part):
    write(self, part)
    if part.window == 4:
        os.kill(os.getpid(), signal.SIGKILL)

Sink.write_part = kill
from bsm_core.run import main
main({arguments!r})
"""


def test_the_same_command_goes_on_after_a_kill(remote):
    whole = remote.local(window_rows=3, device="cpu").path.read_bytes()
    arguments = ["--job_type", "inference", "--id-field", "id", "--window-rows", "3", "--device", "cpu"]
    for name, place in (("model", "model"), ("data", "data"), ("output", "out")):
        arguments += [f"--{name}-dir", f"{remote.bucket}/{place}"]
    done = python("-c", KILLED.format(arguments=arguments))
    assert done.returncode == -signal.SIGKILL
    assert "lock" in [path.name for path in (remote.out / ".bsm").objects()]
    assert remote(resume="require").path.read_bytes() == whole
    assert listing(remote.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv"]


def test_a_part_that_was_altered_is_computed_again(remote):
    whole = remote().path.read_bytes()
    with stopping("commit"):
        remote()
    (WorkFolder(remote.out).part(3)).put(b"other bytes")
    (WorkFolder(remote.out).part(4)).unlink()
    again = remote()
    assert again.path.read_bytes() == whole
    assert again.counts[ALTERED_PARTS] == 2


def test_another_object_of_the_same_name_begins_the_run_anew(remote, caplog):
    with stopping(4):
        remote()
    content = (remote.bucket / "data/t.csv").read_bytes()
    (remote.bucket / "data/t.csv").put(content.replace(b"hello", b"howdy"))
    assert remote().rows == 23
    assert "input t.csv: it was written to again" in caplog.text
    with stopping(4):
        remote()
    (remote.bucket / "data/t.csv").put(content)
    with pytest.raises(NothingToResumeError, match="the run is another one"):
        remote(resume="require")


def test_an_object_that_changes_during_the_run_is_named(remote, monkeypatch):
    write, data = Sink.write_part, remote.bucket / "data/t.csv"

    def write_part(self, part):
        data.put(data.read_bytes() + b" ")
        write(self, part)

    monkeypatch.setattr(Sink, "write_part", write_part)
    with pytest.raises(DataError, match="the file was changed while it was read") as caught:
        remote()
    assert caught.value.where == str(data)
    assert str(data) in (remote.out / "_FAILURE").read_text()


def test_a_second_run_is_told_who_the_first_is(remote):
    with holding(WorkFolder(remote.out).lock), pytest.raises(OutputInUseError) as caught:
        remote()
    assert f"process {os.getpid()}" in caught.value.what
    assert caught.value.where == str(remote.out)
    assert listing(remote.out) == []
    assert remote().rows == 23


def test_connections_that_are_cut_cost_nothing(remote, proxy):
    whole = remote.local(window_rows=3, device="cpu").path.read_bytes()
    count = itertools.count()
    proxy.cut = lambda direction, sent, more: next(count) % 23 == 22
    assert remote().path.read_bytes() == whole
    assert proxy.cuts > 1


def test_a_commit_whose_connection_is_cut_leaves_no_object(remote, proxy, s3_endpoint, use_endpoint):
    whole = remote.local(window_rows=3, device="cpu").path.read_bytes()
    proxy.cut = lambda direction, sent, more: direction == "up" and b"out/inference_predictions.csv HTTP" in more
    with pytest.raises(StorageError, match="the store does not answer") as caught:
        remote()
    assert proxy.cuts > 1
    assert caught.value.where == f"{remote.out}/inference_predictions.csv"
    assert listing(remote.out)[-1] == "_FAILURE"
    assert "23 rows are done" in (remote.out / "_FAILURE").read_text()
    assert uploads(s3_endpoint, remote.bucket) == 0
    use_endpoint(s3_endpoint)
    assert remote(resume="require").path.read_bytes() == whole


def test_a_wrong_key_is_one_error_without_a_secret(remote, use_endpoint, capfd, monkeypatch):
    monkeypatch.setenv("ID_FIELD", "id")
    with refusing_server() as url:
        use_endpoint(url)
        places = [f"--{name}-dir={remote.bucket}/{name}" for name in ("model", "data", "output")]
        assert main(["run", "--job_type", "inference", *places]) == 1
    out, err = capfd.readouterr()
    assert err.count("Error") == 1
    assert "StorageError: the store refuses access" in err
    assert not any(secret in out + err for secret in (KEY, SECRET, "0123456789abcdef"))


def test_work_that_is_not_wanted_any_more_is_removed(remote, capsys):
    with stopping(4):
        remote()
    assert main(["clean", str(remote.out)]) == 0
    assert "12 rows had been done" in capsys.readouterr().out
    assert listing(remote.out) == ["_FAILURE"]
    assert main(["clean", str(remote.out)]) == 0


def test_shards_are_merged(remote):
    toy_rows(23)[7:].to_csv(remote.local.data / "u.csv", index=False)
    upload(remote.local.data, remote.bucket / "data")
    whole = remote().path.read_bytes()
    for shard in ("0/2", "1/2"):
        remote(shard=shard, output_dir=f"{remote.bucket}/shards")
    assert (remote.bucket / "shards/_SUCCESS").exists()
    assert main(["merge", f"{remote.bucket}/shards"]) == 0
    assert (remote.bucket / "shards/inference_predictions.csv").read_bytes() == whole


@pytest.mark.parametrize(
    "flags", [{"output_dir": "{}/data/out"}, {"output_dir": "{}/model"}, {"row_issues": "{}/data/r.csv"}]
)
def test_inputs_are_not_written_over(remote, flags):
    before = listing(remote.bucket)
    with pytest.raises(UsageError, match=r"inside|cannot be written to this folder"):
        remote(**{name: value.format(remote.bucket) for name, value in flags.items()})
    assert listing(remote.bucket) == before


def test_an_input_is_not_replaced(remote):
    upload(remote.local.data, remote.out)
    (remote.out / "t.csv").unlink()
    (remote.out / "inference_predictions.csv").put(b"id,chat,amount,channel\n1,a,1,web\n")
    with pytest.raises(UsageError, match=r"replace or remove inference_predictions\.csv, which is one of its inputs"):
        remote(data_dir=f"{remote.out}/inference_predictions.csv")


def test_the_commands_take_urls(remote, tmp_path, capsys):
    bucket = remote.bucket
    assert main(["inspect", f"{bucket}/model"]) == 0
    assert f"{bucket}/model" in capsys.readouterr().out
    assert main(["inspect", f"{bucket}/nothing"]) == 1
    assert f"there is no artifact ({bucket}/nothing)" in capsys.readouterr().out
    assert main(["pack", f"{bucket}/model", f"{bucket}/packed.tar.gz"]) == 0
    assert main(["pack", f"{bucket}/packed.tar.gz", f"{bucket}/packed", "--data", f"{bucket}/data"]) == 0
    assert (bucket / "packed.tar.gz.sha256").exists()
    assert (bucket / "packed/self_check.json").exists()
    assert main(["inspect", f"{bucket}/packed"]) == 0
    assert main(["pack", f"{bucket}/model", f"{bucket}/packed"]) == 2
    assert main(["pack", f"{bucket}/model", f"{bucket}/model/new"]) == 2
    assert "the destination lies in the source" in capsys.readouterr().err
    assert not (bucket / "model/new").exists()
    assert main(["convert", f"{bucket}/data", f"{bucket}/data.parquet"]) == 0
    assert main(["convert", f"{bucket}/data.parquet", (tmp_path / "data.csv").as_uri()]) == 0
    assert (tmp_path / "data.csv").read_bytes() == (bucket / "data/t.csv").read_bytes()
    with pytest.raises(SystemExit):
        main(["convert", f"{bucket}/data.parquet", "hdfs://host/a.csv"])
    assert "the schemes are s3" in capsys.readouterr().err


def test_a_file_of_the_model_that_is_damaged_is_named_as_on_disk(remote):
    (remote.bucket / "model/hyperparameters.json").put(b"{")
    with pytest.raises(CorruptArtifactError) as caught:
        remote()
    assert caught.value.where == "hyperparameters.json"
    assert "bsm-artifact-" not in str(caught.value)


def test_a_model_without_a_file_is_named_by_its_url(remote):
    (remote.bucket / "model/hyperparameters.json").unlink()
    with pytest.raises(MissingArtifactFilesError) as caught:
        remote()
    assert caught.value.where == f"{remote.bucket}/model"
    assert "bsm-artifact-" not in str(caught.value)


def test_no_shard_reads_the_table_that_it_has_sent(remote, monkeypatch):
    """The checksum is that of the file before it was sent; merging compares it with the object."""
    read, read_range = [], ObjectPath.read_range

    def counted(self, start, end):
        read.append(self.name)
        return read_range(self, start, end)

    monkeypatch.setattr(ObjectPath, "read_range", counted)
    table = remote(shard="1/2", output_format="parquet").path
    assert table.name not in read
    content = table.read_bytes()
    done = DoneShard.read(remote.out / "_SUCCESS-00001")
    assert (done.bytes, done.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_embeddings_beside_the_predictions_have_the_bytes_of_a_local_run(remote):
    whole = remote.local(window_rows=3, device="cpu", emit="embeddings").embeddings.read_bytes()
    with stopping("commit"):
        remote(emit="embeddings")
    assert not (remote.out / "inference_embeddings.parquet").exists()
    done = remote(emit="embeddings", resume="require")
    assert done.embeddings.read_bytes() == whole
    for number in range(2):
        remote(shard=f"{number}/2", emit="embeddings")
    assert main(["merge", str(remote.out)]) == 0
    assert (remote.out / "inference_embeddings.parquet").read_bytes() == whole
