"""``bsm_core.run``: a job from Python."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.toy import toy_rows, write_toy_artifact

import bsm_core
from bsm_core import RunResult
from bsm_core.errors import DataError, MissingColumnsError, NothingToResumeError, UsageError
from bsm_core.runtime.processes import without_main_module
from bsm_core.scoring.settings import sources


@pytest.fixture
def toy_model(toy_site):
    """The toy plugin's model class."""
    from toy_bsm_model import ToyModel

    return ToyModel


@pytest.fixture
def places(toy_artifact, tmp_path):
    """Settings of a run on 23 rows, of which two have an issue."""
    rows = toy_rows(23)
    rows.loc[[3, 4], "amount"] = "many"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    folders = {"model_dir": toy_artifact, "data_dir": tmp_path / "rows.csv", "output_dir": tmp_path / "out"}
    return {**folders, "id_field": "id", "device": "cpu"}


def test_a_run_returns_what_was_written(places):
    result = bsm_core.run(
        **places, keep_columns=["channel"], run_record=True, row_issues=str(places["output_dir"]) + ".csv"
    )
    assert isinstance(result, RunResult)
    assert (result.path, result.rows, result.windows) == (places["output_dir"] / "inference_predictions.csv", 23, 1)
    assert (result.counts["bad_rows"], result.counts["number:amount"]) == (2, 2)
    assert result.record["output"] == "inference_predictions.csv"
    assert 0 < result.seconds == result.record["seconds"]
    written = pd.read_csv(result.path, dtype=str)
    assert list(written.columns) == ["id", "channel", "prob_class_0", "prob_class_1"]
    assert (places["output_dir"] / "_SUCCESS").exists()


def test_environment_variables_count_as_for_the_command(places, monkeypatch):
    monkeypatch.setenv("ID_FIELD", "channel")
    monkeypatch.setenv("OUTPUT_FORMAT", "parquet")
    del places["id_field"]
    result = bsm_core.run(**places)
    assert pq.read_schema(result.path).names[0] == "channel"


# Progress


@pytest.mark.parametrize("settings", [{}, {"devices": 2}, {"num_workers": 1}], ids=repr)
def test_the_progress_is_told(places, settings):
    told, threads = [], set()

    def tell(rows, share):
        told.append((rows, share))
        threads.add(threading.current_thread())

    bsm_core.run(**places, window_rows=6, on_progress=tell, **settings)
    assert told[-1] == (23, 1.0)
    assert [rows for rows, _ in told] == sorted(rows for rows, _ in told)
    assert all(share is None or 0 < share <= 1 for _, share in told)
    assert threads == {threading.current_thread()}
    if not settings:
        assert [rows for rows, _ in told] == [6, 12, 18, 23]


def test_an_exception_of_the_callback_ends_the_run_which_goes_on_later(places):
    def stop(rows, share):
        if rows > 12:  # the parts of windows before are on the disk
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        bsm_core.run(**places, window_rows=6, on_progress=stop)
    assert "LookupError: enough" in (places["output_dir"] / "_FAILURE").read_text()
    again = bsm_core.run(**places, window_rows=6, resume="require")
    assert again.rows == 23
    with pytest.raises(UsageError, match="on_progress=3 cannot be used"):
        bsm_core.run(**places, on_progress=3)


@pytest.mark.parametrize("settings", [{}, {"devices": 2}], ids=repr)
def test_the_last_call_comes_when_the_predictions_are_complete(places, settings):
    def stop(rows, share):
        if share == 1:
            raise LookupError("too late")

    with pytest.raises(LookupError, match="too late"):
        bsm_core.run(**places, window_rows=6, on_progress=stop, **settings)
    assert (places["output_dir"] / "_SUCCESS").exists()


def test_a_stop_iteration_of_the_callback_is_not_the_end_of_the_rows(places):
    with pytest.raises(RuntimeError, match="on_progress raised StopIteration"):
        bsm_core.run(**places, window_rows=6, on_progress=lambda rows, share: next(iter(())))


def test_ctrl_c_in_a_handler_of_the_caller_is_ctrl_c(places):
    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            bsm_core.run(**places, window_rows=6, on_progress=lambda *_: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "KeyboardInterrupt" in (places["output_dir"] / "_FAILURE").read_text()


def test_ctrl_c_in_the_callback_in_another_thread_is_ctrl_c(places):
    def stop(rows, share):
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as thread, pytest.raises(KeyboardInterrupt):
        thread.submit(bsm_core.run, **places, window_rows=6, on_progress=stop).result()


# Errors


def test_an_error_names_settings_as_python_has_them(places):
    with pytest.raises(UsageError, match="'window_row'; did you mean 'window_rows'"):
        bsm_core.run(**places, window_row=6)
    with pytest.raises(MissingColumnsError):
        bsm_core.run(**{**places, "id_field": "idd"})
    (places["output_dir"].parent / "rows.csv").write_text("id;chat;amount;channel\n1;a;2;web\n")
    with pytest.raises(MissingColumnsError) as caught:
        bsm_core.run(**places)
    assert "pass csv_delimiter='CHARACTER'" in str(caught.value)
    assert "--csv-delimiter" not in str(caught.value)


@pytest.mark.parametrize("name", sources())
def test_every_setting_has_its_own_name_in_errors(places, name):
    with pytest.raises(UsageError) as caught:
        bsm_core.run(**{**places, name: object()})
    text = str(caught.value)
    assert f"\n  {name}: " in text
    assert "--" not in text
    assert "help(bsm_core.Settings)" in text
    assert caught.value.args == (caught.value.what,)


def test_what_is_wrong_with_the_data_or_the_run_names_arguments(places):
    with pytest.raises(MissingColumnsError) as caught:
        bsm_core.run(**{**places, "id_field": "idd"}, keep_columns="nope")
    assert "id_field (ID_FIELD)" in str(caught.value)
    assert "keep_columns" in str(caught.value)
    assert "--" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^num_actors without engine='ray'\n  To fix: give engine='ray' too"):
        bsm_core.run(**places, num_actors=2)
    with pytest.raises(
        NothingToResumeError, match=r"^resume='require': there is nothing .*\n.*leave resume out to begin"
    ):
        bsm_core.run(**places, resume="require")


@pytest.mark.parametrize(
    ("text", "in_python"),
    [
        ("run with --no-self-check, or without --strict", "run with self_check=False, or without strict=True"),
        ("--strict: 2 things differ", "strict: 2 things differ"),
        ("a share, such as --max-bad-rows 20%, or", "a share, such as max_bad_rows='20%', or"),
        ("give --csv-thousands ',' or --num-workers 0", "give csv_thousands=',' or num_workers=0"),
        ("--device cpu or --backend auto says which", "device='cpu' or backend='auto' says which"),
        ("--max-bad-rows allows 5; --row-issues FILE lists them", "max_bad_rows allows 5; row_issues=FILE lists them"),
        ("`bsm pack MODEL NEW --data-dir TABLE --strict`", "`bsm pack MODEL NEW --data-dir TABLE --strict`"),
        ("no column '--limit' in /data/--limit/x; --no-such", "no column '--limit' in /data/--limit/x; --no-such"),
    ],
)
def test_flags_in_a_sentence_become_arguments(places, monkeypatch, text, in_python):
    def fail(flags, env):
        raise DataError(text, details=[text], fix=text)

    monkeypatch.setattr("bsm_core.scoring.job.run", fail)
    with pytest.raises(DataError) as caught:
        bsm_core.run(**places)
    assert str(caught.value) == f"{in_python}\n  {in_python}\n  To fix: {in_python}"


# What belongs to the caller


def state():
    loggers = [logging.getLogger(name) for name in ("bsm", "lightning.pytorch", "lightning.fabric", None)]
    return (
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers],
        (gc.isenabled(), gc.get_freeze_count()),
        os.environ.get("HF_HUB_OFFLINE"),
        signal.set_wakeup_fd(-1) if threading.current_thread() is threading.main_thread() else None,
    )


def test_signals_logging_and_garbage_collector_stay_those_of_the_caller(places):
    before = state()
    bsm_core.run(**places, allow_downloads=True)
    assert state() == before
    with pytest.raises(MissingColumnsError):
        bsm_core.run(**{**places, "id_field": "idd"})
    assert state() == before


def test_a_run_in_another_thread_touches_no_handler(places, monkeypatch):
    def no(*arguments):
        raise AssertionError("a handler was changed")

    with ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr(signal, "signal", no)
        result = thread.submit(bsm_core.run, **places).result()
    assert result.rows == 23


def test_ctrl_c_ends_a_run_as_it_ends_python_and_the_same_call_resumes(places, toy_model, monkeypatch):
    forward, calls = toy_model.forward, []

    def interrupted(self, batch):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return forward(self, batch)

    monkeypatch.setattr(toy_model, "forward", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            bsm_core.run(**places, window_rows=6)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "SIGINT" in (places["output_dir"] / "_FAILURE").read_text()
    assert bsm_core.run(**places, window_rows=6, resume="require").rows == 23


def test_processes_do_not_import_the_main_module():
    from multiprocessing.spawn import get_preparation_data

    before = dict(vars(sys.modules["__main__"]))
    with without_main_module():
        assert not [name for name in get_preparation_data("x") if name.startswith("init_main")]
    assert vars(sys.modules["__main__"]) == before


# The predicted class


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
def test_the_predicted_class_is_the_last_column(places, tmp_path, format):
    places["model_dir"] = write_toy_artifact(tmp_path / "named", class_names=["fine", "so, so"])
    result = bsm_core.run(**places, predicted_class=True, output_format=format, window_rows=6)
    read = {"csv": pd.read_csv, "tsv": lambda path: pd.read_csv(path, sep="\t"), "parquet": pd.read_parquet}[format]
    written = read(result.path)
    assert list(written.columns) == ["id", "prob_class_0", "prob_class_1", "predicted_class"]
    second = written["prob_class_1"] > written["prob_class_0"]
    assert written["predicted_class"].tolist() == ["so, so" if is_second else "fine" for is_second in second]


def test_classes_without_names_are_numbers_and_a_row_without_probabilities_has_none(places, toy_model, monkeypatch):
    forward = toy_model.forward

    def fails(self, batch):
        if (batch.features[:, 0] > 5).any():
            raise OverflowError("too large")
        return forward(self, batch)

    monkeypatch.setattr(toy_model, "forward", fails)
    result = bsm_core.run(**places, predicted_class=True, output_format="parquet", on_bad_row="null")
    found = pq.read_table(result.path)
    assert str(found.schema.field("predicted_class").type) == "int64"
    rows = found.to_pylist()
    assert all((row["predicted_class"] is None) == (row["prob_class_0"] is None) for row in rows)
    assert rows[0]["predicted_class"] == int(rows[0]["prob_class_1"] > 0.5)
    assert rows[22]["predicted_class"] is None


def test_a_run_with_the_predicted_class_is_another_run(places):
    def stop(rows, share):
        if rows > 12:
            raise LookupError

    with pytest.raises(LookupError):
        bsm_core.run(**places, window_rows=6, on_progress=stop)
    told = []
    bsm_core.run(**places, window_rows=6, predicted_class=True, on_progress=lambda rows, share: told.append(rows))
    assert told[0] == 6


def test_a_kept_column_cannot_be_named_like_the_predicted_class(places, tmp_path):
    toy_rows(2).assign(predicted_class="x").to_csv(tmp_path / "rows.csv", index=False)
    assert bsm_core.run(**places, keep_columns=["predicted_class"]).rows == 2
    with pytest.raises(DataError, match="prediction column: predicted_class"):
        bsm_core.run(**places, keep_columns=["predicted_class"], predicted_class=True)
