"""A run that was stopped, and the same command again."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pandas as pd
import pytest
from support.toy import SITE, toy_rows

from bsm_core.backends.choose import ChosenBackends
from bsm_core.cli import main
from bsm_core.errors import (
    ArtifactError,
    BSMError,
    DataError,
    EngineError,
    MissingColumnsError,
    NothingToResumeError,
    OutputInUseError,
    SinkError,
    UsageError,
)
from bsm_core.plugins.hooks import Hooks
from bsm_core.predictor import Predictor
from bsm_core.scoring import job
from bsm_core.scoring.engines import ranks
from bsm_core.scoring.engines.callbacks import PartMaker
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.sink import Sink


class Stopped(BaseException):
    """Takes the place of a kill, in this process."""


@pytest.fixture
def stop(monkeypatch):
    """Stops the run inside the block before it writes the part of a window, or before its commit."""

    def before(window):
        context = monkeypatch.context()
        patch = context.__enter__()
        write, commit = Sink.write_part, Sink.commit

        def write_part(self, part):
            if part.window == window:
                raise Stopped
            write(self, part)

        def stopped_commit(self, *args):
            if window == "commit":
                raise Stopped
            return commit(self, *args)

        patch.setattr(Sink, "write_part", write_part)
        patch.setattr(Sink, "commit", stopped_commit)
        return context

    return before


@pytest.fixture
def stopped(data, stop):
    """Runs on 23 rows in windows of three, and stops before some window."""

    def start(window, **flags):
        context = stop(window)
        with pytest.raises(Stopped):
            data(window_rows=3, device="cpu", **flags)
        context.__exit__(None, None, None)
        return data

    return start


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def scored(monkeypatch):
    windows = []
    end = PartMaker.on_predict_batch_end

    def record(self, trainer, module, outputs, batch, *rest):
        windows.append(batch.window.index)
        end(self, trainer, module, outputs, batch, *rest)

    monkeypatch.setattr(PartMaker, "on_predict_batch_end", record)
    return windows


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("window", [0, 1, 5, 7, "commit"])
def test_the_same_command_writes_the_bytes_of_an_undisturbed_run(stopped, data, monkeypatch, format, window):
    whole = data(window_rows=3, device="cpu", output_format=format).path.read_bytes()
    stopped(window, output_format=format)
    assert not (data.out / "_SUCCESS").exists()
    failure = (data.out / "_FAILURE").read_text()
    done = 8 if window == "commit" else window
    assert (f"{min(3 * done, 23)} rows are done: with the same files and settings" in failure) == (done > 0)
    windows = scored(monkeypatch)
    again = data(window_rows=3, device="cpu", output_format=format, run_record=True)
    assert again.path.read_bytes() == whole
    assert (again.rows, again.windows) == (23, 8)
    assert windows == list(range(done, 8))
    assert listing(data.out) == ["_HEALTH", "_SUCCESS", again.path.name, "run.json"]
    record = json.loads((data.out / "run.json").read_text())
    assert record["rows"] == sum(attempt["rows"] for attempt in record["attempts"]) == 23
    assert len(record["attempts"]) == (2 if done else 1)


def test_a_run_that_resumes_has_the_backends_of_the_attempt_before_on_the_same_host_and_devices(
    stopped, data, monkeypatch
):
    given, names = [], iter(("quick", "eager", "other"))

    def choose(self, precision, backend, rows, earlier):
        given.append(earlier)
        return ChosenBackends("fp32", {"text": next(names)})

    monkeypatch.setattr(Predictor, "choose_backends", choose)
    host = socket.gethostname()
    stopped(2)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    stopped(4)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert data(window_rows=3, device="cpu").rows == 23
    assert given == [{}, {}, {"text": "quick"}]


def test_what_is_not_in_the_plan_may_change(stopped, data, monkeypatch):
    stopped(4)
    windows = scored(monkeypatch)
    assert data(window_rows=3, device="cpu", batch_size=2, backend="eager").rows == 23
    assert windows == [4, 5, 6, 7]


def test_a_partition_that_was_renamed_is_another_run(stopped, data, caplog, monkeypatch):
    """The files in it keep their names, sizes and times, and the rows have another value."""
    table = data.out.parent / "table"
    (table / "dt=1").mkdir(parents=True)
    (data.data / "t.csv").rename(table / "dt=1" / "t.csv")
    stopped(4, data_dir=table / "dt=1", keep_columns="dt")
    (table / "dt=1").rename(table / "dt=2")
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    done = data(window_rows=3, device="cpu", data_dir=table / "dt=2", keep_columns="dt")
    assert "input dt=1/t.csv: is gone; input dt=2/t.csv: is new" in caplog.text
    assert set(pd.read_csv(done.path)["dt"]) == {2}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"window_rows": 4}, "setting window_rows: was 3, is 4"),
        ({"keep_columns": "chat"}, "setting keep_columns"),
        ({"output_format": "tsv"}, "setting output_format: was csv, is tsv"),
        ({"precision": "bf16"}, "setting precision: was fp32, is bf16"),
        ({"limit": 7}, "setting limit: is new"),
    ],
)
def test_other_settings_are_another_run(stopped, data, caplog, monkeypatch, flags, words):
    stopped(4)
    windows = scored(monkeypatch)
    data(**{"window_rows": 3, "device": "cpu", **flags})
    assert len([m for m in caplog.messages if "begins anew" in m]) == 1
    assert words in caplog.text
    assert windows[0] == 0


def test_another_artifact_or_input_is_another_run(stopped, data, caplog, monkeypatch):
    stopped(4)
    path = data.artifact / "impute_dict.json"
    path.write_text(path.read_text().replace("2.0", "3.0"))
    (data.artifact / "impute_dict.pkl").unlink()
    toy_rows(2).to_csv(data.data / "u.csv", index=False)
    assert data(window_rows=3, device="cpu").rows == 25
    for words in ("artifact impute_dict.json: was", "artifact impute_dict.pkl: is gone", "input u.csv: is new"):
        assert words in caplog.text


def test_require(stopped, data):
    with pytest.raises(NothingToResumeError, match="nothing to resume"):
        data(resume="require")
    assert not data.out.exists() or listing(data.out) == []
    stopped(4)
    before = (data.out / "_FAILURE").read_text()
    with pytest.raises(NothingToResumeError, match="another one"):
        data(resume="require", window_rows=5)
    assert (data.out / "_FAILURE").read_text() == before
    assert data(resume="require", window_rows=3, device="cpu").rows == 23


def test_never_reads_no_part(stopped, data, monkeypatch):
    stopped(4)
    monkeypatch.setattr(WorkFolder, "is_whole", None)
    assert data(resume="never", window_rows=3, device="cpu").rows == 23


def test_require_finds_no_parts_that_this_run_cannot_keep(stopped, data):
    stopped(1, on_bad_row="null")
    manifest = data.out / ".bsm/manifest.jsonl"
    record = WorkFolder(data.out).records()[0]
    manifest.write_text("")
    WorkFolder(data.out).add(dataclasses.replace(record, counts={"model:rows": 1}))
    with pytest.raises(NothingToResumeError, match="nothing to resume"):
        data(resume="require", window_rows=3, device="cpu")


def test_torn_lines_spoil_no_line_that_follows(stopped, data):
    stopped(4)
    work = WorkFolder(data.out)
    for name in ("manifest.jsonl", "attempts.jsonl"):
        with (work.path / name).open("a") as file:
            file.write('{"attempt": 2, "h')
    work.keep(work.records().values())
    work.add(dataclasses.replace(work.attempts()[0], attempt=2))
    assert [attempt.attempt for attempt in work.attempts()] == [1, 2]
    assert len(work.records()) == 4


def test_without_a_plan_no_row_is_done(stopped, data):
    stopped(4)
    assert WorkFolder(data.out).rows_done() == 12
    (data.out / ".bsm/plan.json").unlink()
    assert WorkFolder(data.out).rows_done() == 0


def test_clean(stopped, data):
    stopped(4)
    with holding(data.out / ".bsm" / "lock"), pytest.raises(OutputInUseError):
        job.clean(data.out)
    reason = (data.out / "_FAILURE").read_text().partition(" (12 rows are done")[0]
    assert job.clean(data.out) == 12
    assert listing(data.out) == ["_FAILURE"]
    assert (data.out / "_FAILURE").read_text() == f"{reason}\n"
    assert job.clean(data.out) is None
    assert listing(data.out) == ["_FAILURE"]
    with pytest.raises(UsageError, match="no such folder"):
        job.clean(data.out / "x")


def test_clean_leaves_a_failure_alone_that_promises_nothing(data):
    (data.out / ".bsm").mkdir(parents=True)
    (data.out / "_FAILURE").write_text("DataError: no (line 3)\n")
    assert job.clean(data.out) == 0
    assert (data.out / "_FAILURE").read_text() == "DataError: no (line 3)\n"


def test_a_manifest_that_cannot_be_read_cannot_be_cleaned(data, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    (data.out / ".bsm").mkdir(parents=True)
    monkeypatch.setattr(WorkFolder, "rows_done", refuse)
    with pytest.raises(SinkError, match="Permission denied"):
        job.clean(data.out)


@pytest.mark.parametrize(
    ("rows", "words"), [(None, "there is no work folder"), (12, "removed the work folder: 12 rows")]
)
def test_clean_says_what_it_did(monkeypatch, capsys, tmp_path, rows, words):
    monkeypatch.setattr(job, "clean", lambda output: rows)
    assert main(["clean", str(tmp_path)]) == 0
    assert words in capsys.readouterr().out


def test_clean_of_a_folder_in_use_names_no_flag_that_it_lacks(tmp_path, capsys):
    with holding(tmp_path / ".bsm" / "lock"):
        assert main(["clean", str(tmp_path)]) == 1
    assert "To fix: wait for it or end it\n" in capsys.readouterr().err


def test_the_second_run_into_a_folder_touches_nothing(data):
    data.out.mkdir()
    (data.out / "_SUCCESS").touch()
    with holding(data.out / ".bsm" / "lock"), pytest.raises(OutputInUseError):
        data()
    assert listing(data.out) == ["_SUCCESS"]


# Never touch an input


@pytest.mark.parametrize("how", ["same", "link", "hard link"])
def test_a_run_that_would_replace_its_input_is_refused(data, how):
    data.out.mkdir()
    target = data.out / "inference_predictions.csv"
    source = data.data / "t.csv"
    content = source.read_bytes()
    if how == "same":
        source = source.rename(target)
    elif how == "link":
        target.symlink_to(source)
    else:
        os.link(source, target)
    for format in ("csv", "parquet"):
        with pytest.raises(UsageError, match="one of its inputs"):
            data(data_dir=source, output_format=format)
    assert source.read_bytes() == content
    assert listing(data.out) == [target.name]


def test_a_run_that_would_replace_a_file_of_the_artifact_is_refused(data):
    data.out.mkdir()
    (data.out / "run.json").hardlink_to(data.artifact / "model_artifacts.pth")
    with pytest.raises(UsageError, match=r"remove run\.json"):
        data()
    with pytest.raises(UsageError, match="inside the artifact"):
        data(output_dir=data.artifact / "out")


@pytest.mark.parametrize("what", ["data_dir", "model_dir"])
def test_an_input_in_the_work_folder_is_refused(data, what):
    inside = data.out / ".bsm" / "input"
    shutil.copytree(data.data if what == "data_dir" else data.artifact, inside)
    with pytest.raises(UsageError, match="would remove its input with the work folder"):
        data(**{what: inside})
    assert listing(inside)


def test_a_work_folder_that_is_a_link_is_refused(data):
    data.out.mkdir()
    (data.out / ".bsm").symlink_to(data.data)
    with pytest.raises(UsageError, match="is a link"):
        data()
    with pytest.raises(UsageError, match="is a link"):
        job.clean(data.out)
    assert listing(data.data) == ["t.csv"]


@pytest.mark.parametrize(
    "name", ["parts/part-00000004.arrow", "inference_predictions.csv", "manifest.jsonl", "../._SUCCESS.tmp"]
)
def test_a_link_among_the_files_of_a_run_is_removed_and_its_target_kept(stopped, data, name):
    stopped(4)
    content = (data.data / "t.csv").read_bytes()
    place = data.out / ".bsm" / name
    place.unlink(missing_ok=True)
    place.symlink_to(data.data / "t.csv")
    assert data(window_rows=3, device="cpu").rows == 23
    assert (data.data / "t.csv").read_bytes() == content


@pytest.mark.parametrize("place", ["data", "artifact"])
def test_wrong_usage_marks_no_input(data, place):
    folder = getattr(data, place)
    (folder / "_SUCCESS").touch()
    with pytest.raises(UsageError):
        data(output_dir=folder, window_rows=0)
    assert (folder / "_SUCCESS").exists()
    assert not (folder / "_FAILURE").exists()


def test_wrong_usage_of_the_list_of_issues_marks_the_output(data):
    data.out.mkdir()
    (data.out / "_SUCCESS").touch()
    with pytest.raises(UsageError, match="row issues would replace"):
        data(row_issues=data.out / "inference_predictions.csv")
    assert listing(data.out) == ["_FAILURE"]


def test_a_list_of_issues_that_would_replace_an_input_is_named(data, tmp_path):
    (tmp_path / "issues.csv").symlink_to(data.data / "t.csv")
    with pytest.raises(UsageError, match="choose another --row-issues"):
        data(row_issues=tmp_path / "issues.csv")


@pytest.mark.parametrize("flags", [{"id_field": "idd"}, {"keep_columns": "x"}, {"strict": True}])
def test_a_mistake_in_the_command_costs_no_part(stopped, data, flags):
    stopped(4)
    with pytest.raises(BSMError):
        data(**{"window_rows": 3, "device": "cpu", **flags})
    said = (
        "(12 rows of an earlier run are done: with its files and settings, a run goes on; `bsm clean` removes them)\n"
    )
    assert (data.out / "_FAILURE").read_text().endswith(said)
    assert data(window_rows=3, device="cpu", resume="require").rows == 23
    assert listing(data.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv"]


@pytest.mark.parametrize("flags", [{"id_field": "idd"}, {"id_field": None}, {"keep_columns": "x"}])
def test_a_run_whose_columns_are_missing_does_not_say_that_it_begins_anew(stopped, data, caplog, flags):
    stopped(4)
    with pytest.raises(MissingColumnsError):
        data({}, **{"window_rows": 3, "device": "cpu", **flags})
    assert "begins anew" not in caplog.text


def test_clean_takes_back_what_a_failure_says_of_an_earlier_run(stopped, data):
    stopped(4)
    with pytest.raises(MissingColumnsError) as caught:
        data(window_rows=3, id_field="idd")
    assert job.clean(data.out) == 12
    assert (data.out / "_FAILURE").read_text() == f"{caught.value.one_line()}\n"


def test_require_makes_no_folder(data):
    with pytest.raises(NothingToResumeError):
        data(resume="require")
    assert not data.out.exists()


@pytest.mark.parametrize("flags", [{}, {"device": "cpu", "devices": "2"}], ids=["one process", "two"])
def test_an_input_that_changes_while_it_is_read_is_named(data, monkeypatch, flags):
    commit = Sink.commit
    monkeypatch.setattr(Sink, "commit", lambda *a: pytest.fail("committed"))
    find = Sink.find

    def change(self, *arguments):
        with (data.data / "t.csv").open("a") as file:
            file.write("x,y,1,web,z\n")
        return find(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "find", change)
        with pytest.raises(DataError, match="was changed while it was read") as caught:
            data(**flags)
    assert caught.value.where == str(data.data / "t.csv")
    monkeypatch.setattr(Sink, "commit", commit)
    assert data(**flags).rows == 24


def test_an_artifact_that_changes_during_the_run_is_named(data, monkeypatch):
    find = Sink.find

    def replace(self, *arguments):
        path = data.artifact / "model.safetensors"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        return find(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "find", replace)
        with pytest.raises(ArtifactError, match=r"^model\.safetensors was changed during the run"):
            data()
    assert listing(data.out) == [".bsm", "_FAILURE"]
    assert data().rows == 23


def test_an_input_that_is_cut_off_while_it_is_read_is_named(data, monkeypatch):
    find = Sink.find

    def cut(self, *arguments):
        path = data.data / "t.csv"
        path.write_bytes(path.read_bytes()[:-9] + b'"')
        return find(self, *arguments)

    monkeypatch.setattr(Sink, "find", cut)
    with pytest.raises(DataError, match="was changed while it was read"):
        data()


def test_an_output_folder_that_is_removed_during_the_run(data, monkeypatch):
    write = Sink.write_part

    def remove(self, part):
        shutil.rmtree(self.folder)
        write(self, part)

    monkeypatch.setattr(Sink, "write_part", remove)
    with pytest.raises((SinkError, EngineError)):
        data()


@pytest.fixture
def taken_before(data, monkeypatch):
    """Lets another run take the output folder just before this run calls a function for the first time."""
    with ExitStack() as held:

        def take(owner, name):
            function = getattr(owner, name)

            def late(*args):
                monkeypatch.setattr(owner, name, function)
                shutil.rmtree(data.out)
                held.enter_context(holding(data.out / ".bsm" / "lock"))
                (data.out / ".bsm" / "manifest.jsonl").write_text("theirs")
                (data.out / "_HEALTH").write_text("theirs")
                return function(*args)

            monkeypatch.setattr(owner, name, late)

        yield take


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Sink, "find"),
        (Sink, "begin"),
        (Sink, "write_part"),
        (Sink, "commit"),
        (Sink, "new_files"),
        (Hooks, "committed"),
        (ranks, "_launch"),
    ],
)
def test_a_run_that_lost_its_folder_touches_nothing_in_it(data, taken_before, owner, name):
    taken_before(owner, name)
    with pytest.raises(SinkError, match="the folder was removed or another run took it over"):
        data(window_rows=3, device="cpu", devices="2" if owner is ranks else "1", run_record=True)
    assert listing(data.out) == [".bsm", "_HEALTH"]
    assert (data.out / "_HEALTH").read_text() == "theirs"
    assert (data.out / ".bsm" / "manifest.jsonl").read_text() == "theirs"
    assert listing(data.out / ".bsm") == ["lock", "manifest.jsonl"]


KILLED = """
import os, signal
from bsm_core.scoring.output.sink import Sink
write = Sink.write_part

def kill(self, part):
    write(self, part)
    if part.window == {window}:
        os.kill(os.getpid(), signal.SIGKILL)

Sink.write_part = kill
from bsm_core.run import main
main({arguments!r})
"""


def test_a_killed_process_leaves_parts_and_no_marker_that_lies(data):
    whole = data(window_rows=3, device="cpu").path.read_bytes()
    arguments = ["--job_type", "inference", "--id-field", "id", "--window-rows", "3", "--device", "cpu"]
    for flag, path in (("--model-dir", data.artifact), ("--data-dir", data.data), ("--output-dir", data.out)):
        arguments += [flag, str(path)]
    code = KILLED.format(window=4, arguments=arguments)
    environment = {**os.environ, "PYTHONPATH": str(SITE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert listing(data.out) == [".bsm", "inference_predictions.csv"]
    assert data(window_rows=3, device="cpu", resume="require").path.read_bytes() == whole
    assert listing(data.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv"]
