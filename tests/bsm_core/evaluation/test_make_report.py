"""``bsm report``, from output folders to pages."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from support import toy
from support.toy import toy_rows

from bsm_core.artifact.training_distributions import (
    CategoryDistribution,
    TrainingDistributions,
    write_training_distributions,
)
from bsm_core.cli import main
from bsm_core.errors import DataError, NoInferenceDataError, UsageError
from bsm_core.evaluation.make_report import make_report
from bsm_core.report.statistics import shown
from bsm_core.scoring.output.merge import merge


def titles(path):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", path.read_text("utf-8"))


def write_labels(path, rows=60, **columns):
    frame = pd.DataFrame({"id": toy_rows(rows)["id"], "label": [str(i % 2) for i in range(rows)]})
    frame.assign(**columns).to_csv(path, index=False)
    return path


def test_the_command_draws_the_page_of_the_run_record(data, tmp_path, capsys, quiet_log):
    data(report=tmp_path / "a.html", run_record=True)
    assert main(["report", str(data.out)]) == 0
    assert capsys.readouterr().out == f"report: {data.out / 'report.html'}\n"
    assert (data.out / "report.html").read_bytes() == (tmp_path / "a.html").read_bytes()
    assert main(["report", str(data.out), "-o", str(tmp_path / "b.html")]) == 0
    assert (tmp_path / "b.html").exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_with_labels(run, tmp_path, recorded, capsys, quiet_log):
    toy_rows(60).to_csv(run.data / "t.csv", index=False)
    run(run_record=recorded, window_rows=16)
    labels = write_labels(tmp_path / "labels.csv", 50)
    capsys.readouterr()
    assert main(["report", str(run.out), "--labels", str(labels), "-o", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr().out
    assert "note: predictions whose id is not in the labels: 10, such as id '050'" in said
    assert ("note: There is no run.json with statistics of all rows" in said) == (not recorded)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert ("Numeric features" in titles(tmp_path / "r.html")) == recorded
    predicted = pd.read_csv(run.out / "inference_predictions.csv")[:50]
    right = ((predicted["prob_class_1"] > 0.5) == [bool(i % 2) for i in range(50)]).mean()
    assert re.search(rf"accuracy</th><td class=\"n\">{right:.4f}<", page)


def test_a_prediction_file_without_its_folder(run, tmp_path):
    toy_rows(300).to_parquet(run.data / "t.parquet")
    path = run(run_record=True).path
    alone = tmp_path / "elsewhere" / "scores.parquet"
    alone.parent.mkdir()
    path.rename(alone)
    drawn = make_report(alone)
    assert drawn.path == alone.parent / "report.html"
    assert titles(drawn.path) == ["At a glance", "Scores", "Scores over the input", "Least certain rows", "Provenance"]
    whole = json.loads((run.out / "run.json").read_text())["statistics"]
    assert f">{whole['least_certain'][0]['id']}<" in drawn.path.read_text("utf-8")


def test_labels_by_the_names_that_training_gave(run, tmp_path):
    toy.write_toy_artifact(run.artifact, multiclass_categories=["ham", "spam"], label_name="kind")
    toy_rows(20).to_csv(run.data / "t.csv", index=False)
    run(run_record=True)
    assert json.loads((run.out / "run.json").read_text())["statistics"]["classes"] == ["ham", "spam"]
    labels = write_labels(tmp_path / "l.csv", 20, kind=["ham", "spam"] * 10, label="1")
    page = make_report(run.out, labels=labels).path.read_text("utf-8")
    assert "20 rows have a label" in page
    assert "predicted spam" in page


def test_a_folder_without_predictions_or_of_a_run_that_failed(run, tmp_path):
    with pytest.raises(NoInferenceDataError):
        make_report(tmp_path / "none")
    with pytest.raises(NoInferenceDataError):
        make_report(run.data)
    toy_rows(3).drop(columns="amount").to_csv(run.data / "t.csv", index=False)
    with pytest.raises(KeyError):
        run()
    with pytest.raises(DataError, match="the run has failed") as error:
        make_report(run.out)
    assert "MissingColumnsError" in error.value.details[0]


def test_labels_of_other_rows_are_an_error(data, tmp_path):
    data()
    labels = tmp_path / "labels.csv"
    pd.DataFrame({"id": ["x1", "x2"], "label": [0, 1]}).to_csv(labels, index=False)
    with pytest.raises(DataError, match="no prediction has both probabilities and a label"):
        make_report(data.out, labels=labels)
    with pytest.raises(UsageError, match="--label-column without --labels"):
        make_report(data.out, label_column="label")


def test_a_file_that_holds_no_probabilities(tmp_path):
    path = tmp_path / "inference_predictions.csv"
    path.write_text("id,prob_class_0,prob_class_1\na,0.5,many\n")
    with pytest.raises(DataError, match="cannot be used") as error:
        make_report(tmp_path)
    assert "row 1, id 'a'" in error.value.where
    path.write_text("id,score\na,0.5\n")
    with pytest.raises(UsageError, match="one probability column for each class"):
        make_report(tmp_path)


def test_a_report_replaces_no_table(data, tmp_path, capsys, quiet_log):
    path, labels = data().path, write_labels(tmp_path / "labels.csv")
    for to in (path, labels):
        before = to.read_bytes()
        assert main(["report", str(data.out), "--labels", str(labels), "--label-column", "label", "-o", str(to)]) == 2
        assert to.read_bytes() == before
        assert "a report is an HTML file" in capsys.readouterr().err


def test_a_number_of_resamples_below_0_is_wrong_usage(data, tmp_path, capsys, quiet_log):
    labels = write_labels(tmp_path / "labels.csv")
    for command in ("evaluate", "report"):
        with pytest.raises(SystemExit, match="2"):
            main([command, str(data.out), "--labels", str(labels), "--resamples", "-3"])
        assert "--resamples: '-3' is not a number from 0" in capsys.readouterr().err


def test_rows_with_empty_probabilities(tmp_path):
    path = tmp_path / "inference_predictions.csv"
    path.write_text("id,prob_class_0,prob_class_1\na,0.5,0.5\nb,,\n")
    page = make_report(tmp_path).path.read_text("utf-8")
    assert "1 row(s) have no probabilities" in page
    path.write_text("id,prob_class_0,prob_class_1\na,0.5,0.5\nb,0.2,\nc,,0.7\n")
    page = make_report(tmp_path).path.read_text("utf-8")
    assert "2 row(s) have no probabilities" in page


@pytest.mark.parametrize("value", ["120", "-4"])
def test_what_is_no_probability_is_refused_as_evaluate_refuses_it(tmp_path, value):
    path = tmp_path / "inference_predictions.csv"
    path.write_text(f"id,prob_class_0,prob_class_1\na,0.5,0.5\nb,0.5,{value}\n")
    with pytest.raises(DataError, match=f"the probability {value} is not from 0 to 1") as error:
        make_report(tmp_path)
    assert "row 2, id 'b'" in error.value.where


DAMAGES = [
    (lambda record: record.update(statistics={"format": 1}), "is damaged (statistics.rows: "),
    (lambda record: record.update(statistics={"format": 0}), "has the statistics of another version"),
    (lambda record: record.update(statistics=[1]), "is damaged (statistics: "),
    (lambda record: record.update(counts={"bad_rows": "many"}), "is damaged (counts.bad_rows: "),
    (lambda record: record.update(counts={"reason:x": 1}), "a count of a reason has no stage"),
    (
        lambda record: record["statistics"].update(classes=["a", "b", "c"], probabilities=[[0] * 100] * 3),
        "has 3 classes and the predictions have 2",
    ),
    (lambda record: record["statistics"]["classes"].pop(), "the counts are those of another number of classes"),
    (lambda record: record["statistics"].update(probabilities=[]), "are those of another number of classes"),
    (lambda record: record["statistics"].update(rows=10**400), "is damaged (statistics.rows: "),
    (lambda record: record["statistics"]["numbers"]["amount"]["counts"].pop(), "not one count for each bin"),
    (lambda record: record["statistics"]["probabilities"][0].pop(), "is damaged (statistics.probabilities.0: "),
    (lambda record: record["statistics"]["order"]["means"][0].pop(), "not one mean for each bucket"),
    (lambda record: record.update(rows=120), "has 120 rows and the predictions have 23"),
]


def test_a_run_record_that_does_not_fit_is_passed_over(data):
    data(run_record=True)
    path = data.out / "run.json"
    text = path.read_text()
    for damage, why in DAMAGES:
        record = json.loads(text)
        damage(record)
        path.write_text(json.dumps(record))
        drawn = make_report(data.out)
        assert why in drawn.notes[0]
        assert "<strong>23</strong>" in drawn.path.read_text("utf-8")
        assert "Numeric features" not in titles(drawn.path)


def test_predictions_that_were_replaced_are_not_those_of_the_run_record(data):
    path = data(run_record=True).path
    path.write_text("id,prob_class_0,prob_class_1\na,0.5,0.5\n")
    drawn = make_report(data.out)
    assert "run.json has 23 rows and the predictions have 1" in drawn.notes[0]
    assert "<strong>1</strong>" in drawn.path.read_text("utf-8")


def test_shards_have_reports_of_their_own_and_merge_to_one_record(run, tmp_path):
    for number, part in enumerate((toy_rows(90)[:40], toy_rows(90)[40:])):
        part.to_csv(run.data / f"{number}.csv", index=False)
    run(run_record=True, output_dir=tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "run.json").read_text())
    for number in (0, 1):
        run(run_record=True, shard=f"{number}/2", report=tmp_path / "r.html")
    assert {path.name for path in tmp_path.glob("*.html")} == {"r-00000-of-00002.html", "r-00001-of-00002.html"}
    merge(run.out)
    merged = json.loads((run.out / "run.json").read_text())
    assert {**merged["statistics"], "order": None} == {**whole["statistics"], "order": None}
    assert merged["statistics"]["order"]["rows"] == []
    for key in ("rows", "counts"):
        assert merged[key] == whole[key]
    assert len(merged["attempts"]) == 2
    assert "Texts" in titles(make_report(run.out).path)


LONG = "x" * 300
MANY = [*"abcdefghijklmnopqrstuvwxyz"]


def test_shards_count_as_one_run_and_name_their_rows_as_it_does(run, tmp_path, monkeypatch):
    """Categories beyond the ten that a record names, names that are cut, and files that the shards take in turn."""
    known = ["web", *MANY, LONG]
    trained = TrainingDistributions(
        rows=1_000,
        classes=[500, 500],
        numbers={},
        categories={"channel": CategoryDistribution(counts={"web": 560, shown(LONG): 440}, other=0, missing=0)},
        texts={},
        scores=[],
    )
    monkeypatch.setattr(toy, "RISK_TABLES", {"channel": {"bins": dict.fromkeys(known, 0.5), "default_bin": 0.5}})
    toy.write_toy_artifact(run.artifact)
    write_training_distributions(run.artifact, trained)
    rows = toy_rows(300)
    names = ["web"] * 14 + [LONG] * 11 + MANY[:12] + [f"new {i % 9}" for i in range(13)]
    rows["channel"] = [names[i * 7 % 50] for i in range(300)]
    for number, (first, last) in enumerate([(0, 90), (90, 100), (100, 201), (201, 210), (210, 300)]):
        rows[first:last].to_csv(run.data / f"{number}.csv", index=False)
    run(run_record=True, output_dir=tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "run.json").read_text())["statistics"]
    for number in (0, 1):
        run(run_record=True, shard=f"{number}/2")
    unmerged = make_report(run.out, to=tmp_path / "unmerged.html")
    assert unmerged.notes == []
    merge(run.out)
    merged = json.loads((run.out / "run.json").read_text())["statistics"]
    assert {**merged, "order": None} == {**whole, "order": None}
    assert len(whole["categories"]["channel"]["counts"]) == 12  # those of training, and ten others
    assert whole["categories"]["channel"]["stability_index"] > 0.25
    ids = pd.read_csv(run.out / "inference_predictions.csv", dtype={"id": str})["id"]
    assert [ids[row["row"]] for row in merged["least_certain"]] == [row["id"] for row in merged["least_certain"]]
    page = make_report(run.out, to=tmp_path / "merged.html").path.read_text("utf-8")
    assert re.findall("<h2.*", page) == re.findall("<h2.*", unmerged.path.read_text("utf-8"))
    assert page.count("<td>new ") == unmerged.path.read_text("utf-8").count("<td>new ")


def test_shards_without_records_say_how_to_get_them(run):
    for number in (0, 1):
        toy_rows(9).to_csv(run.data / f"{number}.csv", index=False)
    for number in (0, 1):
        run(run_record=number == 0, shard=f"{number}/2")
    assert "There is no run.json with statistics of all rows" in make_report(run.out).notes[0]
