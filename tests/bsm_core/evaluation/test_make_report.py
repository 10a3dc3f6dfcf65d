"""``bsm report``, from output folders to pages."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from support.toy import toy_rows

from bsm_core.cli import main
from bsm_core.errors import DataError, NoInferenceDataError, UsageError
from bsm_core.evaluation.make_report import make_report
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
    from support.toy import write_toy_artifact

    write_toy_artifact(run.artifact, multiclass_categories=["ham", "spam"], label_name="kind")
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
    different = {"order": None, "least_certain": None}
    assert {**merged["statistics"], **different} == {**whole["statistics"], **different}
    ids = [{row["id"] for row in record["statistics"]["least_certain"]} for record in (merged, whole)]
    assert ids[0] == ids[1]
    assert merged["statistics"]["order"]["rows"] == []
    for key in ("rows", "counts"):
        assert merged[key] == whole[key]
    assert len(merged["attempts"]) == 2
    assert "Texts" in titles(make_report(run.out).path)
