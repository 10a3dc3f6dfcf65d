from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from bsm_core import Batch, ModelBase
from bsm_core.errors import CheckpointError, ConfigError, DivergedError, EngineError, ModelFailedError
from bsm_core.metrics.names import METRICS
from bsm_core.runtime.profile import Ended, listening
from bsm_core.training import loop
from bsm_core.training.config.training_config import TrainingConfig
from bsm_core.training.loop import fit
from bsm_core.training.metrics import History
from bsm_core.training.resuming.checkpoints import BEST, LAST


class Affine(ModelBase):
    """Dropout and one Linear on the features; remembers what it was trained with."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout, self.linear = torch.nn.Dropout(0.2), torch.nn.Linear(2, config.num_classes)
        self.norms, self.seen = [], []

    def forward(self, batch):
        if self.training:
            self.seen.append(batch.labels.tolist())
        return self.linear(self.dropout(batch.features))

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        gradients = [p.grad.norm() for p in self.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(gradients).norm()))


class Scripted(ModelBase):
    """Whose logits of class 1 on the validation part are, epoch by epoch, what its script says."""

    script: tuple[float, ...] = ()

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("epochs_trained", torch.zeros((), dtype=torch.int64))

    def forward(self, batch):
        if self.training:
            self.epochs_trained += 1
            logit = self.weight
        else:
            logit = self.weight * 0 + self.script[int(self.epochs_trained) - 1]
        return torch.stack([torch.zeros_like(logit), logit]).expand(batch.rows, 2)


class Normalized(Affine):
    """Normalizes the features over the rows of a batch."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = torch.nn.BatchNorm1d(2)


def batch(rows=32, seed=0):
    features = torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(rows, features=features, labels=(features[:, 0] > 0).long())


def settings(**changes):
    return TrainingConfig(**{"label_name": "y", "batch_size": 8, "max_epochs": 3, **changes})


def affine(**config):
    torch.manual_seed(0)
    return Affine.from_config({"lr": 0.1, **config})


ROWS, HELD = batch(), batch(16, seed=1)


def fitted(*arguments):
    weights, best, history = fit(*arguments, gpu=False)
    return SimpleNamespace(weights=weights, best=best, epochs=history.epochs, seconds=history.seconds)


def train(folder, model=None, validation=HELD, rows=ROWS, **changes):
    return fitted(affine() if model is None else model, rows, validation, settings(**changes), folder)


def scripted(folder, script, **changes):
    model = Scripted.from_config({"run_scheduler": False})
    model.script = script
    ones = Batch(4, features=torch.zeros(4, 1), labels=torch.ones(4, dtype=torch.int64))
    return fitted(model, ones, ones, settings(max_epochs=len(script), **changes), folder)


def stop(monkeypatch, epoch, hook="on_train_epoch_start"):
    """Training ends with an error at the start of an epoch, or elsewhere in it."""
    original = getattr(History, hook)

    def maybe(self, trainer, *arguments):
        if trainer.current_epoch == epoch:
            raise RuntimeError("stopped")
        original(self, trainer, *arguments)

    monkeypatch.setattr(History, hook, maybe)


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_training_learns_and_measures_every_epoch(tmp_path):
    fitted = train(tmp_path, max_epochs=8)
    assert [epoch["epoch"] for epoch in fitted.epochs] == list(range(1, 9))
    assert set(fitted.epochs[0]) == {"epoch", "train_loss", *METRICS}
    assert fitted.epochs[-1]["train_loss"] < fitted.epochs[0]["train_loss"]
    assert fitted.epochs[fitted.best]["auroc"] > 0.95
    assert len(fitted.seconds) == 8
    assert all(second > 0 for second in fitted.seconds)


def test_an_epoch_sees_each_row_once(tmp_path):
    rows = batch(21)
    model = affine()
    train(tmp_path, model, rows=Batch(21, features=rows.features, labels=torch.arange(21) % 2), max_epochs=2)
    assert [len(seen) for seen in model.seen].count(5) == 2
    assert sum(map(len, model.seen)) == 42


def test_the_weights_are_those_of_the_best_epoch_not_of_the_last(tmp_path):
    fitted = scripted(tmp_path, [0.0, 2.0, 1.0])
    assert fitted.best == 1
    assert int(fitted.weights["epochs_trained"]) == 2
    assert len(fitted.epochs) == 3
    assert fitted.epochs[1]["log_loss"] == pytest.approx(math.log(1 + math.exp(-2.0)))


def test_the_first_of_equally_good_epochs_is_the_best(tmp_path):
    assert scripted(tmp_path, [1.0, 2.0, 2.0]).best == 1


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (9, 6)])
def test_training_stops_early_when_nothing_improves(tmp_path, patience, epochs):
    fitted = scripted(tmp_path, [0.0, 2.0, 1.0, 1.5, 1.0, 1.0], early_stopping_patience=patience)
    assert len(fitted.epochs) == epochs
    assert fitted.best == 1


def test_the_monitor_says_what_is_better(tmp_path):
    # Surer and surer of class 1, of which all rows are: the loss falls, the accuracy is as good from the second on.
    script = [-1.0, 1.0, 2.0]
    assert scripted(tmp_path / "loss", script).best == 2
    assert scripted(tmp_path / "accuracy", script, monitor="accuracy").best == 1
    assert scripted(tmp_path / "f1", script, monitor="f1").best == 1
    assert scripted(tmp_path / "brier", script, monitor="brier").best == 2
    assert scripted(tmp_path / "ece", script, monitor="ece").best == 2


def test_without_rows_to_measure_on_the_last_epoch_is_taken(tmp_path, recwarn):
    model = affine()
    fitted = train(tmp_path, model, validation=None)
    assert fitted.best == 2
    assert same_weights(fitted.weights, model.state_dict())
    assert set(fitted.epochs[0]) == {"epoch", "train_loss"}
    assert [str(warning.message) for warning in recwarn] == []


# Determinism and going on


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    one, again, other = (train(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one.epochs == again.epochs
    assert same_weights(one.weights, again.weights)
    assert not same_weights(one.weights, other.weights)


@pytest.mark.parametrize("validation", [HELD, None], ids=["measured", "not measured"])
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end"])
def test_a_job_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, caplog, hook, validation):
    whole = train(tmp_path / "whole", validation=validation, max_epochs=4)
    with monkeypatch.context() as patch:
        stop(patch, 2, hook)
        with pytest.raises(RuntimeError, match="stopped"):
            train(tmp_path / "parts", validation=validation, max_epochs=4)
    model = affine()
    with caplog.at_level(logging.INFO, "bsm"):
        parts = train(tmp_path / "parts", model, validation=validation, max_epochs=4)
    assert f"resuming from {tmp_path / 'parts' / LAST}" in caplog.text
    assert len(model.seen) == 8  # the third and the fourth epoch, of four batches
    assert (parts.epochs, parts.best) == (whole.epochs, whole.best)
    assert same_weights(parts.weights, whole.weights)


def test_a_job_goes_on_from_its_last_epoch_also_where_that_was_not_the_best(tmp_path, monkeypatch):
    script = [2.0, 1.0, 1.0, 3.0, 0.0]
    whole = scripted(tmp_path / "whole", script, early_stopping_patience=9)
    with monkeypatch.context() as patch:
        stop(patch, 3)
        with pytest.raises(RuntimeError, match="stopped"):
            scripted(tmp_path / "parts", script, early_stopping_patience=9)
    parts = scripted(tmp_path / "parts", script, early_stopping_patience=9)
    assert len(parts.seconds) == 2
    assert str(parts.epochs) == str(whole.epochs)
    assert parts.best == whole.best == 3
    assert same_weights(parts.weights, whole.weights)


def test_a_job_that_had_come_to_its_end_trains_no_further(tmp_path):
    whole = train(tmp_path)
    model = affine()
    again = train(tmp_path, model)
    assert model.seen == []
    assert (again.epochs, again.best, again.seconds) == (whole.epochs, whole.best, [])
    assert same_weights(again.weights, whole.weights)


def test_a_job_that_had_stopped_early_trains_no_further(tmp_path):
    script = [2.0, 1.0, 1.0, 3.0]
    whole = scripted(tmp_path, script, early_stopping_patience=2)
    again = scripted(tmp_path, script, early_stopping_patience=2)
    assert len(whole.epochs) == 3
    assert str(again.epochs) == str(whole.epochs)  # with their NaN
    assert again.best == whole.best == 0
    assert again.seconds == []


# What is asked for


def test_gradients_are_clipped(tmp_path):
    free, tight = affine(), affine()
    train(tmp_path / "free", free, gradient_clip_val=1e9, max_epochs=1)
    train(tmp_path / "tight", tight, gradient_clip_val=1e-3, max_epochs=1)
    assert max(free.norms) > 0.1
    assert max(tight.norms) <= 1e-3 * 1.001


def test_two_added_batches_are_one_of_twice_the_size(tmp_path):
    """The mean gradient of 32 rows is the mean of those of twice 16, without dropout and class weights."""

    def one_step(name, **options):
        model = affine(run_scheduler=False)
        model.dropout.p = 0.0
        return model, train(tmp_path / name, model, max_epochs=1, gradient_clip_val=1e9, **options)

    (whole, once), (added, twice) = (
        one_step("whole", batch_size=32),
        one_step("added", batch_size=16, accumulate_grad_batches=2),
    )
    assert (len(whole.seen), len(added.seen)) == (1, 2)
    assert added.norms == pytest.approx(whole.norms)
    assert all(torch.allclose(value, twice.weights[name]) for name, value in once.weights.items())
    assert twice.epochs[0]["train_loss"] == pytest.approx(once.epochs[0]["train_loss"])


def test_a_job_that_adds_gradients_goes_on_as_if_it_had_not_been_stopped(tmp_path, monkeypatch):
    options = {"accumulate_grad_batches": 3, "max_epochs": 3}  # four batches an epoch: the last step is of one
    whole = train(tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        stop(patch, 1, "on_train_batch_end")
        with pytest.raises(RuntimeError, match="stopped"):
            train(tmp_path / "parts", **options)
    assert same_weights(train(tmp_path / "parts", **options).weights, whole.weights)


def test_bf16_trains_in_bfloat16_and_keeps_its_weights_in_float32(tmp_path):
    model, seen = affine(), []
    model.linear.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    fitted = train(tmp_path, model, precision="bf16-mixed")
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in fitted.weights.values()} == {torch.float32}


def test_class_weights_draw_the_model_to_the_rare_class(tmp_path):
    ones = Batch(32, features=torch.ones(32, 2), labels=torch.tensor([0] * 24 + [1] * 8))

    def likely(name, **config):
        fitted = train(tmp_path / name, affine(run_scheduler=False, **config), ones, ones, max_epochs=20)
        model = affine(**config)
        model.load_state_dict(fitted.weights)
        return model.eval().predict_step(ones)[0, 1].item()

    assert likely("plain") == pytest.approx(0.25, abs=0.1)
    assert likely("weighted", class_weights=[1.0, 3.0]) == pytest.approx(0.5, abs=0.1)


def test_a_model_that_fails_is_named(tmp_path):
    rows = batch()
    with pytest.raises(ModelFailedError, match="model class 'Affine' failed: RuntimeError: mat1 and mat2"):
        train(tmp_path, rows=Batch(32, features=torch.zeros(32, 3), labels=rows.labels))


def test_a_row_that_is_left_over_breaks_no_batch_normalization(tmp_path):
    torch.manual_seed(0)
    model = Normalized.from_config({"lr": 0.1})
    train(tmp_path, model, rows=batch(17), max_epochs=1)
    assert sorted(map(len, model.seen)) == [8, 9]


@pytest.mark.parametrize(("rows", "size"), [(1, 8), (4, 1)], ids=["one row in all", "one row in a batch"])
def test_one_row_for_batch_normalization_says_what_to_raise(tmp_path, rows, size):
    with pytest.raises(ConfigError, match="batch normalization, which cannot train on a batch of one row") as caught:
        train(tmp_path, Normalized.from_config({}), rows=batch(rows), batch_size=size)
    assert caught.value.where == "config.batch_size"
    assert "set batch_size to 2 or more" in caught.value.fix


def test_a_stop_iteration_of_a_model_is_no_end_of_an_epoch(tmp_path):
    model = affine()
    model.forward = lambda batch: next(iter({}))
    with pytest.raises(ModelFailedError, match="failed: StopIteration"):
        train(tmp_path, model)


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_no_room_for_a_step_says_what_to_lower(tmp_path, place):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = affine()
    if place == "forward":
        model.forward = full
    else:
        model.on_before_backward = full
    with pytest.raises(EngineError, match="ran out of memory in a training step: CUDA out of memory") as caught:
        train(tmp_path, model)
    assert "batch_size" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "damage"),
    [(BEST, "cut"), (BEST, "another file"), (BEST, "missing"), (LAST, "cut"), (LAST, "another file")],
)
def test_a_checkpoint_that_cannot_be_read_is_named_before_anything_trains(tmp_path, name, damage):
    train(tmp_path, max_epochs=1)
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        torch.save({"epoch": 1}, file)
    model = affine()
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read: ") as caught:
        train(tmp_path, model, max_epochs=2)
    assert model.seen == []
    assert caught.value.where == str(file)
    assert f"remove {tmp_path / LAST} to begin this training anew" in caught.value.fix
    (tmp_path / LAST).unlink()
    assert len(train(tmp_path, max_epochs=2).epochs) == 2


def test_checkpoints_are_written_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", None)
    train(tmp_path / "job", max_epochs=2)
    assert sorted(path.name for path in (tmp_path / "job").iterdir()) == [BEST, LAST]


@pytest.mark.parametrize("validation", [HELD, None], ids=["measured", "not measured"])
def test_training_that_diverges_says_what_to_lower(tmp_path, validation):
    model = affine(lr=3e37, run_scheduler=False)
    with pytest.raises(DivergedError, match=r"training diverged in epoch \d: the loss is nan in step ") as caught:
        train(tmp_path, model, validation=validation, max_epochs=9)
    assert "lower lr (it is 3e+37), gradient_clip_val (it is 1); or look for very large numbers" in caught.value.fix
    assert caught.value.settings == ()


def test_training_that_diverges_in_half_precision_says_what_to_set(tmp_path):
    model = affine(encoder_lr=0.5)
    model.forward = lambda batch: model.linear(batch.features) / model.training  # finite in training alone
    with pytest.raises(DivergedError, match=r"epoch 1: .* infinite for 16 of 16 rows") as caught:
        train(tmp_path, model, precision="bf16-mixed")
    assert "encoder_lr (it is 0.5)" in caught.value.fix
    assert "set precision to '32-true' (it is 'bf16-mixed')" in caught.value.fix


@pytest.mark.parametrize("in_training", [True, False], ids=["the loss", "the probabilities"])
def test_a_class_that_is_never_finite_has_not_diverged(tmp_path, in_training):
    model = affine()
    forward = model.forward
    model.forward = lambda batch: forward(batch) * math.nan
    if not in_training:
        model.training_step = lambda batch, batch_idx: model.linear(batch.features).sum() * 0 + math.nan
        model.configure_gradient_clipping = lambda optimizer, *_, **__: optimizer.zero_grad()  # skip each step
    says = "whose loss is nan in step 1" if in_training else "probabilities that are NaN or infinite for 16 of 16 rows"
    with pytest.raises(ModelFailedError, match=f"model class 'Affine' returned .*{says}") as caught:
        train(tmp_path, model)
    assert not isinstance(caught.value, DivergedError)
    assert "test_loop:Affine" in caught.value.where


def test_a_job_that_resumes_and_is_no_longer_finite_has_diverged(tmp_path):
    train(tmp_path, max_epochs=1)
    model = affine()
    model.forward = lambda batch: model.linear(batch.features) * math.nan
    with pytest.raises(DivergedError, match="training diverged in epoch 2: the loss is nan in step "):
        train(tmp_path, model, max_epochs=2)


def test_a_loss_that_is_no_number_is_no_end_while_the_weights_are_finite(tmp_path):
    """With '16-mixed', Lightning skips such a step."""
    model = affine()
    step = model.training_step
    model.training_step = lambda batch, batch_idx: step(batch) + (math.nan if batch_idx == 1 else 0.0)
    assert math.isnan(train(tmp_path, model, max_epochs=1).epochs[0]["train_loss"])


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(tmp_path):
    model, rows = affine(lr=1e-12), batch(11)  # a batch of eight and one of three
    model.dropout.p = 0.0
    [epoch] = train(tmp_path, model, rows, rows, max_epochs=1).epochs
    assert epoch["train_loss"] == pytest.approx(epoch["log_loss"], rel=1e-6)


# The process around it


def test_nothing_of_the_process_is_changed(tmp_path, caplog, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mode = torch.get_deterministic_debug_mode()
    with caplog.at_level(logging.INFO):
        train(tmp_path / "checkpoints", max_epochs=1)
    assert torch.get_deterministic_debug_mode() == mode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    assert {record.name for record in caplog.records} == {"bsm"}
    assert "".join(capsys.readouterr()) == ""


def test_an_epoch_is_a_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "bsm"):
        train(tmp_path, max_epochs=2)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(": train loss ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert ", log loss " in lines[0]
    assert ", AUROC " in lines[0]


def test_a_clusters_variables_are_not_ours(tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert len(train(tmp_path, max_epochs=1).epochs) == 1


def test_the_rows_of_an_epoch_are_told_under_the_number_that_its_line_has(tmp_path):
    events = []
    with listening(events.append, shows=True):
        train(tmp_path, max_epochs=2)
    told = [event if isinstance(event, Ended) else (event.what, event.rows, event.total) for event in events]
    first, second = ([(f"epoch {n} of 2", rows, 32) for rows in (8, 16, 24, 32)] for n in (1, 2))
    assert told == [*first, Ended(), *second, Ended()]


def test_an_epoch_that_takes_long_logs_its_rows_now_and_then(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "bsm"):
        train(tmp_path, max_epochs=1)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" rows,")[0] for line in lines[:4]] == [f"epoch 1 of 1: {rows}" for rows in (8, 16, 24, 32)]
