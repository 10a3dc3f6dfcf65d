"""Evaluating files: what is found where, what is said, and the command."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toy import toy_rows, write_toy_artifact

from bsm_core import cli, evaluate
from bsm_core.errors import DataError, MissingColumnsError, NoInferenceDataError, UsageError
from bsm_core.scoring.output.merge import merge

P = [0.1, 0.4, 0.35, 0.8]
"""Probabilities of class 1 of four rows with the labels 0, 0, 1, 1: an AUROC of 3/4."""


def predictions(path, ids=("01", "02", "03", "04"), p=P, **columns):
    frame = pd.DataFrame({"id": list(ids), **columns, "prob_class_0": [1 - x for x in p], "prob_class_1": p})
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def labels(path, cells=(0, 0, 1, 1), ids=("01", "02", "03", "04"), **columns):
    pd.DataFrame({"id": list(ids), "y": list(cells), **columns}).to_csv(path, index=False)
    return path


@pytest.fixture
def files(tmp_path):
    """A prediction file and a file of labels."""
    return predictions(tmp_path / "p.csv"), labels(tmp_path / "y.csv")


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.parquet"])
def test_prediction_files_of_every_format(tmp_path, name):
    found = evaluate(predictions(tmp_path / name), labels(tmp_path / "y.csv"), resamples=20)
    assert (found.rows, found.label_column, found.id_field) == (4, "y", "id")
    auroc = found.metrics["auroc"]
    assert auroc.value == 0.75
    assert 0 <= auroc.low <= auroc.value <= auroc.high <= 1
    assert [(each.name, each.rows) for each in found.classes] == [("0", 2), ("1", 2)]
    assert (found.resamples, found.confidence, found.seed) == (20, 0.95, 0)


def test_ids_that_are_integers_in_parquet_are_joined_with_text(tmp_path):
    path = predictions(tmp_path / "p.parquet", ids=[7, 8, 9, 10])
    assert evaluate(path, labels(tmp_path / "y.csv", ids=["7", "8", "9", "10"]), resamples=0).rows == 4
    typed = tmp_path / "y.parquet"
    pq.write_table(pa.table({"id": pa.array([9, 10], pa.uint8()), "y": [True, False]}), typed)
    assert evaluate(path, typed, resamples=0).rows == 2


def test_probabilities_are_read_with_all_their_digits(tmp_path):
    """In float32, both rows have a probability of 1 and the same score."""
    path = predictions(tmp_path / "p.csv", ids=["a", "b"], p=[0.99999998, 0.99999999])
    found = evaluate(path, labels(tmp_path / "y.csv", [0, 1], ["a", "b"]), resamples=0)
    assert found.metrics["auroc"].value == 1


def test_rows_with_empty_probabilities_are_left_out_and_said(tmp_path, capsys):
    path = predictions(tmp_path / "p.csv", p=[0.1, float("nan"), 0.35, 0.8])
    assert cli.main(["evaluate", str(path), "--labels", str(labels(tmp_path / "y.csv"))]) == 0
    said = capsys.readouterr().out
    assert "rows evaluated: 3 of 4, label 'y'\npredictions without probabilities: 1, such as id '02'\n" in said


def test_what_is_left_out_is_said_with_examples(tmp_path, capsys):
    path = predictions(tmp_path / "p.csv", ids=["01", "02", "03", "03"])
    theirs = labels(tmp_path / "y.csv", ["0", "maybe", "1", "0"], ["1", "02", "03", "09"])
    assert cli.main(["evaluate", str(path), "--labels", str(theirs), "--resamples", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[:9] == [
        "rows evaluated: 2 of 4, label 'y'",
        "predictions whose id is not in the labels: 1, such as id '01'",
        "predictions whose label is no class ('maybe'): 1, such as id '02'",
        "labels whose id is not in the predictions: 2, such as id '1', '09'",
        "1 ids differ only in leading zeros (or a trailing .0): '01' in the predictions is '1' in the labels",
        "write the ids of the labels as they are in the data (pandas reads them so with dtype=str)",
        "ids that the predictions have more than once: 1, in 2 rows, such as '03'",
        "",
        "  class '1'          value",
    ]


def test_no_common_id_is_an_error_that_says_why(files):
    theirs = labels(files[1], ids=["1", "2", "3", "4"])
    with pytest.raises(DataError, match="no row can be evaluated") as caught:
        evaluate(files[0], theirs)
    assert "4 ids differ only in leading zeros" in str(caught.value)


def test_the_command_prints_a_table_for_people(files, capsys):
    assert cli.main(["evaluate", *map(str, [files[0], "--labels", files[1]]), "--resamples", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == ["  class '1'          value   95% interval", *lines[3:5]]
    assert [line.split("  ")[1] for line in lines[3:12]] == [
        *("AUROC", "average precision", "log loss", "Brier score", "ECE", "F1", "precision", "recall", "accuracy"),
    ]
    assert lines[3].split()[:2] == ["AUROC", "0.7500"]
    assert lines[-1] == "intervals: bootstrap, 50 resamples, not stratified, seed 0"


def test_json_has_the_keys_that_the_page_lists(files, capsys):
    assert cli.main(["evaluate", *map(str, [files[0], "--labels", files[1]]), "--json", "--resamples", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["auroc"] == {"value": 0.75, "low": None, "high": None, "note": ""}
    assert set(found) == {
        *("predictions", "labels", "id_field", "label_column", "rows", "joined", "metrics", "classes"),
        *("macro", "weighted", "resamples", "confidence", "seed"),
    }
    assert found["macro"] is None
    assert found["joined"]["no_label_row"] == {"rows": 0, "examples": []}


def three_classes(tmp_path):
    frame = pd.DataFrame({"id": range(6)})
    for i in range(3):
        frame[f"prob_class_{i}"] = [0.6 if row % 3 == i else 0.2 for row in range(6)]
    frame.to_csv(tmp_path / "p.csv", index=False)
    return tmp_path / "p.csv", labels(
        tmp_path / "y.csv", ["low", "mid", "a very long name", "low", "low", "mid"], range(6)
    )


def test_several_classes_have_tables_of_80_columns(tmp_path, capsys):
    path, theirs = three_classes(tmp_path)
    flags = ["--classes", "low", "mid", "a very long name", "--resamples", "200"]
    assert cli.main(["evaluate", str(path), "--labels", str(theirs), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index("  class           rows  AUROC        average precision  F1")
    assert [line.split()[0] for line in lines[at + 1 : at + 11 : 2]] == ["macro", "weighted", "low", "mid", "a"]
    assert lines[at + 9].split()[:5] == ["a", "very", "long...", "1", "0.9000"]
    assert [line.split()[2:] for line in lines[at + 11 :] if line.startswith("  class")] == [
        ["precision", "recall"],
        ["log", "loss", "Brier", "score", "ECE"],
    ]
    found = evaluate(path, theirs, classes=["low", "mid", "a very long name"], resamples=0)
    assert found.metrics["accuracy"].value == 4 / 6
    assert found.classes[0].metrics["recall"].value == 2 / 3


def test_undefined_metrics_say_why(tmp_path, capsys):
    path = predictions(tmp_path / "p.csv")
    assert cli.main(["evaluate", str(path), "--labels", str(labels(tmp_path / "y.csv", [1] * 4))]) == 0
    said = capsys.readouterr().out
    assert "  AUROC              -\n" in said
    assert "  class '1': AUROC: all rows are of class '1'\n" in said


@pytest.fixture
def labeled(data):
    """A run over 23 rows, and the file of their labels."""
    rows = toy_rows(23)
    path = data.out.parent / "labels.csv"
    pd.DataFrame({"id": rows["id"], "kind": ["b" if i % 2 else "a" for i in range(23)], "x": 1}).to_csv(
        path, index=False
    )
    return data, path


def test_a_run_records_the_labels_and_names_of_its_classes(labeled, tmp_path):
    run, path = labeled
    made = write_toy_artifact(
        tmp_path / "named", label_name="kind", multiclass_categories=["a", "b"], class_names=["Andes", "Baltic"]
    )
    run(model_dir=made, run_record=True)
    for place in (run.out, run.out / "inference_predictions.csv"):
        found = evaluate(place, path, resamples=0)
        assert (found.label_column, [each.name for each in found.classes]) == ("kind", ["Andes", "Baltic"])
        assert [each.rows for each in found.classes] == [12, 11]


def test_without_a_record_the_label_column_and_the_classes_must_be_given(labeled):
    run, path = labeled
    run()
    with pytest.raises(MissingColumnsError, match="which column holds the labels") as caught:
        evaluate(run.out, path)
    assert caught.value.details == ("columns found: 'id', 'kind', 'x'",)
    with pytest.raises(DataError, match="no label of the column 'kind' is a class"):
        evaluate(run.out, path, label_column="kind")
    assert evaluate(run.out, path, label_column="kind", classes=["a", "b"], resamples=0).rows == 23


def test_a_label_column_that_is_not_there(files):
    with pytest.raises(MissingColumnsError, match="Y"):
        evaluate(*files, label_column="Y")
    with pytest.raises(UsageError, match="is the id column"):
        evaluate(*files, label_column="id")


def test_shards_that_are_not_merged_are_evaluated_as_one(run):
    rows = toy_rows(20).assign(id="7")  # so that the rows can only be joined in their order
    for number, part in enumerate([rows[:9], rows[9:11], rows[11:]]):
        part.to_csv(run.data / f"{number}.csv", index=False)
    path = labels(run.out.parent / "y.csv", [int(i in (0, 9, 10, 19)) for i in range(20)], ["7"] * 20)
    run(shard="0/2")
    with pytest.raises(UsageError, match="shards cannot be merged"):
        evaluate(run.out, path)
    run(shard="1/2")
    found = evaluate(run.out, path, resamples=0)
    merge(run.out)
    assert replace(evaluate(run.out, path, resamples=0), predictions=found.predictions) == found
    assert found.rows == 20


def test_a_folder_without_predictions(tmp_path, files):
    (tmp_path / "out").mkdir()
    with pytest.raises(NoInferenceDataError, match="no predictions in the folder"):
        evaluate(tmp_path / "out", files[1])
    (tmp_path / "out" / "_FAILURE").write_text("DataError: torn\n")
    with pytest.raises(DataError, match="the run has failed") as caught:
        evaluate(tmp_path / "out", files[1])
    assert caught.value.details == ("DataError: torn",)
    with pytest.raises(NoInferenceDataError, match="no such file"):
        evaluate(tmp_path / "gone", files[1])


def test_predictions_that_may_be_those_of_an_earlier_run(tmp_path, files, caplog):
    shutil.copy(files[0], tmp_path / "inference_predictions.csv")
    files[0].unlink()
    with caplog.at_level(logging.WARNING, "bsm"):
        evaluate(tmp_path, files[1], resamples=0)
    assert "may be those of an earlier run" in caplog.text


def test_predictions_of_two_runs_in_one_folder(tmp_path, files):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("inference_predictions.csv", "inference_predictions.parquet"):
        predictions(out / name)
    (out / "_SUCCESS").touch()
    with pytest.raises(UsageError, match="2 prediction files, of several runs"):
        evaluate(out, files[1])
    (out / "run.json").write_text('{"output": "inference_predictions.parquet"}')
    assert evaluate(out, files[1], resamples=0).predictions == str(out / "inference_predictions.parquet")


@pytest.mark.parametrize(
    "record", ["[]", "{", '{"labels": 3}', '{"labels": {"column": 3, "labels": [1], "names": "ab"}}']
)
def test_a_record_that_bsm_did_not_write_is_passed_over(tmp_path, files, record):
    (tmp_path / "run.json").write_text(record.replace("{", '{"output": "p.csv", ', 1) if len(record) > 2 else record)
    assert evaluate(*files, resamples=0).rows == 4


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"id": ["a"], "prob_class_1": [0.5]}, "add the other column: of two classes"),
        ({"id": ["a"], "prob_class_0": [0.5], "prob_class_2": [0.5]}, "rename the probability columns"),
        ({"id": ["a"], "score": [0.5]}, "rename the probability columns"),
        ({"prob_class_0": [0.5], "prob_class_1": [0.5], "id": ["a"]}, "give --id-field COLUMN, one of 'id'"),
        ({"Unnamed: 0": [0], "id": ["a"], "prob_class_0": [0.5], "prob_class_1": [0.5]}, "one of 'Unnamed: 0', 'id'"),
    ],
)
def test_columns_that_are_no_predictions(tmp_path, files, columns, what):
    pd.DataFrame(columns).to_csv(files[0], index=False)
    with pytest.raises(UsageError) as caught:
        evaluate(*files)
    assert what in caught.value.fix


@pytest.mark.parametrize(("p", "what"), [("1.5", "is not from 0 to 1"), ("much", "not a number: 'much'")])
def test_probabilities_that_are_none(files, p, what):
    files[0].write_text(f"id,prob_class_0,prob_class_1\n01,0.5,0.5\n02,0.5,{p}\n")
    with pytest.raises(DataError, match=what) as caught:
        evaluate(*files)
    assert "row 2, id '02'" in caught.value.where


def test_a_rounding_error_of_a_probability_is_none(files):
    files[0].write_text("id,prob_class_0,prob_class_1\n01,0.5,0.5\n02,-1e-8,1.00000001\n")
    assert evaluate(*files, resamples=0).rows == 2


def test_probabilities_that_do_not_add_up_to_1(files, caplog):
    files[0].write_text("id,prob_class_0,prob_class_1\n01,0.5,0.5\n02,0.2,0.5\n")
    with caplog.at_level(logging.WARNING, "bsm"):
        evaluate(*files, resamples=0)
    assert "the probabilities of 1 row(s) do not add up to 1, such as those of id '02'" in caplog.text


def test_labels_in_another_dialect(files, capsys):
    files[1].write_bytes("id;y\n01;0\n02;né\n03;1\n04;1\n".encode("cp1252"))
    command = ["evaluate", str(files[0]), "--labels", str(files[1])]
    assert cli.main(command) == 1
    assert "--csv-delimiter" in capsys.readouterr().err
    assert cli.main([*command, "--csv-delimiter", ";", "--csv-encoding", "cp1252", "--resamples", "0"]) == 0
    assert "predictions whose label is no class ('né'): 1, such as id '02'" in capsys.readouterr().out


def test_the_number_of_resamples(files):
    with pytest.raises(UsageError, match="the number of resamples is -1"):
        evaluate(*files, resamples=-1)


def test_objects_of_a_store(bucket, files):
    out = bucket / "out"
    (out / "inference_predictions.csv").put(files[0].read_bytes())
    (out / "_SUCCESS").put(b"")
    (bucket / "y.csv").put(files[1].read_bytes())
    assert evaluate(str(out), str(bucket / "y.csv"), resamples=0).metrics["auroc"].value == 0.75
