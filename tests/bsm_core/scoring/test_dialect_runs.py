"""Runs on CSV files of other dialects."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest
from support.toy import toy_rows, write_toy_artifact

from bsm_core import Artifact, Predictor
from bsm_core.cli import main
from bsm_core.errors import ConfigError, DataError, UsageError
from bsm_core.scoring import attempt
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


@pytest.mark.parametrize("by", ["flags", "config"])
def test_strings_of_json_lines_have_the_dialect_and_numbers_have_that_of_json(run, tmp_path, by):
    rows = toy_rows(6).assign(amount=[1.5, -2.25, 1000.5, 1e-3, 1.5, 7])
    rows.to_json(run.data / "t.jsonl", orient="records", lines=True)
    run()
    plain = probabilities(run.out)
    texts = ["1,5", "-2,25", "1'000,5", 1e-3, 1.5, "7"]
    rows.assign(amount=texts).to_json(run.data / "t.jsonl", orient="records", lines=True)
    settings = {"csv_decimal": ",", "csv_thousands": "'", "csv_encoding": "latin-1", "csv_delimiter": ";"}
    if by == "config":
        run(model_dir=write_toy_artifact(tmp_path / "other", **settings), run_record=True, keep_columns="amount")
    else:
        run(**settings, run_record=True, keep_columns="amount")
    pd.testing.assert_frame_equal(probabilities(run.out)[plain.columns], plain)
    kept = pd.read_csv(run.out / "inference_predictions.csv", dtype=str)["amount"]
    assert list(kept) == ["1,5", "-2,25", "1'000,5", "0.001", "1.5", "7"]
    assert json.loads((run.out / "run.json").read_text())["counts"].get("number:amount", 0) == 0


def test_groups_after_a_point_cannot_be_told_from_numbers_of_json(run, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    (run.data / "t.jsonl").write_text('{"id": "1", "chat": "a", "amount": "1.500", "channel": "web"}\n')
    run(csv_decimal=",", csv_thousands=".")
    assert any("--csv-thousands" in line and "'1.500' is 1.5" in line for line in caplog.messages)
    run(model_dir=write_toy_artifact(tmp_path / "other", **SPANISH))
    assert any("config.csv_thousands" in line and "'1.500' is 1.5" in line for line in caplog.messages)


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
    with pytest.raises(UsageError, match="--csv-header: none needs --csv-columns"):
        run(csv_header="none")
    run(csv_header="none", csv_columns="id,chat,amount,channel")
    assert list(probabilities(run.out)["id"]) == ["1"]


@pytest.mark.parametrize("escape", [",", "\t"])
def test_the_escape_character_is_not_the_delimiter_of_the_format(run, escape):
    toy_rows(3).to_csv(run.data / f"t.{'csv' if escape == ',' else 'tsv'}", index=False, sep=escape)
    with pytest.raises(UsageError, match="--csv-escape: is the delimiter"):
        run(csv_escape=escape)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"csv_header": "none"}, "config.csv_header: none needs"),
        ({"csv_columns": ["a"]}, "config.csv_columns: needs"),
        ({"csv_escape": ";", "csv_delimiter": ";"}, "config.csv_escape: is the delimiter"),
        ({"csv_thousands": "."}, "config.csv_thousands: is the decimal point"),
        ({"csv_decimal": ";"}, "config.csv_decimal: should be"),
    ],
)
def test_a_config_that_cannot_be_used_is_named_by_its_keys(run, tmp_path, config, problem):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    folder = write_toy_artifact(tmp_path / "other", **config)
    for start in (lambda: run(model_dir=folder), lambda: Predictor.from_artifact(folder)):
        with pytest.raises(ConfigError, match=problem):
            start()


def test_names_of_too_few_columns_are_blamed_on_the_config(run, tmp_path):
    (run.data / "t.csv").write_text("1,a,1,web\n")
    folder = write_toy_artifact(tmp_path / "other", csv_header="none", csv_columns=["id", "chat"])
    with pytest.raises(DataError, match=r"config.csv_columns names 2 column"):
        run(model_dir=folder)


def test_a_flag_undoes_what_the_config_says(run, tmp_path):
    rows = toy_rows(23)
    rows.to_csv(run.data / "t.csv", index=False)
    run()
    plain = probabilities(run.out)
    config = {"csv_header": "none", "csv_columns": ["a"], "csv_decimal": ",", "csv_thousands": ".", "csv_escape": "\\"}
    folder = write_toy_artifact(tmp_path / "other", **config)
    with pytest.raises(ConfigError, match=r"config.csv_thousands: is the decimal point"):
        run(model_dir=folder, csv_header="first", csv_decimal=".")
    run(model_dir=folder, csv_header="first", csv_decimal=".", csv_thousands="none", csv_escape="none")
    pd.testing.assert_frame_equal(probabilities(run.out), plain)


def test_the_default_delimiter_given_is_the_same_run(run, monkeypatch):
    """A run goes on where another one with the same meaning was killed."""
    toy_rows(9).to_csv(run.data / "t.csv", index=False)
    plans = []
    plan_of = attempt.plan_of
    monkeypatch.setattr(attempt, "plan_of", lambda *a: plans.append(plan_of(*a)) or plans[-1])
    for flags in ({}, {"csv_delimiter": ",", "csv_escape": '"', "csv_encoding": "utf8", "csv_decimal": "."}):
        run(**flags)
    run(csv_delimiter=",", csv_escape="\\")
    assert plans[0] == plans[1] != plans[2]


def test_the_numbers_of_json_have_no_dialect(run, tmp_path):
    amounts = ["1.234", "1.5", "-2", None, "1e3"]
    lines = toy_rows(5).assign(amount=amounts)
    lines.to_csv(run.data / "t.csv", index=False)
    run()
    plain = probabilities(run.out)
    (run.data / "t.csv").unlink()
    objects = [
        {**row, "amount": None if a is None else float(a)}
        for row, a in zip(lines.to_dict("records"), amounts, strict=True)
    ]
    (run.data / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    folder = write_toy_artifact(tmp_path / "other", csv_decimal=",", csv_thousands=".")
    for flags in ({"csv_decimal": ",", "csv_thousands": "."}, {"model_dir": folder}):
        run(**flags, run_record=True)
        pd.testing.assert_frame_equal(probabilities(run.out), plain)
        assert not json.loads((run.out / "run.json").read_text())["counts"].get("issues:feature")
    assert main(["pack", str(folder), str(tmp_path / "packed"), "--data", str(run.data / "t.jsonl")]) in (0, None)
    check_rows = Artifact.load(tmp_path / "packed").check_rows
    assert [row["amount"] for row in check_rows.rows] == ["1.234", "1.5", "-2.0", None, "1000.0"]
