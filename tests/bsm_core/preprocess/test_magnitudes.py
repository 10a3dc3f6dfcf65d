from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.toy import toy_rows

from bsm_core import Predictor
from bsm_core.preprocess.findings import Findings, IssueWarnings
from bsm_core.preprocess.magnitudes import Magnitudes
from bsm_core.training import train


def matrix(*rows):
    return np.array(rows, np.float32)


def test_numbers_more_than_ten_times_the_largest_of_training_are_counted_and_the_first_is_named():
    magnitudes = Magnitudes(["a", "risk", "b"], {"a": 2.0, "b": 0.0})
    values = matrix([20.0, 1e9, 0.0], [-20.5, 0.0, 0.0], [1e30, 0.0, 1e-3])
    found = magnitudes.unseen(values)
    assert {name: (count, first.row, first.value) for name, (count, first) in found.items()} == {
        "a": (2, 1, "-20.5"),
        "b": (1, 2, "0.0010000000474974513"),
    }
    assert found["a"][1].reason == "a number more than 10 times the largest of training, 2"


@pytest.mark.parametrize("largest", [{}, {"other": 1.0}, {"a": 1e38}], ids=str)
def test_without_a_limit_no_number_is_named(largest):
    assert Magnitudes(["a"], largest).unseen(matrix([3.4e38], [-3.4e38])) == {}


def test_no_rows_and_no_features():
    assert Magnitudes(["a"], {"a": 1.0}).unseen(np.empty((0, 1), np.float32)) == {}
    assert Magnitudes([], {}).unseen(np.empty((3, 0), np.float32)) == {}


def test_one_number_of_each_column_is_named(caplog):
    warnings = IssueWarnings(limit=10)
    first = Magnitudes(["a"], {"a": 2.0}).unseen(matrix([1e30]))["a"][1]
    with caplog.at_level(logging.WARNING, "bsm"):
        for _ in range(3):
            warnings.add(Findings(examples=[first]), lambda rows: [b"x-1" for _ in rows])
    reason = "a number more than 10 times the largest of training, 2"
    assert caplog.messages == [f"row 'x-1': column 'a': {reason}: 1.0000000150474662e+30; it is used as it is"]
    assert Findings(examples=[first]).counts() == {}


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_says_which_magnitudes_training_never_saw(run, caplog, devices):
    config = run.artifact / "hyperparameters.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"largest_magnitudes": {"amount": 12.0}}))
    rows = toy_rows(20).assign(amount="1")
    rows.loc[11, "amount"], rows.loc[13, "amount"] = "121", "-1e30"
    rows.to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.INFO, "bsm"):
        counts = run(window_rows=4, device="cpu", devices=devices, max_bad_rows=0).counts
    assert counts["magnitude:amount"] == 2
    if devices == 1:  # the log of other processes is not this one's
        assert (
            "row '011': column 'amount': a number more than 10 times the largest of training, 12: 121.0" in caplog.text
        )
        assert "numbers whose magnitude training never saw: 'amount' 2" in caplog.text


def test_training_records_the_largest_magnitudes(tmp_path):
    rows = pd.DataFrame({"id": range(40), "a": [-3.5, *[1.0] * 39], "empty": [None] * 40, "label": [0, 1] * 20})
    config = {
        "model_class": "tabular",
        "tab_field_list": ["a", "empty"],
        "label_name": "label",
        "max_epochs": 1,
        "hidden_common_dim": 4,
    }
    train({**config, "hidden_common_dim": 4, "validation_fraction": 0}, rows, tmp_path / "model")
    predictor = Predictor.from_artifact(tmp_path / "model")
    assert predictor.preprocessor.config.largest_magnitudes == {"a": 3.5, "empty": 1.0}
    issues = []
    table = pa.table({"a": [1e9, 1.0], "empty": [5.0, None]})
    assert len(predictor.predict(table, on_issue=issues.append)) == 2
    assert issues == []
