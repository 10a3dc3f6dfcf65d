from __future__ import annotations

import json
import logging
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from support.toy import RISK_TABLES, toy_rows, write_toy_artifact

from bsm_core import Predictor, TextBatch
from bsm_core.artifact.check_rows import read_check_rows
from bsm_core.errors import CorruptArtifactError, DataError, MissingColumnsError, SelfCheckError, UsageError
from bsm_core.runtime.precision import TOLERANCES
from bsm_core.scoring.self_check import _digest, add_check, check, make, precision_of


@pytest.fixture
def checked(toy_artifact):
    """An artifact that has check rows."""
    add_check(toy_artifact, toy_rows())
    return toy_artifact


def change_weights(folder, key="head.weight", by=1.0):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights[key] = weights[key] + torch.arange(weights[key].numel()).reshape(weights[key].shape) * by
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    (folder / "model.pth").unlink()


def change_rows(folder, **changes):
    values = json.loads((folder / "self_check.json").read_text())
    (folder / "self_check.json").write_text(json.dumps({**values, **changes}))


def check_again(folder):
    """Check an artifact as it is on disk."""
    return check(Predictor.from_artifact(folder), read_check_rows(folder))


def refused(folder):
    with pytest.raises(SelfCheckError) as caught:
        check_again(folder)
    return caught.value


# What is stored


def test_the_first_rows_are_stored_as_text_and_hold(checked):
    stored = read_check_rows(checked)
    assert stored.rows == toy_rows(8)[["amount", "channel", "chat"]].to_dict("records")
    want = Predictor.from_artifact(checked).predict(toy_rows(8))
    assert np.abs(np.array(stored.probabilities) - want.to_numpy()).max() == 0
    assert (stored.precision, stored.device) == ("fp32", "cpu")
    assert check_again(checked) == 0


def test_fewer_rows_are_all_stored_and_an_earlier_check_is_replaced(checked):
    add_check(checked, toy_rows(3))
    assert len(read_check_rows(checked).rows) == 3


def test_the_same_rows_give_the_same_bytes(checked):
    before = (checked / "self_check.json").read_bytes()
    add_check(checked, toy_rows(50))
    assert (checked / "self_check.json").read_bytes() == before


def as_typed(rows):
    return rows.assign(amount=pd.to_numeric(rows["amount"]), channel=rows["channel"].astype("category"))


@pytest.mark.parametrize(
    "convert",
    [
        as_typed,
        pa.Table.from_pandas,
        lambda rows: pa.Table.from_pandas(as_typed(rows)),
        lambda rows: pa.table({name: pa.array([cell.encode() for cell in rows[name]]) for name in rows}),
        lambda rows: pa.Table.from_pandas(rows).select(["chat", "channel", "amount"]),
    ],
    ids=["frame", "table", "typed table", "bytes", "other order"],
)
def test_frames_tables_and_types_give_the_same_check(toy_artifact, convert):
    predictor = Predictor.from_artifact(toy_artifact)
    made, want = make(predictor, convert(toy_rows())), make(predictor, toy_rows())
    assert (made.probabilities, made.tokens, made.features) == (want.probabilities, want.tokens, want.features)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("amount", None),
        ("amount", float("nan")),
        ("amount", pd.NA),
        ("amount", np.float32(0.1)),
        ("amount", True),
        ("amount", Decimal("1E+2")),
        ("amount", float("inf")),
        ("amount", b"\xff"),
        ("channel", date(2024, 1, 31)),
        ("channel", [1]),
        ("chat", None),
        ("chat", 3),
        ("chat", b"\xff"),
        ("chat", "no!"),
    ],
    ids=ascii,
)
def test_any_cell_can_be_stored_and_scores_as_it_would_in_a_table(toy_artifact, column, cell):
    predictor = Predictor.from_artifact(toy_artifact)
    rows = toy_rows(3).astype(object)
    rows.at[1, column] = cell
    made = make(predictor, rows)
    assert check(predictor, made) == 0
    assert np.abs(np.array(made.probabilities) - predictor.predict(rows).to_numpy()).max() == 0


def test_rows_that_cannot_be_stored_are_refused(toy_artifact):
    with pytest.raises(MissingColumnsError, match="2 column"):
        add_check(toy_artifact, toy_rows()[["chat"]])
    with pytest.raises(DataError, match="no rows"):
        add_check(toy_artifact, toy_rows(0))
    with pytest.raises(UsageError):
        add_check(toy_artifact, [1])
    assert not (toy_artifact / "self_check.json").exists()


def test_what_is_odd_about_check_rows_is_not_logged(checked, caplog):
    add_check(checked, toy_rows(3).assign(chat="!", amount="many"))
    with caplog.at_level(logging.DEBUG):
        check_again(checked)
    assert caplog.text == ""


def test_tokens_are_told_apart_by_row_and_chunk():
    one = [[[1, 2], [3]], [[4]]]
    others = [[[[1, 2, 3]], [[4]]], [[[1, 2]], [[3], [4]]], [[[1, 2], [3]], []], [[[3], [1, 2]], [[4]]]]
    digests = {_digest(TextBatch.from_rows(rows)) for rows in [one, *others]}
    assert len(digests) == 5
    assert _digest(TextBatch.from_rows(one)) in digests


# What is found


def test_changed_weights_are_refused_with_the_size_of_the_difference(checked):
    before = read_check_rows(checked).probabilities
    change_weights(checked)
    after = Predictor.from_artifact(checked).predict(toy_rows(8)).to_numpy()
    row, column = np.unravel_index(np.abs(after - before).argmax(), after.shape)
    error = refused(checked)
    assert error.what == (
        f"the artifact returns other probabilities here than when it was packed: row {row}, prob_class_{column} "
        f"{after[row, column]:.6g} instead of {before[row][column]:.6g}, off by {np.abs(after - before).max():.3g} "
        "(tolerance 0.0001 for fp32)"
    )
    assert error.details == ("tokens and features are equal: the weights, the model class or a library differ",)
    assert "bsm pack" in error.fix
    assert "--no-self-check" in error.fix


def test_a_difference_within_the_tolerance_is_given_back(checked):
    change_weights(checked, "head.bias", by=1e-5)
    assert 0 < check_again(checked) < TOLERANCES["fp32"]


def test_changed_text_steps_are_said(checked, monkeypatch):
    import toy_bsm_steps

    monkeypatch.setattr(toy_bsm_steps.ToyTrap, "process_batch", lambda self, values: [v.upper() for v in values])
    (line,) = refused(checked).details
    assert line == "tokens of 'chat' differ: the tokenizer or its text steps are not those of the artifact"


def test_changed_tables_are_said_with_their_features(checked):
    for twin in ("risk_table_map.pkl", "impute_dict.pkl"):
        (checked / twin).unlink()
    (checked / "risk_table_map.json").write_text(json.dumps({"channel": {"bins": {"web": 9.0}, "default_bin": -9.0}}))
    (line,) = refused(checked).details
    assert line.startswith("features differ: 'channel': the risk tables, imputation values or scaling are not those of")
    (checked / "risk_table_map.json").write_text(json.dumps(RISK_TABLES))
    (checked / "impute_dict.json").write_text(json.dumps({"amount": 99}))
    assert "features differ: 'amount':" in str(refused(checked))


def test_features_in_another_order_are_said(checked):
    stored = read_check_rows(checked)
    write_toy_artifact(checked, tab_field_list=["channel", "amount"])
    with pytest.raises(SelfCheckError, match="the features or their order differ"):
        check(Predictor.from_artifact(checked), stored)


def test_changed_versions_are_listed_and_alone_are_no_error(checked):
    versions = {**read_check_rows(checked).versions, "torch": "1.0", "acme": "3"}
    del versions["numpy"]
    change_rows(checked, versions=versions)
    assert check_again(checked) == 0
    change_weights(checked)
    details = refused(checked).details
    assert f"library torch was 1.0, is {torch.__version__}" in details
    assert f"library numpy was not there, is {np.__version__}" in details
    assert "library acme was 3, is not there" in details
    assert len(details) == 4


def test_a_model_that_fails_on_the_rows_is_refused(checked):
    change_weights(checked, "head.bias", by=float("nan"))
    error = refused(checked)
    assert error.what.startswith("the artifact's check rows cannot be scored here: model class 'toy_model' returned")
    assert "infinite for 8 of 8 rows" in error.what


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [{"chat": "hi", "amount": "1"}]}, "no column 'channel', needed for config.tab_field_list"),
        ({"probabilities": [[0.2, 0.3, 0.5]]}, "probabilities of 3 classes, the model has 2"),
    ],
    ids=["column", "classes"],
)
def test_rows_of_another_artifact_are_refused(checked, changes, words):
    add_check(checked, toy_rows(1))
    change_rows(checked, **changes)
    with pytest.raises(CorruptArtifactError, match=r"self_check\.json") as caught:
        check_again(checked)
    assert caught.value.details == (words,)


# Precision


@pytest.fixture
def half(checked, monkeypatch):
    """The artifact's predictor, in bfloat16."""
    import toy_bsm_model

    def forward(self, batch):
        text = toy_bsm_model.encode_rows(batch.texts["chat"], self.encode, self.token_budget)
        return self.head(torch.cat([text, batch.features], dim=1).to(self.dtype))

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", forward)
    predictor = Predictor.from_artifact(checked)
    predictor.model.to(torch.bfloat16)
    return predictor


def test_bfloat16_passes_where_float32_would_not_and_is_said_when_truly_off(half, checked):
    assert TOLERANCES["fp32"] < check(half, read_check_rows(checked)) < TOLERANCES["bf16"]
    with torch.no_grad():
        half.model.head.bias[0] += 3
    with pytest.raises(SelfCheckError, match=r"tolerance 0\.05 for bf16") as caught:
        check(half, read_check_rows(checked))
    assert "bf16 on cpu, was fp32 on cpu" in caught.value.details


def test_the_looser_precision_of_then_and_now_counts(half, checked):
    made = make(half, toy_rows())
    assert made.precision == "bf16"
    assert check(Predictor.from_artifact(checked), made) > TOLERANCES["fp32"]


def test_a_model_is_as_precise_as_its_loosest_parameter():
    model = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).half()])
    assert precision_of(model) == "fp16"
    assert precision_of(model.to(torch.float8_e5m2)) == "float8_e5m2"
    assert precision_of(torch.nn.Identity()) == "fp32"


def test_a_precision_nobody_knows_counts_as_the_loosest(checked):
    change_weights(checked, "head.bias", by=0.01)
    refused(checked)
    change_rows(checked, precision="int3")
    assert check_again(checked) > TOLERANCES["fp32"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_holds_what_the_cpu_gave(checked):
    predictor = Predictor.from_artifact(checked, device="cuda")
    assert precision_of(predictor.model) == "tf32"
    assert check(predictor, read_check_rows(checked)) < TOLERANCES["tf32"]


def test_an_artifact_that_reads_no_column_has_no_check_rows(toy_artifact, monkeypatch):
    predictor = Predictor.open(toy_artifact)
    monkeypatch.setattr(type(predictor.preprocessor), "wanted", {})
    with pytest.raises(DataError, match="no rows to check") as caught:
        make(predictor, toy_rows())
    assert caught.value.fix == "give a table with rows and its columns"
