from __future__ import annotations

import json
import logging

import numpy as np
import pyarrow as pa
import pytest
from support.toy import toy_rows

from bsm_core.preprocess.features import Features, Imputer
from bsm_core.preprocess.findings import IssueWarnings

AMOUNTS = {"amount": 2.0}


def found(cells, largest=AMOUNTS, impute=-1.0):
    return Features(["amount"], {"amount": Imputer(impute)}, {}, largest).transform({"amount": cells}, len(cells))[1]


def test_numbers_more_than_ten_times_the_largest_of_training_are_counted_and_the_first_is_named():
    findings = found(["20", "-20.5", "1e30", "1"])
    assert findings.counts() == {"magnitude:amount": 2}
    (first,) = findings.examples
    assert (first.row, first.value) == (1, "-20.5")
    assert first.reason == "a number more than 10 times the largest of training, 2"


def test_what_replaces_a_missing_or_bad_number_does_not_count():
    findings = found(["", "x", "inf", None, "0.5"], {"amount": 0.05}, impute=-1.0)
    assert [(example.row, example.value) for example in findings.examples] == []
    assert "magnitude:amount" not in findings.counts()
    mixed = pa.UnionArray.from_sparse(pa.array([0, 1, 1], pa.int8()), [pa.array([None, 1, 1]), pa.array(["", "", "9"])])
    assert [example.row for example in found(mixed, {"amount": 0.05}).examples] == [2]


@pytest.mark.parametrize("largest", [{}, {"other": 1.0}, {"amount": 1e38}], ids=str)
def test_without_a_limit_no_number_is_named(largest):
    assert found(["3.4e38", "-3.4e38"], largest).examples == ()


def test_the_limit_is_a_number_of_the_precision_of_features():
    assert found(["7.0"], {"amount": float(np.float32(0.7))}).examples == ()


def test_no_rows():
    assert found([]).examples == ()


def test_one_number_of_each_column_is_named(caplog):
    warnings = IssueWarnings(limit=10)
    findings = found(["1e30"])
    with caplog.at_level(logging.WARNING, "bsm"):
        for _ in range(3):
            warnings.add(findings, lambda rows: [b"x-1" for _ in rows])
    reason = "a number more than 10 times the largest of training, 2"
    assert caplog.messages == [f"row 'x-1': column 'amount': {reason}: 1e+30; it is used as it is"]


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
