"""The command line: what it accepts, and what becomes of errors. What a run does is in test_job.py."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import pytest
from support.toy import toy_rows

from bsm_core import Settings
from bsm_core.cli.commands.run_command import GROUPS
from bsm_core.cli.exit_status import exit_status
from bsm_core.errors import DataError, UsageError
from bsm_core.run import main
from bsm_core.scoring import job
from bsm_core.scoring.settings import sources

TESTING = ["--job_type", "testing"]


pytestmark = pytest.mark.usefixtures("quiet_log")


@pytest.fixture
def ends(monkeypatch):
    """Runs the command line with a job that ends in a certain way; gives its exit status."""

    def end(action, *arguments):
        monkeypatch.setattr(job, "run", action)
        return main([*TESTING, *arguments])

    return end


def raises(error):
    def action(flags, env, file):
        raise error

    return action


@pytest.fixture
def places(toy_artifact, tmp_path):
    """Arguments for a run on three rows of the toy artifact."""
    (tmp_path / "data").mkdir()
    toy_rows(3).to_csv(tmp_path / "data/t.csv", index=False)
    folders = {"--model-dir": toy_artifact, "--data-dir": tmp_path / "data", "--output-dir": tmp_path / "out"}
    return [*TESTING, "--id-field", "id", *(str(word) for pair in folders.items() for word in pair)]


# Arguments


def test_every_setting_has_a_flag_and_what_is_given_reaches_the_job(ends):
    values = {
        "id_field": "x",
        "model_dir": "/m",
        "data_dir": "/d",
        "limit": "7",
        "output_dir": "/o",
        "output_format": "tsv",
        "keep_columns": "a,b",
        "device": "[0,1]",
        "devices": "2",
        "accelerator": "cpu",
        "batch_size": "8",
        "num_workers": "3",
        "window_rows": "9",
        "resume": "never",
        "run_record": True,
        "profile": True,
        "self_check": False,
        "predicted_class": True,
        "emit": "embeddings",
        "precision": "bf16",
        "backend": "eager",
        "allow_downloads": True,
        "strict": True,
        "row_issues": "issues.csv",
        "report": "report.html",
        "max_cell_mb": "2",
        "max_bad_rows": "7%",
        "on_bad_row": "null",
        "on_bad_line": "skip",
        "csv_delimiter": ";",
        "csv_escape": "\\",
        "csv_encoding": "cp1252",
        "csv_header": "none",
        "csv_columns": "a,b",
        "csv_decimal": ",",
        "csv_thousands": ".",
        "engine": "local",
        "ray_address": "a:6379",
        "num_actors": "2",
        "shard": "1/3",
    }
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(sources())
    flags = {name: source.flag for name, source in sources().items() if name != "job_type"}
    assert set(flags) == set(values)
    seen = []
    words = [w for n, v in values.items() for w in ([flags[n]] if isinstance(v, bool) else [flags[n], v])]
    assert ends(lambda flags, env, file: seen.append(flags), *words) == 0
    assert seen == [{"job_type": "testing", **values}]
    assert set(seen[0]) == set(sources())
    Settings.resolve(seen[0], {})


def test_what_is_not_given_is_left_to_the_other_layers(ends):
    seen = []
    assert ends(lambda flags, env, file: seen.append((flags, env))) == 0
    assert {name for name, value in seen[0][0].items() if value is not None} == {"job_type"}
    assert seen[0][1] is os.environ


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--job-type", "training"], "'inference', 'validation', 'testing'"),
        (["--job_type", "training"], "'inference', 'validation', 'testing'"),
        (["--job_type", ""], "'inference', 'validation', 'testing'"),
        ([*TESTING, "--output-format", "json"], "'csv', 'tsv', 'parquet'"),
        ([*TESTING, "--accelerator", "tpu"], "'auto', 'cpu', 'gpu'"),
        ([*TESTING, "--no-such-flag"], "--no-such-flag"),
        ([*TESTING, "--batch-size"], "expected one argument"),
    ],
)
def test_wrong_usage(arguments, word, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert word in capsys.readouterr().err


def test_all_settings_that_cannot_be_used_at_once(places, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVICE", "many")
    monkeypatch.setenv("BATCH_SIZE", "none")
    assert main([*places, "--num-workers", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("UsageError: settings that cannot be used\n")
    for where in ("DEVICE: ", "BATCH_SIZE: ", "--num-workers: "):
        assert error.count(where) == 1
    assert not (tmp_path / "out").exists()


def test_help_tells_the_variable_and_the_default_of_each_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for source in sources().values():
        assert source.flag in out
        assert source.env is None or f"env {source.env}" in out
    assert "default /opt/ml/processing/input/inference_data" in out
    assert "env BATCH_SIZE, default 32" in out
    assert "a few on a GPU) (env NUM_WORKERS)" in out
    assert "{inference,validation,testing}" in out
    assert "default None" not in out


# Ends


def test_an_error_is_a_message_and_its_exit_status(ends, capsys):
    assert ends(raises(DataError("no good", where="a.csv", fix="mend it"))) == 1
    assert capsys.readouterr().err == "DataError: no good (a.csv)\n  To fix: mend it\n"
    assert ends(raises(UsageError("not so"))) == 2


def test_a_bug_is_not_hidden(ends):
    with pytest.raises(ZeroDivisionError):
        ends(raises(ZeroDivisionError()))


@pytest.mark.parametrize("code", [None, 0, 3, "bye"])
def test_a_plugin_that_ends_the_process_is_a_failure_whatever_its_status(ends, capsys, code):
    assert ends(raises(SystemExit(code))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("hangup_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_and_the_handlers_are_put_back(ends, capsys, number):
    before = signal.getsignal(number)
    assert ends(lambda flags, env, file: signal.raise_signal(number)) == 128 + number
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"
    assert signal.getsignal(number) is before


def test_any_long_work_is_guarded_and_its_log_lines_are_for_people(capsys):
    log, before = logging.getLogger("bsm"), signal.getsignal(signal.SIGINT)
    assert exit_status(lambda: lambda: log.info("half way")) == 0
    assert capsys.readouterr().err.endswith(" INFO half way\n")
    assert exit_status(lambda: lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr() == ("", "interrupted by SIGINT\n")


def test_a_run_in_process(places, tmp_path, capsys):
    assert main([*places, "--device", "cpu"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "predictions: " in captured.err


def test_a_bug_prints_a_traceback_without_control_characters_and_exits_with_1():
    code = """
import sys, types
def fail(flags, env, file):
    raise ZeroDivisionError("a\\x1b[31m\\x9b")
sys.modules["bsm_core.scoring.job"] = types.SimpleNamespace(run=fail)
from bsm_core.run import main
sys.exit(main(["--job_type", "testing"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert done.stderr.endswith("ZeroDivisionError: a\\x1b[31m\\x9b\n")


def test_a_full_disk_leaves_a_failure(places, tmp_path):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY)); "
        "from bsm_core.run import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SinkError: could not be written" in done.stderr
    assert "free space there" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["_FAILURE"]
    assert (tmp_path / "out/_FAILURE").read_text().startswith("SinkError: could not be written")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that the system enforces")
@pytest.mark.parametrize("megabytes", [1000, 1200])
def test_a_limit_of_memory_is_named(places, megabytes):
    """Where exactly memory ends depends on the machine: no traceback, and the limit where it is the cause."""
    limited = ["sh", "-c", f'ulimit -v {megabytes << 10} && exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "bsm_core.run", *places, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    if done.returncode:
        assert f"{megabytes:,} MB" in done.stderr
