"""Jobs that several hosts share, and the merging of their predictions."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from support.toy import toy_rows

from bsm_core.cli import main
from bsm_core.errors import BSMError, ConfigError, DataError, UsageError
from bsm_core.scoring.output import shard as shards
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.merge import merge
from bsm_core.scoring.output.shard import Shard, of_container


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


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


def test_a_host_without_files_writes_a_table_without_rows(job):
    for number in range(7):
        job(shard=f"{number}/7", window_rows=4)
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
    with pytest.raises(UsageError, match="1 of 3 shards cannot be merged") as caught:
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
    with pytest.raises(UsageError, match="1 of 2 shards cannot be merged") as caught:
        merge(job.out)
    assert list(caught.value.details) == ["shard 0/2 is of another job: other files, another artifact or settings"]


def test_a_file_that_lost_rows_is_not_merged(job):
    for number in range(2):
        done = job(shard=f"{number}/2", window_rows=4)
    frame = pd.read_csv(done.path, dtype=str) if job.format == "csv" else pd.read_parquet(done.path)
    if job.format == "csv":
        frame[1:].to_csv(done.path, index=False)
    else:
        frame[1:].to_parquet(done.path)
    with pytest.raises(DataError, match="shard 1/2 wrote 22 rows"):
        merge(job.out)
    assert f"inference_predictions.{job.format}" not in listing(job.out)


def test_the_command_says_what_it_wrote(job, capsys, quiet_log):
    assert main(["merge", str(job.out)]) == 2
    assert "no such folder" in capsys.readouterr().err
    for number in range(2):
        job(shard=f"{number}/2", window_rows=4)
    assert main(["merge", str(job.out), "--output-format", "tsv"]) == 0
    assert capsys.readouterr().out == f"40 rows of all shards: {job.out}/inference_predictions.tsv\n"


def test_clean_removes_the_work_folders_of_all_shards(job):
    for number in range(2):
        work = WorkFolder(job.out, Shard(number, 2))
        work.path.mkdir(parents=True)
        work.begin({})
    assert main(["clean", str(job.out)]) == 0
    assert listing(job.out) == []


def test_row_issues_of_a_shard_are_in_a_file_of_their_own(run):
    toy_rows(6).to_csv(run.data / "a.csv", index=False)
    rows = toy_rows(6)
    rows.loc[4, "amount"] = "many"
    rows.to_csv(run.data / "b.csv", index=False)
    run(shard="1/2", row_issues=run.out.parent / "issues.csv")
    issues = pd.read_csv(run.out.parent / "issues-00001-of-00002.csv")
    assert issues["row"].tolist() == [4]


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

    def write(here, hosts, distribution=None):
        (folder / "resourceconfig.json").write_text(json.dumps({"current_host": here, "hosts": hosts}))
        source = {"LocalPath": str(tmp_path / "data"), "S3DataDistributionType": distribution}
        inputs = {"ProcessingInputs": [{"InputName": "data", "S3Input": source}]}
        (folder / "processingjobconfig.json").write_text(json.dumps(inputs if distribution else {}))
        return folder

    return write


def test_the_container_says_which_host_it_is(container, tmp_path):
    hosts = ["algo-2", "algo-1", "algo-10"]
    folder = container("algo-10", hosts)
    assert of_container(tmp_path / "data", folder) == Shard(1, 3)
    folder = container("algo-2", hosts, "ShardedByS3Key")
    assert of_container(tmp_path / "data", folder) == Shard(2, 3, divided=True)
    assert of_container(tmp_path / "other", folder) == Shard(2, 3)
    folder = container("algo-2", hosts, "FullyReplicated")
    assert of_container(tmp_path / "data", folder) == Shard(2, 3)
    assert of_container(tmp_path / "data", container("algo-1", ["algo-1"])) is None
    assert of_container(tmp_path / "data", tmp_path / "none") is None


def test_a_container_that_contradicts_itself_is_an_error(container, tmp_path):
    with pytest.raises(ConfigError, match="'algo-9' is not among the hosts"):
        of_container(tmp_path / "data", container("algo-9", ["algo-1", "algo-2"]))
    (tmp_path / "config" / "resourceconfig.json").write_text("[")
    with pytest.raises(ConfigError, match="cannot be read"):
        of_container(tmp_path / "data", tmp_path / "config")


def test_data_that_the_platform_divided_are_read_whole(run, container):
    toy_rows(5).to_csv(run.data / "a.csv", index=False)
    toy_rows(4).to_csv(run.data / "b.csv", index=False)
    container("algo-2", ["algo-1", "algo-2"], "ShardedByS3Key")
    done = run()
    assert (done.path.name, done.rows) == ("inference_predictions-00001-of-00002.csv", 9)
