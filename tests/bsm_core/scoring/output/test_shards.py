"""Jobs that several hosts share, and the merging of their predictions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.processes import python
from support.toy import toy_rows

from bsm_core.cli import main
from bsm_core.errors import BSMError, ConfigError, DataError, OutputInUseError, SinkError, UsageError
from bsm_core.runtime import durable
from bsm_core.scoring.dry_run import dry_run
from bsm_core.scoring.job import clean
from bsm_core.scoring.output import shard as shards
from bsm_core.scoring.output.done_shard import DoneShard
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import Markers, leftovers
from bsm_core.scoring.output.merge import mark_job, merge
from bsm_core.scoring.output.shard import Shard, of_container


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def raises(error):
    """A function that raises an error."""

    def refuse(*args, **kwargs):
        raise error

    return refuse


@pytest.fixture(params=["csv", "parquet"])
def job(run, request):
    """A job of five files; the bytes of one run over all of them are in ``whole``."""
    rows = toy_rows(40)
    for number, (begin, end) in enumerate([(0, 9), (9, 10), (10, 10), (10, 31), (31, 40)]):
        part = rows[begin:end]
        if request.param == "csv":
            part.to_csv(run.data / f"{number}.csv", index=False)
        else:
            part.to_parquet(run.data / f"{number}.parquet")
    whole = run(output_dir=run.out.parent / "whole", window_rows=4)
    run.whole, run.format = whole.path.read_bytes(), request.param
    return run


def test_the_shards_of_a_job_are_merged_to_the_bytes_of_one_run(job):
    for number in (2, 0, 1):
        assert not (job.out / "_SUCCESS").exists()
        done = job(shard=f"{number}/3", window_rows=4, run_record=True)
        assert done.path.name == f"inference_predictions-0000{number}-of-00003.{job.format}"
    names = [f"{name}-0000{i}" for i in range(3) for name in ("_HEALTH", "_SUCCESS")]
    tables = [f"inference_predictions-0000{i}-of-00003.{job.format}" for i in range(3)]
    assert listing(job.out) == sorted(["_SUCCESS", *names, *tables, *(f"run-0000{i}.json" for i in range(3))])
    path, rows = merge(job.out)
    assert (path.name, rows) == (f"inference_predictions.{job.format}", 40)
    assert path.read_bytes() == job.whole
    assert {"_SUCCESS", "_HEALTH"} < set(listing(job.out))


def test_a_host_without_files_says_so_and_writes_a_table_without_rows(job, caplog):
    for number in range(7):
        job(shard=f"{number}/7", window_rows=4)
    said = [f"shard {number}/7 has none" in caplog.text for number in range(7)]
    assert said == [False] * 5 + [True] * 2
    assert len(merge(job.out)[0].read_bytes()) == len(job.whole)


def test_a_shard_that_failed_is_named_and_run_again(job, monkeypatch):
    for number in (0, 2):
        job(shard=f"{number}/3", window_rows=4)
    with monkeypatch.context() as patch:
        patch.setattr("bsm_core.scoring.engines.finish.run_record", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job(shard="1/3", window_rows=4)
    assert "_FAILURE-00001" in listing(job.out)
    assert "_SUCCESS" not in listing(job.out)
    with pytest.raises(UsageError, match="the 3 shards cannot be merged: 1 are not done") as caught:
        merge(job.out)
    assert caught.value.details[0].startswith("shard 1/3 is not done: ZeroDivisionError: division by zero (")
    done = job(shard="1/3", window_rows=4, resume="require")
    assert done.rows == 10
    assert merge(job.out)[0].read_bytes() == job.whole


def test_shards_of_different_jobs_are_not_merged(job):
    job(shard="0/2", window_rows=4)
    last = job.data / f"4.{job.format}"
    last.rename(last.with_name(f"5.{job.format}"))
    job(shard="1/2", window_rows=4)
    assert "_SUCCESS" not in listing(job.out)
    with pytest.raises(UsageError, match="the 2 shards cannot be merged") as caught:
        merge(job.out)
    assert list(caught.value.details) == ["shard 0/2 is of another job: other files, another artifact or settings"]


def test_a_file_that_was_changed_is_not_merged(job):
    for number in range(2):
        done = job(shard=f"{number}/2", window_rows=4)
    merge(job.out)
    with done.path.open("r+b") as file:
        file.seek(-20, 2)
        file.write(b"1")
    with pytest.raises(DataError, match="shard 1/2: the file was changed after the shard was done"):
        merge(job.out)
    assert "_SUCCESS" not in listing(job.out)
    done.path.unlink()
    with pytest.raises(DataError, match="shard 1/2: the file cannot be read: No such file"):
        merge(job.out)


def test_the_last_host_looks_at_the_files_of_the_others(job):
    done = job(shard="0/2", window_rows=4)
    done.path.write_bytes(done.path.read_bytes()[:-1])
    job(shard="1/2", window_rows=4)
    assert "_SUCCESS" not in listing(job.out)


def test_the_command_says_what_it_wrote(job, capsys, quiet_log):
    assert main(["merge", str(job.out)]) == 2
    assert "no such folder" in capsys.readouterr().err
    for number in range(2):
        job(shard=f"{number}/2", window_rows=4)
    assert main(["merge", str(job.out)]) == 0
    assert capsys.readouterr().out == f"40 rows of all shards: {job.out}/inference_predictions.{job.format}\n"


def test_no_shard_is_scored_while_the_shards_are_merged_and_the_other_way_round(job):
    for number in range(2):
        job(shard=f"{number}/2", window_rows=4)
    before = listing(job.out)
    with holding(WorkFolder(job.out, Shard(1, 2)).lock), pytest.raises(OutputInUseError):
        merge(job.out)
    assert listing(job.out) == before


def test_a_shard_that_was_scored_again_before_the_locks_are_held(job, monkeypatch):
    for number in range(2):
        job(shard=f"{number}/2", window_rows=4)

    def hold(*args):
        Markers(job.out, Shard(1, 2)).clear()
        return holding(*args)

    monkeypatch.setattr("bsm_core.scoring.output.manifest.holding", hold)
    with pytest.raises(UsageError, match="1 are not done"):
        merge(job.out)


def test_a_merge_that_fails_leaves_what_was_there(job, monkeypatch):
    for number in range(2):
        job(shard=f"{number}/2", window_rows=4)
    before = listing(job.out)
    with monkeypatch.context() as patch:
        patch.setattr("bsm_core.tables.write.TableWriter.write", raises(OSError(28, "No space left on device")))
        with pytest.raises(SinkError, match="No space left"):
            merge(job.out)
    assert listing(job.out) == before
    assert merge(job.out)[0].read_bytes() == job.whole


KILLED = """
import os, signal, sys
from pathlib import Path
from bsm_core.runtime import durable
from bsm_core.scoring.job import clean
from bsm_core.scoring.output.merge import merge
durable.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
merge(Path(sys.argv[1]))
"""


def test_one_of_three_shards_fails_and_the_merge_is_killed_and_all_is_as_in_one_run(run, monkeypatch):
    """With row issues, and an output folder whose name looks like a partition."""
    rows = toy_rows(40)
    rows.loc[[3, 11, 25, 39], "amount"] = "many"
    for number, (begin, end) in enumerate([(0, 9), (9, 10), (10, 10), (10, 31), (31, 40)]):
        rows[begin:end].to_csv(run.data / f"{number}.csv", index=False)
    out = run.out.parent / "dt=2026-01-31"
    flags = {"window_rows": 4, "max_bad_rows": 4}
    one = run(output_dir=run.out, row_issues=run.out / "issues.csv.gz", **flags).path.read_bytes()
    flags |= {"output_dir": out, "row_issues": out / "issues.csv.gz"}
    run(shard="0/3", **flags)
    with monkeypatch.context() as patch:
        patch.setattr("bsm_core.scoring.output.sink.Sink.commit", raises(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            run(shard="1/3", **flags)
    run(shard="2/3", **flags)
    assert not (out / "_SUCCESS").exists()
    run(shard="1/3", resume="require", **flags)
    shards = [f"inference_predictions-0000{i}-of-00003.csv" for i in range(3)]
    issues = [f"issues-0000{i}-of-00003.csv.gz" for i in range(3)]
    names = sorted(["_SUCCESS", *shards, *issues, *(f"{n}-0000{i}" for n in ("_SUCCESS", "_HEALTH") for i in range(3))])
    assert listing(out) == names
    assert python("-c", KILLED, out).returncode == -signal.SIGKILL
    assert [name for name in listing(out) if not name.startswith(".bsm")] == names
    assert merge(out)[0].read_bytes() == one
    assert listing(out) == sorted([*names, "_HEALTH", "inference_predictions.csv"])
    found = pd.concat([pd.read_csv(out / name, dtype=str) for name in issues])
    expected = pd.read_csv(run.out / "issues.csv.gz", dtype=str)
    columns = ["id", "column", "stage", "reason", "value"]  # not the number of the row, which is that in the shard
    assert found.sort_values("id")[columns].values.tolist() == expected[columns].values.tolist()


# Markers of the whole job


def done_shards(folder, hosts=2, job="j"):
    """Files and markers of shards that are done."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(hosts):
        shard = Shard(number, hosts)
        path = folder / f"inference_predictions{shard.name}.csv"
        path.write_text("id\n")
        found.append(DoneShard(shard, job, path.name, [0], 3, hashlib.sha256(b"id\n").hexdigest(), "2026-01-31"))
        Markers(folder, shard).succeed(None, found[-1].text())
    return found


def test_two_hosts_that_are_done_at_the_same_time_both_mark_the_job(tmp_path, monkeypatch):
    one, other = done_shards(tmp_path)
    replace = durable.replace

    def meanwhile(temporary, path):
        monkeypatch.setattr(durable, "replace", replace)
        assert mark_job(tmp_path, other)
        replace(temporary, path)

    monkeypatch.setattr(durable, "replace", meanwhile)
    assert mark_job(tmp_path, one)
    assert (tmp_path / "_SUCCESS").exists()
    assert not [name for name in listing(tmp_path) if name.endswith(".tmp")]


def test_a_shard_that_is_scored_again_while_another_host_marks_the_job(tmp_path, monkeypatch):
    one, other = done_shards(tmp_path)
    replace = durable.replace

    def meanwhile(temporary, path):
        Markers(tmp_path, other.shard).clear()
        replace(temporary, path)

    monkeypatch.setattr(durable, "replace", meanwhile)
    assert not mark_job(tmp_path, one)
    assert not (tmp_path / "_SUCCESS").exists()


def test_a_shard_is_done_even_if_the_marker_of_the_job_cannot_be_written(job, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    monkeypatch.setattr(Markers, "succeed_of_job", raises(OSError(30, "Read-only file system")))
    job(shard="0/1", window_rows=4)
    assert "_SUCCESS-00000" in listing(job.out)
    assert "_SUCCESS of all shards could not be written" in caplog.text


def test_nothing_of_earlier_jobs_stands_beside_the_marker_of_a_job(job):
    done_shards(job.out, hosts=4)
    stale = [
        "inference_predictions.csv",
        "inference_predictions.parquet",
        "_SUCCESS",
        "_HEALTH",
        "_FAILURE",
        "run.json",
    ]
    for name in stale:
        (job.out / name).write_text("of an earlier job")
    (job.out / "notes-00000-of-00004.csv").write_text("of somebody else")
    job(shard="1/2", window_rows=4)
    assert not {"_SUCCESS", "_HEALTH", "_FAILURE", "run.json"}.intersection(listing(job.out))
    with pytest.raises(UsageError, match="cannot be merged") as caught:
        merge(job.out)
    assert [line.partition(":")[0] for line in caught.value.details] == [
        "shard 0/4 is of another job",
        "shard 2/4 is of another job",
        "shard 3/4 is of another job",
    ]
    assert caught.value.details[-1].endswith("; remove _SUCCESS-00003")
    job(shard="0/2", window_rows=4)
    tables = [f"inference_predictions-0000{i}-of-00002.{job.format}" for i in range(2)]
    markers = [f"{name}-0000{i}" for name in ("_SUCCESS", "_HEALTH") for i in range(2)]
    assert listing(job.out) == sorted(["_SUCCESS", *tables, *markers, "notes-00000-of-00004.csv"])
    merge(job.out)
    (job.out / "_SUCCESS-00000").write_text("{")  # none of ours
    job(shard="1/2", window_rows=4)
    assert "_SUCCESS" not in listing(job.out)


@pytest.mark.parametrize(
    "other",
    [
        {"rows": ["many"]},
        {"rows": 7},
        {"rows": [-1]},
        {"output": "../inference_predictions-00000-of-00002.csv"},
        {"output": "_SUCCESS-00001"},
        {"shard": [1, 2, False, ""]},
        {"shard": ["0", 2, False, ""]},
        {"finished": 7},
        {"more": 7},
    ],
)
def test_a_marker_that_bsm_did_not_write_is_none(tmp_path, other):
    done, _ = done_shards(tmp_path)
    path = tmp_path / "_SUCCESS-00000"
    assert DoneShard.read(path) == done
    path.write_text(json.dumps(json.loads(path.read_text()) | other))
    assert DoneShard.read(path) is None
    with pytest.raises(UsageError, match="cannot be merged") as caught:
        merge(tmp_path)
    assert list(caught.value.details) == ["shard 0/2 is not done"]


def test_a_run_without_shards_replaces_those_of_an_earlier_job(job):
    done_shards(job.out, hosts=3)
    path = job(window_rows=4).path
    assert listing(job.out) == sorted(["_HEALTH", "_SUCCESS", path.name])


@pytest.mark.parametrize("shard", [None, "0/1"])
def test_leftovers_that_somebody_else_removes_meanwhile_are_no_error(job, monkeypatch, shard):
    done_shards(job.out, hosts=3)

    def found(*args):
        paths = leftovers(*args)
        for path in paths:
            path.unlink()
        return paths

    monkeypatch.setattr("bsm_core.scoring.output.markers.leftovers", found)
    job(window_rows=4, shard=shard)
    assert "_SUCCESS" in listing(job.out)
    assert not list(job.out.glob("*-of-00003.csv"))


def test_the_same_file_downloaded_at_another_time_is_the_same(job):
    job(shard="0/2", window_rows=4)
    for file in job.data.iterdir():
        os.utime(file, (1, 1))
    job(shard="1/2", window_rows=4)
    assert "_SUCCESS" in listing(job.out)


def test_wrong_usage_of_a_shard_is_in_its_own_marker(job, capsys, quiet_log):
    done_shards(job.out)
    with pytest.raises(UsageError):
        job(shard="1/2", batch_size="x")
    assert {"_SUCCESS-00000", "_FAILURE-00001"} <= set(listing(job.out))
    assert not {"_FAILURE", "_SUCCESS-00001"}.intersection(listing(job.out))
    places = ["--output-dir", str(job.out), "--data-dir", str(job.data), "--model-dir", str(job.artifact)]
    with pytest.raises(SystemExit):
        main(["run", "--job_type", "inference", "--nothing", *places, "--shard", "0/2"])
    assert "_FAILURE-00000" in listing(job.out)
    with pytest.raises(UsageError):
        job(shard="2/2")
    assert "should be I/N" in (job.out / "_FAILURE").read_text()


def test_clean_removes_the_work_folders_of_all_shards(job):
    for number in range(2):
        work = WorkFolder(job.out, Shard(number, 2))
        work.path.mkdir(parents=True)
        work.begin({})
    assert main(["clean", str(job.out)]) == 0
    assert listing(job.out) == []


def test_files_of_other_shards_are_not_said_to_be_passed_over(run, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    caplog.set_level(logging.INFO, "bsm")
    for number in range(4):
        toy_rows(3).to_csv(run.data / f"export00{number}", index=False)
    run(shard="1/2")
    assert "are read because of their names" in caplog.text
    assert "were ignored" not in caplog.text


def test_nothing_is_removed_while_a_shard_is_scored(job):
    for number in range(2):
        work = WorkFolder(job.out, Shard(number, 2))
        work.path.mkdir(parents=True)
        work.begin({})
    with holding(WorkFolder(job.out, Shard(1, 2)).lock), pytest.raises(OutputInUseError):
        clean(job.out)
    assert [WorkFolder(job.out, Shard(number, 2)).plan() for number in range(2)] == [{}, {}]


def test_row_issues_of_a_shard_are_in_a_file_of_their_own(run):
    toy_rows(6).to_csv(run.data / "a.csv", index=False)
    rows = toy_rows(6)
    rows.loc[4, "amount"] = "many"
    rows.to_csv(run.data / "b.csv", index=False)
    run(shard="1/2", row_issues=run.out.parent / "issues.csv")
    issues = pd.read_csv(run.out.parent / "issues-00001-of-00002.csv")
    assert issues["row"].tolist() == [4]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("issues.csv", "issues-00001-of-00002.csv"),
        ("a.b/my.issues.CSV.gz", "a.b/my.issues-00001-of-00002.CSV.gz"),
        ("issues.2026.parquet", "issues.2026-00001-of-00002.parquet"),
    ],
)
def test_the_name_of_a_table_of_a_shard(name, own):
    assert Shard(1, 2).own(Path(name)) == Path(own)


@pytest.mark.parametrize("text", ["3/3", "1", "-1/3", "a/b", "1/0", "1 of 3"])
def test_a_shard_is_a_number_below_that_of_the_hosts(run, text):
    with pytest.raises(BSMError, match="should be I/N"):
        run(shard=text)


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Writes the configuration of a container."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setattr(shards, "CONFIG", folder)

    def write(here, hosts, *distributions, arn="arn:aws:sagemaker:eu-west-1:1:processing-job/j", local="data"):
        (folder / "resourceconfig.json").write_text(json.dumps({"current_host": here, "hosts": hosts}))
        inputs = [
            {"InputName": "data", "S3Input": {"LocalPath": str(tmp_path / local), "S3DataDistributionType": each}}
            for each in distributions
        ]
        model = {"S3Input": {"LocalPath": str(tmp_path / "model"), "S3DataDistributionType": "FullyReplicated"}}
        job = {"ProcessingJobArn": arn, "ProcessingInputs": [model, *inputs]}
        (folder / "processingjobconfig.json").write_text(json.dumps(job))
        return folder

    return write


def test_the_container_says_which_host_it_is(container, tmp_path):
    hosts, arn = ["algo-2", "algo-1", "algo-10"], "arn:aws:sagemaker:eu-west-1:1:processing-job/j"
    folder = container("algo-10", hosts)
    assert of_container(tmp_path / "data", folder) == Shard(1, 3)
    folder = container("algo-2", hosts, "ShardedByS3Key")
    assert of_container(tmp_path / "data", folder) == Shard(2, 3, True, arn)
    assert of_container(tmp_path / "data" / "*.csv", folder) == Shard(2, 3, True, arn)
    assert of_container(tmp_path, container("algo-2", hosts)) == Shard(2, 3)
    assert of_container(tmp_path / "other", folder) == Shard(2, 3)
    folder = container("algo-2", hosts, "ShardedByS3Key", local="data/part")
    assert of_container(tmp_path / "data", folder) == Shard(2, 3, True, arn)
    folder = container("algo-2", hosts, "FullyReplicated")
    assert of_container(tmp_path / "data", folder) == Shard(2, 3)
    assert of_container(tmp_path / "data", container("algo-1", ["algo-1"])) is None
    assert of_container(tmp_path / "data", tmp_path / "none") is None


def test_data_of_a_definition_of_a_data_set_are_divided_too(container, tmp_path):
    folder = container("algo-1", ["algo-1", "algo-2"])
    given = {"LocalPath": str(tmp_path / "data"), "DataDistributionType": "ShardedByS3Key"}
    job = {"ProcessingInputs": [{"InputName": "a", "DatasetDefinition": given}]}
    (folder / "processingjobconfig.json").write_text(json.dumps(job))
    assert of_container(tmp_path / "data", folder) == Shard(0, 2, True)


def test_data_of_which_a_part_is_divided_are_an_error(container, tmp_path):
    folder = container("algo-1", ["algo-1", "algo-2"], "ShardedByS3Key", "FullyReplicated")
    with pytest.raises(ConfigError, match="a part of some inputs in the data folder"):
        of_container(tmp_path / "data", folder)


@pytest.mark.parametrize(
    ("resources", "job", "said"),
    [
        ("[", "{}", "cannot be read"),
        ("[]", "{}", "is no JSON object"),
        ('{"hosts": 2}', "{}", "hosts is no list of names"),
        ('{"hosts": ["a", 1], "current_host": "a"}', "{}", "hosts is no list of names"),
        ('{"hosts": ["a", "b"], "current_host": "c"}', "{}", "'c' is not among the hosts"),
        ('{"hosts": ["a", "b"], "current_host": "a"}', "null", "is no JSON object"),
        ('{"hosts": ["a", "b"], "current_host": "a"}', '{"ProcessingInputs": [1]}', "another form"),
        ('{"hosts": ["a", "b"], "current_host": "a"}', '{"ProcessingInputs": [{"S3Input": {"LocalPath": 1}}]}', "form"),
        ("[" * 100_000, "{}", "cannot be read"),
    ],
)
def test_a_container_that_contradicts_itself_is_an_error(run, container, tmp_path, resources, job, said):
    container("algo-1", [])
    run.out.mkdir()
    (tmp_path / "config" / "resourceconfig.json").write_text(resources)
    (tmp_path / "config" / "processingjobconfig.json").write_text(job)
    with pytest.raises(ConfigError, match=said):
        run()
    assert said in (run.out / "_FAILURE").read_text()


def test_data_that_the_platform_divided_are_read_whole(run, container):
    """The hosts have files of the same names, in formats of their own that come out alike."""
    hosts, rows = ["algo-1", "algo-2"], toy_rows(9)
    one = run.data.parent / "whole"
    one.mkdir()
    rows.to_csv(one / "all.csv", index=False)
    expected = run(data_dir=one, output_dir=one.parent / "one", window_rows=3).path.read_bytes()
    for number, (begin, end) in enumerate([(0, 4), (4, 9)]):
        container(hosts[number], hosts, "ShardedByS3Key")
        rows[begin:end].to_csv(run.data / "part.csv", index=False, sep=",;"[number])
        if number:
            header = (run.data / "part.csv").read_text()
            (run.data / "part.csv").write_text(f"sep=;\n{header}")
        done = run(window_rows=3)
    assert (done.path.name, done.rows) == ("inference_predictions-00001-of-00002.csv", 5)
    assert "_SUCCESS" in listing(run.out)
    assert merge(run.out)[0].read_bytes() == expected
    container("algo-1", hosts, "ShardedByS3Key", arn="arn:another")
    run(window_rows=3)
    assert "_SUCCESS" not in listing(run.out)
    with pytest.raises(UsageError, match="cannot be merged"):
        merge(run.out)


def test_a_host_to_which_the_platform_gave_no_files_has_nothing_to_do(run, container):
    hosts, places = ["algo-1", "algo-2", "algo-3"], [run.data / "*.parquet", run.data, run.data / "gone"]
    for number, place in enumerate(places):
        container(hosts[number], hosts, "ShardedByS3Key")
        if number == 1:
            toy_rows(9).to_parquet(run.data / "part.parquet")
        assert run(data_dir=place, window_rows=3).rows == (9 if number == 1 else 0)
    (run.data.parent / "config" / "resourceconfig.json").unlink()
    expected = run(output_dir=run.out.parent / "one", window_rows=3).path.read_bytes()
    markers = [f"{name}-0000{i}" for name in ("_SUCCESS", "_HEALTH") for i in range(3)]
    assert listing(run.out) == sorted(["_SUCCESS", *markers, "inference_predictions-00001-of-00003.parquet"])
    assert merge(run.out)[0].read_bytes() == expected


@pytest.mark.parametrize("place", [".", "gone", "*.parquet"])
def test_a_dry_run_of_a_host_without_files_succeeds_as_its_run_does(run, container, place):
    container("algo-2", ["algo-1", "algo-2"], "ShardedByS3Key")
    places = {"model_dir": run.artifact, "data_dir": run.data / place, "output_dir": run.out}
    outline = dry_run({**places, "id_field": "id", "device": "cpu"}, {})
    assert (outline.rows, outline.files) == (0, "the platform has given this host none")
    assert outline.output == str(run.out / "_SUCCESS-00001")
    assert dict(outline.entries())["model"].endswith("(toy_model)")
    assert not run.out.exists()


def test_a_job_of_which_no_host_has_files_has_nothing_to_merge(run, container):
    hosts = ["algo-1", "algo-2"]
    for host in hosts:
        container(host, hosts, "ShardedByS3Key")
        run()
    with pytest.raises(UsageError, match="no shard has a table"):
        merge(run.out)


@pytest.fixture
def divided(run, container):
    """Runs two hosts, each with a Parquet file whose kept column ``note`` has values of its own."""

    def start(*notes, **flags):
        hosts = ["algo-1", "algo-2"]
        for host, values in zip(hosts, notes, strict=True):
            container(host, hosts, "ShardedByS3Key")
            rows = pa.Table.from_pandas(toy_rows(len(values)), preserve_index=False)
            pq.write_table(rows.append_column("note", values), run.data / "part.parquet")
            run(keep_columns="note", **flags)
        return run.out

    return start


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, 2, 3]), pa.array(["007", "010", "3"])),
        (pa.array([1, 2, 3]), pa.array([4.0, 5.0])),
        (pa.array(["1", "2"]), pa.array([4.0, 5.0])),
        (pa.array([1, 2], pa.int32()), pa.array([1, 2**40])),
        (pa.array([1, 2]), pa.array([True, False])),
        (pa.array([0, 1], pa.timestamp("ms")), pa.array([0, 1], pa.timestamp("ns"))),
    ],
)
def test_values_of_one_type_never_become_those_of_another(divided, caplog, monkeypatch, one, other):
    """One run over both files is refused. So is the merging, and ``_SUCCESS`` of the job does not promise it."""
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    out = divided(one, other)
    assert {"_SUCCESS-00000", "_SUCCESS-00001"} < set(listing(out))
    assert "_SUCCESS" not in listing(out)
    said = f"column 'note' has type {other.type}, but {one.type} in earlier files"
    assert f"all shards are done, but they cannot be merged: DataError: {said}" in caplog.text
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        merge(out)
    assert caught.value.where == str(out / "inference_predictions-00001-of-00002.parquet")
    assert "inference_predictions.parquet" not in listing(out)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.nulls(2), pa.array(["007", None])),
        (pa.array(["007", None]), pa.nulls(2)),
        (pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "c"]).cast(pa.dictionary(pa.int8(), pa.string()))),
    ],
)
def test_types_that_fit_in_one_run_fit_in_shards(divided, run, one, other):
    out = divided(one, other)
    assert "_SUCCESS" in listing(out)
    merged = pq.read_table(merge(out)[0])
    (run.data.parent / "config" / "resourceconfig.json").unlink()
    for name, notes in (("a", one), ("b", other)):
        rows = pa.Table.from_pandas(toy_rows(2), preserve_index=False).append_column("note", notes)
        pq.write_table(rows, run.data / f"{name}.parquet")
    (run.data / "part.parquet").unlink()
    whole = pq.read_table(run(keep_columns="note", output_dir=run.out.parent / "whole").path)
    assert merged.schema == whole.schema
    assert merged["note"].to_pylist() == whole["note"].to_pylist()


def test_as_text_values_of_several_types_stay_what_they_are(divided):
    out = divided(pa.array([1, 2]), pa.array(["007", "3"]), output_format="csv")
    assert "_SUCCESS" in listing(out)
    assert pd.read_csv(merge(out)[0], dtype=str)["note"].tolist() == ["1", "2", "007", "3"]


def test_shards_with_other_columns_are_not_marked_as_a_job(run, container, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    hosts = ["algo-1", "algo-2"]
    for number, host in enumerate(hosts):
        container(host, hosts, "ShardedByS3Key")
        toy_rows(3).assign(**{f"more{number}": 1}).to_csv(run.data / "part.csv", index=False)
        run(keep_columns="all")
    assert "_SUCCESS" not in listing(run.out)
    assert "cannot be merged: DataError: another format or other columns" in caplog.text
    with pytest.raises(DataError, match="another format or other columns"):
        merge(run.out)
