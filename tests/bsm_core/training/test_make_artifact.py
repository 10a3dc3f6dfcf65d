from __future__ import annotations

import importlib
import json
import logging
import math
import random
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from support.training import BERT, CONFIG, ENCODING, PAIR, files, labelled_rows, save_encoder
from transformers.models.bert.modeling_bert import BertSelfAttention

from bsm_core import Predictor, train
from bsm_core.artifact import Artifact, describe
from bsm_core.artifact.check_rows import read_check_rows
from bsm_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    MissingColumnsError,
    ModelFailedError,
    NoInferenceDataError,
    SinkError,
    UsageError,
)
from bsm_core.scoring.self_check import check
from bsm_core.training.metrics import History
from bsm_core.training.result import write_trained as run

EMBEDDING = {key: value for key, value in ENCODING.items() if key != "text_encoder"} | {"model_class": "toy_embedding"}

pytestmark = pytest.mark.usefixtures("toy_site")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stop_at(monkeypatch, epoch):
    """The process ends at the start of an epoch, counted from nought."""
    original = History.on_train_epoch_start

    def maybe(self, trainer, module):
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        original(self, trainer, module)

    monkeypatch.setattr(History, "on_train_epoch_start", maybe)


def stopped(monkeypatch, epoch, *arguments, **options):
    with monkeypatch.context() as patch:
        stop_at(patch, epoch)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(*arguments, **options)


# The artifact


@pytest.mark.parametrize("values", [CONFIG, ENCODING, PAIR, EMBEDDING], ids=lambda values: values["model_class"])
def test_a_job_leaves_an_artifact_that_scores_and_checks_itself_and_nothing_beside_it(output, values):
    rows = labelled_rows()
    trained = train(values, rows, output)
    assert trained.folder == output
    assert names(output.parent) == ["model", "model-report.html"]
    assert describe(output).problems == []
    predictor = Predictor.from_artifact(output)
    assert predictor.predict(rows).shape == (40, 2)
    assert check(predictor, read_check_rows(output)) < 1e-6


# Rows


def test_the_rows_may_come_as_any_table(output, tmp_path):
    frame = labelled_rows()
    typed = frame.assign(amount=pd.to_numeric(frame["amount"]), label=frame["label"].astype(int))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    typed.to_parquet(tmp_path / "rows.parquet")
    sources = [frame, typed, pa.Table.from_pandas(frame), tmp_path / "rows.csv", str(tmp_path / "rows.tsv")]
    made = []
    for source in [*sources, tmp_path / "rows.parquet"]:
        # Without rows for the self-check, which are as they were given: 3 or 3.0.
        train({**CONFIG, "max_epochs": 1, "check_rows": 0}, source, output)
        made.append(files(output))
        shutil.rmtree(output)
    assert all(other == made[0] for other in made[1:])


def test_a_job_reads_the_numbers_of_csv_and_json_as_each_writes_them(output, tmp_path):
    """The config's dialect is that of CSV; a number in JSON lines is one of JSON."""
    rows = labelled_rows().assign(amount=["1.25", "1000.5", "", "2.125"] * 10)
    comma = rows.assign(amount=[text.replace(".", ",") for text in rows["amount"]])
    comma.to_csv(tmp_path / "rows.csv", index=False)
    numbers = rows.assign(amount=[float(text) if text else None for text in rows["amount"]])
    numbers.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    config = {**CONFIG, "max_epochs": 1, "csv_decimal": ",", "csv_thousands": "."}
    made = []
    for data, validation in (("rows.csv", "rows.jsonl"), ("rows.jsonl", "rows.csv")):
        train(config, tmp_path / data, output, validation=tmp_path / validation)
        assert check(Predictor.from_artifact(output), read_check_rows(output)) == 0
        made.append(files(output))
        shutil.rmtree(output)
    assert json.loads(made[0]["impute_dict.json"]) == {"amount": 2.125}
    for name in made[0].keys() - {"self_check.json", "provenance.json"}:
        assert made[0][name] == made[1][name], name
    kept = [[float(row["amount"] or -1) for row in json.loads(one["self_check.json"])["rows"]] for one in made]
    assert kept[0] == kept[1]


def test_a_column_of_mixed_python_values_is_trained_on_and_checked(output):
    rows = labelled_rows().assign(amount=[1, "x", None, 2.5] * 10)
    train(CONFIG, rows, output)
    assert check(Predictor.from_artifact(output), read_check_rows(output)) == 0
    assert json.loads((output / "impute_dict.json").read_text()) == {"amount": pytest.approx(1.75, abs=0.8)}


@pytest.mark.parametrize("labels", [["0", "1", "2", "3"], ["a", "b", "c", "d"]], ids=["numbers", "texts"])
def test_more_than_two_classes(output, labels):
    rows = labelled_rows().assign(label=labels * 10)
    metrics = train({**CONFIG, "is_binary": False, "num_classes": 4, "class_weights": "balanced"}, rows, output).metrics
    assert metrics["classes"] == [0, 1, 2, 3] if labels[0] == "0" else labels
    got = Predictor.from_artifact(output).predict(rows)
    assert list(got.columns) == [f"prob_class_{i}" for i in range(4)]
    assert np.allclose(got.sum(axis=1), 1)


def test_the_order_of_the_classes_is_that_of_the_config(output, tmp_path):
    rows = labelled_rows(60)
    config = {**CONFIG, "max_epochs": 8, "tab_field_list": [], "cat_field_list": []}
    train(config, rows, output)
    train({**config, "multiclass_categories": ["1", "0"]}, rows, tmp_path / "turned")
    ones = [Predictor.from_artifact(folder).predict(rows)["prob_class_1"] for folder in (output, tmp_path / "turned")]
    is_one = rows["label"] == "1"
    assert ones[0][is_one].mean() > ones[0][~is_one].mean()
    assert ones[1][is_one].mean() < ones[1][~is_one].mean()


def test_only_the_training_part_is_learnt_from(output):
    held = labelled_rows(12).assign(channel="phone", amount="1000", chat="unheard|words")
    train(
        {**ENCODING, "tab_field_list": ["amount", "channel"], "cat_field_list": ["channel"]},
        labelled_rows(),
        output,
        validation=held,
    )
    [table] = json.loads((output / "risk_table_map.json").read_text()).values()
    assert set(table["bins"]) == {"web", "shop", "mail"}
    assert json.loads((output / "impute_dict.json").read_text())["amount"] < 10
    assert "unheard" not in json.loads((output / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]


def test_class_weights_are_balanced_on_the_training_part(output):
    rows = labelled_rows(40).assign(label=["1"] + ["0"] * 39)
    train({**CONFIG, "class_weights": "balanced"}, rows, output, validation=labelled_rows(6))
    weights = [40 / (2 * 39), 40 / 2]
    assert json.loads((output / "hyperparameters.json").read_text())["class_weights"] == pytest.approx(weights)
    assert Artifact.load(output).weights["loss_op.weight"].tolist() == pytest.approx(weights)


def test_a_text_field_that_is_listed_as_a_category_has_no_risk_table(output):
    config = {**CONFIG, "tab_field_list": ["channel"], "cat_field_list": ["chat", "channel"]}
    train(config, labelled_rows(), output)
    assert set(json.loads((output / "risk_table_map.json").read_text())) == {"channel"}


def test_without_a_validation_part_all_rows_are_trained_on(output, caplog):
    with caplog.at_level(logging.INFO, "bsm"):
        metrics = train({**CONFIG, "validation_fraction": 0}, labelled_rows(), output).metrics
    assert metrics["rows"] == {"training": 40, "validation": 0}
    assert metrics["best"] == metrics["epochs"][-1]
    assert set(metrics["best"]) == {"epoch", "train_loss"}
    assert "training on 40 rows, validating on 0" in caplog.text
    assert "the best epoch" not in caplog.text
    assert read_check_rows(output).rows[0]["chat"] == labelled_rows()["chat"][0]


def test_a_text_that_fails_is_named_with_its_row_its_step_and_the_reason(output, caplog):
    rows = labelled_rows().astype(object)
    rows.loc[[4, 29], CONFIG["text_name"]] = "no!"
    with caplog.at_level(logging.INFO):
        train(CONFIG, rows, output)
    named = "column 'chat', step 'toy_tokens': ValueError: no shouting; its text is taken as empty"
    for number in (5, 30):
        assert caplog.text.count(f"row {number}: {named}") == 1


def test_the_log_tells_the_rows_the_epochs_and_the_place(output, caplog):
    with caplog.at_level(logging.INFO):
        train(CONFIG, labelled_rows().assign(amount=["1", *["x"] * 39]), output)
    said = [record.getMessage() for record in caplog.records if not record.getMessage().startswith("row ")]
    assert said[2] == "training on 30 rows, validating on 10"
    assert [line.partition(":")[0] for line in said[:2]] == [f"label {i} is class {i} (prob_class_{i})" for i in (0, 1)]
    assert [line.partition(":")[0] for line in said[3:]] == [
        "column 'amount'",
        "column 'amount'",
        "epoch 1",
        "epoch 2",
        "epoch 3",
        "the best epoch is 3",
        "on the validation rows, this model",
        "on the validation rows, the majority class",
        "report of the validation rows",
        "artifact",
    ]
    assert said[-1] == f"artifact: {output}"


# Starting points


def test_a_pretrained_encoder_is_where_training_starts(output, tmp_path):
    encoder = save_encoder(tmp_path / "encoder")
    config = {**ENCODING, "text_encoder": tmp_path / "encoder", "lr": 1e-12}
    train(config, labelled_rows(), output)
    weights = Artifact.load(output).weights
    for key, value in encoder.state_dict().items():
        assert torch.allclose(weights[f"text_encoder.{key}"], value, atol=1e-6), key
    assert json.loads((output / "text_encoder/config.json").read_text())["vocab_size"] == 60


def test_two_fields_start_from_two_encoders(output, tmp_path):
    encoders = {prefix: save_encoder(tmp_path / prefix, seed) for seed, prefix in enumerate(["primary", "secondary"])}
    config = {**PAIR, **{f"{prefix}_text_encoder": str(tmp_path / prefix) for prefix in encoders}, "lr": 1e-12}
    train({key: value for key, value in config.items() if key != "text_encoder"}, labelled_rows(), output)
    weights = Artifact.load(output).weights
    for prefix, encoder in encoders.items():
        start = encoder.state_dict()["embeddings.word_embeddings.weight"]
        assert torch.allclose(weights[f"{prefix}_text_encoder.embeddings.word_embeddings.weight"], start, atol=1e-6)
        assert (output / f"{prefix}_text_encoder/config.json").exists()


def test_an_embedding_matrix_is_where_training_starts(output, tmp_path):
    matrix = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.save(tmp_path / "m.npy", matrix)
    train({**EMBEDDING, "embedding_mat": tmp_path / "m.npy", "lr": 1e-12}, labelled_rows(), output)
    artifact = Artifact.load(output)
    assert np.allclose(artifact.weights["embedding.weight"], matrix, atol=1e-6)
    assert artifact.embedding_mat.shape == (60, 3)


def test_pretrained_weights_that_do_not_fit_are_an_error_of_the_config(output, tmp_path, monkeypatch):
    import toy_bsm_encoders

    save_encoder(tmp_path / "encoder")
    monkeypatch.setattr(
        toy_bsm_encoders.ToyEncoder, "load_pretrained", lambda self, key, state: self.load_state_dict(state)
    )
    with pytest.raises(ConfigError, match="'toy_encoder' cannot be built: RuntimeError") as caught:
        train({**ENCODING, "text_encoder": tmp_path / "encoder"}, labelled_rows(), output)
    assert caught.value.where == "the training config"


# The same again


@pytest.mark.parametrize("values", [CONFIG, {**ENCODING, "max_epochs": 2}], ids=lambda values: values["model_class"])
def test_the_same_seed_gives_the_same_files(output, tmp_path, values):
    train(values, labelled_rows(), output)
    torch.manual_seed(7)  # what the caller does is no part of the job
    train(values, labelled_rows(), tmp_path / "again")
    train({**values, "seed": 1}, labelled_rows(), tmp_path / "other")
    assert files(output) == files(tmp_path / "again")
    assert files(output)["model.safetensors"] != files(tmp_path / "other")["model.safetensors"]


@pytest.mark.parametrize("values", [CONFIG, {**ENCODING, "max_epochs": 3}], ids=lambda values: values["model_class"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_job_that_was_stopped_and_run_again_gives_the_same_files(output, tmp_path, monkeypatch, values, epoch):
    train(values, labelled_rows(), tmp_path / "whole")
    stopped(monkeypatch, epoch, values, labelled_rows(), output)
    assert names(output.parent) == [".model.training"]
    torch.manual_seed(7)
    trained = train(values, labelled_rows(), output)
    assert len(trained.seconds) == 3 - epoch
    assert files(output) == files(tmp_path / "whole")
    assert names(output.parent) == ["model", "model-report.html"]


@pytest.mark.parametrize("patience", [1, 5])
def test_a_job_that_was_stopped_while_it_saved_gives_the_same_files(output, tmp_path, monkeypatch, patience):
    values = {**CONFIG, "max_epochs": 4, "early_stopping_patience": patience, "monitor": "accuracy"}
    epochs = train(values, labelled_rows(), tmp_path / "whole").metrics["epochs"]
    assert (len(epochs) < 4) == (patience == 1)

    def half(folder, *arguments):
        folder.mkdir()
        (folder / "odd.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_artifact", lambda folder, **parts: half(folder))
        with pytest.raises(SinkError, match="No space"):
            train(values, labelled_rows(), output)
    assert names(output.parent) == [".model.training"]
    train(values, labelled_rows(), output)
    assert files(output) == files(tmp_path / "whole")


class Killed(BaseException):
    """End of the process."""


def killed_at(monkeypatch, name, call=1):
    """The process ends in a call of a function, counted from one."""
    calls = []
    module, _, attribute = name.rpartition(".")
    original = getattr(importlib.import_module(module), attribute)

    def maybe(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(name, maybe)


@pytest.mark.parametrize(
    ("step", "is_there"),
    [
        ("work_folder.copy_file", True),  # a new folder is put in place in one step
        ("make_artifact.write_report", False),
        ("make_artifact.write_report", True),
        ("make_artifact.tell_baselines", False),
        ("make_artifact.tell_baselines", True),
    ],
)
def test_a_job_that_was_killed_after_its_artifact_came_to_its_place_is_finished(
    output, tmp_path, monkeypatch, step, is_there
):
    train(CONFIG, labelled_rows(), tmp_path / "whole")
    if is_there:
        output.mkdir()
    module = "bsm_core.training." + step.replace("work_folder", "resuming.work_folder")
    with monkeypatch.context() as patch:
        killed_at(patch, module, call=4 if "copy" in step else 1)
        with pytest.raises(Killed):
            train(CONFIG, labelled_rows(), output)
    assert names(output.parent) == [".model.training", "model"]
    assert len(files(output)) >= 3
    with pytest.raises(UsageError, match="a different config or different rows"):
        train({**CONFIG, "lr": 0.01}, labelled_rows(), output)
    again = train(CONFIG, labelled_rows(), output)
    assert again.seconds == []
    assert files(output) == files(tmp_path / "whole")
    assert names(output.parent) == ["model", "model-report.html"]


@pytest.mark.parametrize(
    ("changes", "rows"),
    [({"lr": 0.01}, 40), ({}, 44), ({"seed": 1}, 40)],
    ids=["another config", "other rows", "another seed"],
)
def test_the_checkpoint_of_another_job_is_refused_and_named(output, monkeypatch, changes, rows):
    stopped(monkeypatch, 1, CONFIG, labelled_rows(), output)
    with pytest.raises(UsageError, match="a job with a different config or different rows") as caught:
        train({**CONFIG, **changes}, labelled_rows(rows), output)
    assert caught.value.where == str(output.with_name(".model.training"))
    train(CONFIG, labelled_rows(), output)  # which was left as it was


def test_a_job_that_was_stopped_before_its_first_epoch_ended_leaves_nothing(output, monkeypatch):
    stopped(monkeypatch, 0, CONFIG, labelled_rows(), output)
    assert names(output.parent) == []
    train({**CONFIG, "lr": 0.01}, labelled_rows(), output)


def test_what_a_killed_job_left_without_a_checkpoint_is_in_nobodys_way(output):
    work = output.with_name(".model.training")
    work.mkdir()
    (work / "job.sha256").write_text("of another job")
    train(CONFIG, labelled_rows(), output)
    assert names(output.parent) == ["model", "model-report.html"]


def test_the_process_is_as_it_was(output):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    train(ENCODING, labelled_rows(), output)
    got = (torch.rand(1).item(), np.random.rand(), random.random())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    assert got == (torch.rand(1).item(), np.random.rand(), random.random())
    assert not torch.are_deterministic_algorithms_enabled()


# Places


def test_an_output_that_holds_something_is_left_alone(output):
    output.mkdir()
    (output / "precious").write_text("x")
    for taken in (output, output / "precious"):
        with pytest.raises(UsageError, match="the output already exists"):
            train(CONFIG, labelled_rows(), taken)
    assert names(output) == ["precious"]
    assert names(output.parent) == ["model"]


def test_an_empty_folder_is_filled_and_not_replaced(output):
    output.mkdir()  # it may be a mount point
    before = output.stat().st_ino
    train(CONFIG, labelled_rows(), output)
    assert output.stat().st_ino == before
    assert Predictor.from_artifact(output)
    assert names(output.parent) == ["model", "model-report.html"]


@pytest.mark.parametrize("given", ["model/..", "link"])
def test_a_place_that_cannot_be_filled_is_an_error_before_anything_is_read(output, monkeypatch, given):
    output.mkdir()
    (output.parent / "link").symlink_to("none")
    monkeypatch.chdir(output.parent)
    with pytest.raises(UsageError, match=r"the output (already exists|is a link to none)"):
        train(CONFIG, output.parent / "no-rows.csv", given)
    assert names(output.parent) == ["link", "model"]


def test_folders_above_the_output_are_made_and_relative_names_are_fine(output, monkeypatch):
    monkeypatch.chdir(output.parent)
    assert train(CONFIG, labelled_rows(), "deep/down").folder.name == "down"
    assert names(output.parent / "deep") == ["down", "down-report.html"]


# What fails


def diverge_at(monkeypatch, epoch):
    """All weights become NaN at the start of an epoch, counted from nought."""
    original = History.on_train_epoch_start

    def maybe(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == epoch:
            for weights in module.parameters():
                weights.data.fill_(math.nan)

    monkeypatch.setattr(History, "on_train_epoch_start", maybe)


@pytest.mark.parametrize("changes", [{}, {"folds": 2}], ids=["plain", "folds"])
def test_a_job_that_diverged_can_be_run_as_the_error_advises(output, caplog, monkeypatch, changes):
    values = {**CONFIG, **changes, "max_epochs": 2}
    with monkeypatch.context() as patch:
        diverge_at(patch, 1)
        with pytest.raises(DivergedError, match="training diverged in epoch 2") as caught:
            train(values, labelled_rows(), output)
    assert "lower lr" in caught.value.fix
    assert names(output.parent) == []
    assert "run the same job again" not in caplog.text
    train({**values, "lr": 0.001}, labelled_rows(), output)


def test_a_job_that_cannot_go_on_is_not_told_to_run_again(output, caplog, monkeypatch):
    stopped(monkeypatch, 1, CONFIG, labelled_rows(), output)
    assert caplog.text.count("run the same job again to resume") == 1
    caplog.clear()
    for values, data in (({**CONFIG, "lr": 0.01}, labelled_rows()), (CONFIG, output.parent / "not-there.csv")):
        with pytest.raises((UsageError, NoInferenceDataError)):
            train(values, data, output)
    checkpoint = output.with_name(".model.training") / "last.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError):
        train(CONFIG, labelled_rows(), output)
    assert "run the same job again" not in caplog.text
    checkpoint.write_bytes(whole)
    train(CONFIG, labelled_rows(), output)


@pytest.mark.parametrize(
    ("changes", "rows", "error"),
    [
        ({"max_epochs": 0}, {}, ConfigError),
        ({"label_name": "none"}, {}, MissingColumnsError),
        ({}, {"label": "1"}, DataError),
        ({"num_classes": 3, "is_binary": False}, {}, DataError),
        ({**ENCODING, "text_encoder": {**BERT, "hidden_size": 9}}, {}, ConfigError),
        ({**ENCODING, "max_sen_len": 20}, {"chat": "a b c d " * 6}, ModelFailedError),
    ],
    ids=["config", "column", "one class", "classes", "encoder", "forward"],
)
def test_a_job_that_fails_leaves_nothing(output, changes, rows, error):
    with pytest.raises(error):
        train({**CONFIG, **changes}, labelled_rows().assign(**rows), output)
    assert names(output.parent) == []


def test_a_report_replaces_no_table(output, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("kept")
    with pytest.raises(UsageError, match="a report is an HTML file"):
        train(CONFIG, labelled_rows(), output, report=rows)
    assert rows.read_text() == "kept"


def test_missing_columns_of_the_validation_part_are_named(output):
    with pytest.raises(MissingColumnsError, match="channel"):
        train(CONFIG, labelled_rows(), output, validation=labelled_rows().drop(columns="channel"))
    with pytest.raises(DataError, match="not one of the classes"):
        train(CONFIG, labelled_rows(), output, validation=labelled_rows().assign(label="maybe"))


def test_a_gpu_that_is_not_there_is_an_error(output, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="this machine has no GPU"):
        train(CONFIG, labelled_rows(), output, accelerator="gpu")


def test_the_config_may_be_a_file(output, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    train(tmp_path / "config.json", labelled_rows(), output)
    train(str(tmp_path / "config.json"), labelled_rows(), tmp_path / "again")
    assert files(output) == files(tmp_path / "again")


def test_bf16_gives_an_artifact_in_float32(output):
    train({**CONFIG, "precision": "bf16-mixed"}, labelled_rows(), output)
    assert {value.dtype for value in Artifact.load(output).weights.values()} == {torch.float32}
    assert check(Predictor.from_artifact(output), read_check_rows(output)) == 0


def test_data_config_and_output_may_be_objects(bucket, output, caplog, monkeypatch):
    values, rows = {**CONFIG, "max_epochs": 2}, output.parent / "rows.csv"
    labelled_rows().to_csv(rows, index=False)
    (bucket / "rows.csv").put(rows)
    (bucket / "config.json").put(json.dumps(values).encode())
    arguments = f"{bucket}/config.json", f"{bucket}/rows.csv", f"{bucket}/jobs/model"
    stopped(monkeypatch, 1, *arguments)
    assert "resume" not in caplog.text
    assert not (bucket / "jobs").exists()
    there, here = train(*arguments).folder, train(values, rows, output).folder
    assert str(there) == arguments[2]
    assert (there / "model.safetensors").read_bytes() == (here / "model.safetensors").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == names(here)
    with pytest.raises(UsageError, match="already exists"):
        train(*arguments)


# Calibration


# Memory and precision


def test_gradient_checkpointing_leads_to_the_same_weights(output, tmp_path, monkeypatch):
    computed = []
    original = BertSelfAttention.forward

    def counted(self, *arguments, **options):
        computed.append(1)
        return original(self, *arguments, **options)

    monkeypatch.setattr(BertSelfAttention, "forward", counted)
    train(ENCODING, labelled_rows(), tmp_path / "plain")
    once = len(computed)
    train({**ENCODING, "gradient_checkpointing": True}, labelled_rows(), output)
    assert len(computed) - once == once + 1  # the backward pass of the only step computes the layer again
    assert (output / "model.safetensors").read_bytes() == (tmp_path / "plain/model.safetensors").read_bytes()


def test_checkpointing_needs_layers_of_transformers(output, tmp_path):
    with pytest.raises(ConfigError, match="gradient_checkpointing: the model class has no encoder of transformers"):
        train({**CONFIG, "gradient_checkpointing": True}, tmp_path / "not-there.csv", output)


@pytest.mark.parametrize(("gpu", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_precision_that_the_device_lacks_is_an_error_before_the_rows_are_read(
    output, tmp_path, monkeypatch, gpu, precision
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "An old GPU")
    with pytest.raises(ConfigError, match=f"cannot train in '{precision}'") as caught:
        train({**CONFIG, "precision": precision}, tmp_path / "not-there.csv", output)
    assert caught.value.where == "config.precision"
    assert "32-true" in caught.value.fix
