"""``bsm run --dry-run``, ``--limit`` and ``--config``, as commands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil

import pandas as pd
import pytest
from support.toy import toy_rows

import bsm_core
from bsm_core import cli
from bsm_core.errors import ArtifactError, MissingColumnsError, OutputInUseError, SinkError, UsageError
from bsm_core.scoring.dry_run import dry_run
from bsm_core.scoring.output.manifest import WorkFolder

pytestmark = pytest.mark.usefixtures("quiet_log")


@pytest.fixture
def flags(toy_artifact, tmp_path):
    """Flags of a run on nine rows."""
    toy_rows(9).to_parquet(tmp_path / "t.parquet")
    places = {"model_dir": toy_artifact, "data_dir": tmp_path / "t.parquet", "output_dir": tmp_path / "out"}
    return {"id_field": "id", "device": "cpu", **{name: str(path) for name, path in places.items()}}


def words(flags):
    return [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]


def everything(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_a_dry_run_returns_the_plan_and_writes_nothing(flags, tmp_path):
    before = everything(tmp_path)
    outline = dry_run({**flags, "row_issues": str(tmp_path / "i.csv")}, {})
    assert everything(tmp_path) == before
    assert (outline.rows, outline.window_rows, outline.files) == (9, 4096, "1 parquet file(s)")
    assert (outline.model_class, outline.precision, outline.kept) == ("toy_model", "fp32", ["id"])
    assert outline.output == str(tmp_path / "out/inference_predictions.parquet")
    assert outline.provided["model class toy_model"] == "toy-bsm 1.0"
    assert dry_run({**flags, "limit": "4"}, {}).rows == 4


def test_the_command_prints_the_plan(flags, tmp_path, capsys):
    assert cli.main(["run", "--dry-run", *words(flags)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("all checks passed; no row was scored, and no output was written\n")
    assert "\nrows: 9 in 1 window(s), 4,096 at a time\n" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"id_field": "idd"}, MissingColumnsError),
        ({"keep_columns": "nope"}, MissingColumnsError),
        ({"model_dir": "/nope"}, ArtifactError),
        ({"backend": "nope"}, UsageError),
        ({"output_dir": "/dev/null/x"}, SinkError),
        ({"row_issues": "/dev/null/x/i.csv"}, SinkError),
        ({"num_actors": "2"}, UsageError),
    ],
)
def test_a_dry_run_fails_where_the_run_would(flags, tmp_path, changes, kind):
    before = everything(tmp_path)
    with pytest.raises(kind):
        dry_run({**flags, **changes}, {})
    assert everything(tmp_path) == before


def test_a_dry_run_says_that_another_run_writes_there(flags, tmp_path):
    (tmp_path / "out").mkdir()
    with WorkFolder(tmp_path / "out").held(), pytest.raises(OutputInUseError):
        dry_run(flags, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_dry_run_finds_a_folder_that_cannot_be_written(flags, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(SinkError, match="Permission denied"):
        dry_run(flags, {})


def test_a_dry_run_finds_a_report_that_cannot_be_written(flags, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(SinkError, match="directory"):
        dry_run({**flags, "report": tmp_path / "page.html"}, {})


def test_a_limit_scores_the_first_rows_as_the_whole_run_does(flags, tmp_path, capsys):
    assert cli.main(["run", *words(flags), "--window-rows", "2", "--limit", "5"]) == 0
    first = pd.read_parquet(tmp_path / "out/inference_predictions.parquet")
    assert cli.main(["run", *words(flags), "--window-rows", "2"]) == 0
    whole = pd.read_parquet(tmp_path / "out/inference_predictions.parquet")
    pd.testing.assert_frame_equal(first, whole[:5])
    assert len(whole) == 9


def test_a_file_of_flags_and_flags_that_beat_it(flags, tmp_path, capsys):
    lines = [f"{name} = {json.dumps(value)}" for name, value in flags.items()]
    (tmp_path / "run.toml").write_text("\n".join([*lines, "limit = 7", 'log-format = "json"', "run-record = true"]))
    assert cli.main(["run", "--config", str(tmp_path / "run.toml"), "--limit", "3"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["rows"] for line in said if line.get("event") == "finished"] == [3]
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["settings"]["limit"], record["settings"]["run_record"]) == (3, True)


def test_a_file_that_cannot_be_used_leaves_a_failure_where_the_flags_say(flags, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "run.toml").write_text("nope = 1")
    assert cli.main(["run", *words(flags), "--config", str(tmp_path / "run.toml")]) == 2
    assert "keys that are no flags" in capsys.readouterr().err
    assert "keys that are no flags" in (tmp_path / "out/_FAILURE").read_text()
    shutil.rmtree(tmp_path / "out")


BAD_FILES = ["nope = 1", "quiet = 3", "job_type = 'testing'\njob-type = 'testing'", "limit = true"]


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_file_that_cannot_be_used_leaves_a_failure_where_the_file_says(flags, tmp_path, capsys, text):
    write_success(tmp_path / "out")
    lines = [f"{name} = {json.dumps(value)}" for name, value in flags.items()]
    (tmp_path / "run.toml").write_text("\n".join([*lines, "log-format = 'json'", text]))
    assert cli.main(["run", "--config", str(tmp_path / "run.toml")]) == 2
    assert names(tmp_path / "out") == ["_FAILURE"]
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())  # as the file says
    assert (line["level"], line["error"]) == ("ERROR", "UsageError")


def names(folder):
    return [path.name for path in folder.iterdir()]


def write_success(folder):
    folder.mkdir()
    (folder / "_SUCCESS").touch()


@pytest.mark.parametrize("words", [["--limt", "4"], ["--engine", "spark"], ["--limit"], ["--log-format"]])
@pytest.mark.parametrize("place", ["flag", "file"])
def test_wrong_usage_leaves_no_success_of_an_earlier_run(flags, tmp_path, capsys, words, place):
    write_success(tmp_path / "out")
    (tmp_path / "run.toml").write_text(f"output-dir = {json.dumps(flags['output_dir'])}")
    given = ["--output-dir", flags["output_dir"]] if place == "flag" else ["--config", str(tmp_path / "run.toml")]
    with pytest.raises(SystemExit) as caught:
        cli.main(["--quiet", "run", *given, *words])
    assert caught.value.code == 2
    assert names(tmp_path / "out") == ["_FAILURE"]
    assert words[0] in (tmp_path / "out/_FAILURE").read_text()


def test_wrong_usage_of_another_command_marks_nothing(tmp_path, capsys):
    write_success(tmp_path / "out")
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "run", "--output-dir", str(tmp_path / "out")])
    assert names(tmp_path / "out") == ["_SUCCESS"]


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["--dry-run", "--nope"], None),
        (["--dry-run", "--device"], None),
        (["--dry-run"], "nope = 1"),
        (["--dry-run"], "nope ="),
        ([], "dry-run = true\nnope = 1"),
    ],
)
def test_a_dry_run_marks_nothing_whatever_is_wrong(flags, tmp_path, capsys, words, file):
    write_success(tmp_path / "out")
    (tmp_path / "run.toml").write_text(file or "")
    given = ["run", "--output-dir", flags["output_dir"], "--config", str(tmp_path / "run.toml"), *words]
    with contextlib.suppress(SystemExit):
        assert cli.main(given) == 2
    assert names(tmp_path / "out") == ["_SUCCESS"]


def test_a_file_of_ten_thousand_brackets_is_no_toml(flags, tmp_path, capsys):
    write_success(tmp_path / "out")
    (tmp_path / "deep.toml").write_text(f"a = {'[' * 10_000}{']' * 10_000}")
    assert cli.main(["run", "--output-dir", flags["output_dir"], "--config", str(tmp_path / "deep.toml")]) == 2
    assert "is not TOML" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["_FAILURE"]


@pytest.mark.parametrize("name", ["output_dir", "data_dir", "model_dir"])
def test_an_empty_path_is_an_error_and_means_no_folder(flags, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a path is empty"):
        bsm_core.run(**{**flags, name: ""})
    assert not (tmp_path / "inference_predictions.csv").exists()


def test_data_that_are_no_path_are_an_error(flags):
    with pytest.raises(UsageError, match="data_dir"):
        bsm_core.run(**{**flags, "data_dir": pd.DataFrame({"id": [1]})})
