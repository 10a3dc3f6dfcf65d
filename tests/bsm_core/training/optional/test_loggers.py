from __future__ import annotations

import csv
import json
import struct

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger
from support.training import CONFIG, labelled_rows

from bsm_core import train
from bsm_core.errors import CheckpointError, ConfigError, EngineError, SinkError
from bsm_core.metrics.names import METRICS
from bsm_core.training.metrics import History

pytestmark = pytest.mark.usefixtures("toy_site")

LOGGED = {**CONFIG, "batch_size": 4, "max_epochs": 3, "loggers": ["csv"]}  # eight steps an epoch


@pytest.fixture
def store(tmp_path, monkeypatch):
    """MLflow with files in a folder."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/runs")
    before = mlflow.get_tracking_uri()
    yield mlflow.MlflowClient(f"file:{tmp_path}/runs")
    mlflow.set_tracking_uri(before)


def table(output):
    with (output.with_name("model-logs") / "csv/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stopped(monkeypatch, config, output, epoch=2, hook="on_train_batch_end"):
    """A job that ends in an epoch, after some of its steps."""
    original = getattr(History, hook)

    def maybe(self, trainer, module, *arguments):
        original(self, trainer, module, *arguments)
        if trainer.current_epoch == epoch and trainer.global_step % 8 == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, hook, maybe)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(config, labelled_rows(), output)


def test_a_table_has_each_step_each_epoch_and_the_learning_rate(output, caplog):
    caplog.set_level("INFO", "bsm")
    trained = train(LOGGED, labelled_rows(), output)
    rows = table(output)
    assert [row["step"] for row in rows if row["train_loss"]] == [str(step) for step in range(24)]
    epochs = [row for row in rows if row["log_loss"]]
    assert [row["step"] for row in epochs] == ["7", "15", "23"]
    for row, epoch in zip(epochs, trained.metrics["epochs"], strict=True):
        for name in METRICS:
            assert float(row[name]) == pytest.approx(epoch[name], rel=1e-5), name
    losses = [float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]]
    assert losses == pytest.approx([epoch["train_loss"] for epoch in trained.metrics["epochs"]], rel=1e-5)
    rates = [float(row["lr-AdamW"]) for row in rows if row["lr-AdamW"]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == CONFIG["lr"]
    given = yaml.safe_load((output.with_name("model-logs") / "csv/hparams.yaml").read_text())
    assert given == LOGGED
    assert f"logs: {output.with_name('model-logs')}/csv" in caplog.text


def test_a_log_changes_no_weight(output, tmp_path):
    train(LOGGED, labelled_rows(), output)
    train({**LOGGED, "loggers": []}, labelled_rows(), tmp_path / "plain")
    assert (output / "model.safetensors").read_bytes() == (tmp_path / "plain/model.safetensors").read_bytes()
    assert not (tmp_path / "plain-logs").exists()


def test_a_job_that_goes_on_goes_on_with_its_table(output, tmp_path, monkeypatch):
    stopped(monkeypatch, LOGGED, output)
    assert max(int(row["step"]) for row in table(output)) > 15  # steps of the epoch that is trained again
    train(LOGGED, labelled_rows(), output)
    rows = table(output)
    train(LOGGED, labelled_rows(), tmp_path / "model")
    assert rows == table(tmp_path / "model")


@pytest.mark.parametrize("damage", ["cut", "nothing", "zeros", "a cell more", "a step that is none"])
def test_a_table_that_is_damaged_goes_on_with_the_rows_that_are_not(output, tmp_path, monkeypatch, caplog, damage):
    train(LOGGED, labelled_rows(), tmp_path / "whole/model")
    whole = table(tmp_path / "whole/model")
    stopped(monkeypatch, LOGGED, output)
    file = output.with_name("model-logs") / "csv/metrics.csv"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes({
        "cut": b"".join(lines)[:-9], "nothing": b"", "zeros": b"".join(lines[:3]) + bytes(40),
        "a cell more": b"".join([lines[0], b"1," + lines[1], *lines[2:]]),
        "a step that is none": b"".join([lines[0], lines[1].replace(b",", b",x"), *lines[2:]]),
    }[damage])  # fmt: skip
    train(LOGGED, labelled_rows(), output)
    assert table(output)[-9:] == whole[-9:]  # those of the epoch that was trained again
    assert ("row(s) that are damaged are left out" in caplog.text) == damage.startswith("a ")


@pytest.mark.parametrize("step", ["save", "log_hyperparams"])
def test_a_full_disk_is_an_error_that_names_the_log(output, monkeypatch, step):
    def full(self, *_):
        raise OSError(28, "No space left on device", str(output.with_name("model-logs") / "csv/some.file"))

    monkeypatch.setattr(CSVLogger, step, full)
    with pytest.raises(SinkError, match="could not be written: No space left on device") as caught:
        train(LOGGED, labelled_rows(), output)
    assert caught.value.where.startswith(str(output.with_name("model-logs")))


def test_a_checkpoint_that_was_cut_is_named(output, monkeypatch):
    stopped(monkeypatch, LOGGED, output)
    checkpoint = output.with_name(".model.training") / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read") as caught:
        train(LOGGED, labelled_rows(), output)
    assert caught.value.where == str(checkpoint)


def test_a_file_that_no_logger_wrote_stays(output):
    notes = output.with_name("model-logs") / "csv/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    train({**LOGGED, "max_epochs": 1}, labelled_rows(), output)
    assert notes.read_text() == "mine"


def test_a_new_job_with_the_same_output_begins_a_new_table(output, tmp_path):
    logs = output.with_name("model-logs") / "csv"
    logs.mkdir(parents=True)
    (logs / "metrics.csv").write_text("step,old\n1,2\n")
    train(LOGGED, labelled_rows(), output)
    assert "old" not in table(output)[0]


def events(folder):
    """(step, tag, value) of all scalars in the event files of a folder, and the steps at which a file begins anew."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    scalars, starts = [], []
    for file in sorted(folder.glob("events.out.*")):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            if event.session_log.status == event_pb2.SessionLog.START:
                starts.append(event.step)
    return scalars, starts


def test_tensorboard_reads_each_step_and_each_epoch(output, monkeypatch):
    pytest.importorskip("tensorboardX")
    config = {**LOGGED, "loggers": ["tensorboard"]}
    stopped(monkeypatch, config, output)
    trained = train(config, labelled_rows(), output)
    scalars, starts = events(output.with_name("model-logs") / "tensorboard")
    assert 16 in starts  # nothing of the third epoch's first try is shown
    losses = {step: value for step, tag, value in scalars if tag == "log_loss"}
    assert losses == {
        step: pytest.approx(epoch["log_loss"], rel=1e-5)
        for step, epoch in zip((7, 15, 23), trained.metrics["epochs"], strict=True)
    }
    assert {step for step, tag, _ in scalars if tag == "train_loss"} == set(range(24))


def test_mlflow_has_one_run_of_a_job_that_was_stopped(output, monkeypatch, store):
    config = {**LOGGED, "loggers": ["mlflow"]}
    stopped(monkeypatch, config, output)
    trained = train(config, labelled_rows(), output)
    experiment = store.get_experiment_by_name("bsm")
    (run,) = store.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("model", "FINISHED")
    assert run.data.params["model_class"] == "toy_model"
    assert run.data.params["batch_size"] == "4"
    measured = store.get_metric_history(run.info.run_id, "log_loss")
    assert [(each.step, pytest.approx(each.value, rel=1e-5)) for each in measured] == [
        (step, epoch["log_loss"]) for step, epoch in zip((7, 15, 23), trained.metrics["epochs"], strict=True)
    ]


def test_mlflow_that_cannot_be_used_says_where(output, monkeypatch, tmp_path):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "odd://nowhere")
    with pytest.raises(EngineError, match="MLflow cannot be used") as caught:
        train({**LOGGED, "loggers": ["mlflow"]}, labelled_rows(), output)
    assert "MLFLOW_TRACKING_URI" in caught.value.fix


def test_a_logger_without_its_package_says_how_to_install_it(output, tmp_path, monkeypatch):
    monkeypatch.setattr("bsm_core.training.optional.loggers.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        train({**LOGGED, "loggers": ["csv", "tensorboard", "mlflow"]}, tmp_path / "not-there.csv", output)
    said = 'tensorboard, mlflow cannot be used: the package is not installed; pip install "bsm-core[tensorboard]"'
    assert said in str(caught.value)


def test_a_logger_that_is_not_known_lists_those_that_are(output, tmp_path):
    with pytest.raises(ConfigError, match="'csv', 'tensorboard' or 'mlflow'"):
        train({**LOGGED, "loggers": ["wandb"]}, tmp_path / "not-there.csv", output)


def test_the_artifact_remembers_its_loggers(output):
    train(LOGGED, labelled_rows(), output)
    assert json.loads((output / "hyperparameters.json").read_text())["loggers"] == ["csv"]
