"""Runs on CSV files of other dialects."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest
from support.toy import toy_rows, write_toy_artifact

from bsm_core import Artifact, Predictor
from bsm_core.errors import UsageError
from bsm_core.scoring.self_check import add_check

SPANISH = {"csv_decimal": ",", "csv_thousands": ".", "csv_delimiter": ";", "csv_encoding": "latin-1"}


def spanish(rows):
    amounts = rows["amount"].map(lambda text: text.replace(".", ",") if text else text)
    return rows.assign(amount=amounts, id="ñ" + rows["id"])


def probabilities(folder):
    return pd.read_csv(folder / "inference_predictions.csv", dtype={"id": str})


@pytest.mark.parametrize("by", ["flags", "config"])
def test_another_dialect_has_the_numbers_of_the_plain_one(run, tmp_path, by):
    rows = toy_rows(23)
    rows.to_csv(run.data / "t.csv", index=False)
    run()
    plain = probabilities(run.out)
    spanish(rows).to_csv(run.data / "t.csv", index=False, sep=";", encoding="latin-1")
    if by == "config":
        run(model_dir=write_toy_artifact(tmp_path / "other", **SPANISH), run_record=True)
    else:
        run(**SPANISH, run_record=True)
    other = probabilities(run.out)
    assert list(other["id"]) == ["ñ" + name for name in plain["id"]]
    pd.testing.assert_frame_equal(other.drop(columns="id"), plain.drop(columns="id"))
    assert json.loads((run.out / "run.json").read_text())["counts"].get("number:amount", 0) == 0


def test_a_predictor_reads_numbers_as_the_config_says_and_check_rows_as_they_are_stored(toy_site, tmp_path):
    folder = write_toy_artifact(tmp_path / "model", **SPANISH)
    rows = toy_rows(5).assign(amount=["1.5", "2.25", "", "1000.5", "-3"])
    typed = pa.Table.from_pandas(rows.assign(amount=pd.to_numeric(rows["amount"])))
    add_check(folder, typed)
    assert [row["amount"] for row in Artifact.load(folder).check_rows.rows] == ["1.5", "2.25", None, "1000.5", "-3.0"]
    predictor = Predictor.from_artifact(folder)
    text = rows.assign(amount=["1,5", "2,25", "", "1.000,5", "-3"])
    pd.testing.assert_frame_equal(predictor.predict(text), predictor.predict(typed))
    issues = []
    predictor.predict(rows.assign(amount="1.5"), on_issue=issues.append)
    assert {issue.reason for issue in issues} == {"not a number (the decimal point is ',')"}


def test_cells_with_spark_escapes_are_counted_with_the_flag_to_give(run, caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    lines = ["id,chat,amount,channel", '1,"he said \\"where\\" is it",1,web', "2,b,1,web"]
    (run.data / "t.csv").write_text("\n".join(lines) + "\n")
    run(run_record=True)
    assert json.loads((run.out / "run.json").read_text())["counts"]["escapes:cells"] == 1
    assert any("1 quoted cell(s)" in line and "--csv-escape '\\'" in line for line in caplog.messages)
    caplog.clear()
    run(csv_escape="\\", run_record=True)
    assert "escapes:cells" not in json.loads((run.out / "run.json").read_text())["counts"]


def test_flags_that_contradict_each_other(run):
    (run.data / "t.csv").write_text("1,a,1,web\n")
    with pytest.raises(UsageError, match="csv_header: none needs csv_columns"):
        run(csv_header="none")
    run(csv_header="none", csv_columns="id,chat,amount,channel")
    assert list(probabilities(run.out)["id"]) == ["1"]
