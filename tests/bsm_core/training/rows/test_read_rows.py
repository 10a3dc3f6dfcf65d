from __future__ import annotations

import logging

import pytest
from support.training import CONFIG, labelled_rows

from bsm_core.errors import DataError
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.rows.log_lines import tell_classes
from bsm_core.training.rows.read_rows import divide, read_rows


@pytest.fixture
def read(toy_site, caplog):
    """The rows of a job, and what was said of them."""

    def make(data, validation=None, **changes):
        with caplog.at_level(logging.INFO, "bsm"):
            job = TrainingJob({**CONFIG, **changes}, Registry.discover())
            whole, given, order = read_rows(job, data, validation)
            rows, held_out = divide(job, whole, given, order)
            tell_classes(order, rows, held_out, job.artifact.given_class_names)
        return rows, held_out, order, [record.getMessage() for record in caplog.records]

    return make


def test_which_label_is_which_class_is_told_with_its_share_of_the_rows(read):
    _, _, order, said = read(labelled_rows(), labelled_rows(3))
    assert order == [0, 1]
    assert said == [
        "label 0 is class 0 (prob_class_0): 35.0 % of the training rows, 33.3 % of the validation rows",
        "label 1 is class 1 (prob_class_1): 65.0 % of the training rows, 66.7 % of the validation rows",
    ]


def test_the_positive_class_and_the_names_of_classes_are_told(read):
    rows, _, order, said = read(labelled_rows(), validation_fraction=0, positive_class="0", class_names=["good", "bad"])
    assert order == [1, 0]
    assert rows.labels.tolist()[:3] == [1, 0, 0]
    assert said[1] == "label 0 is class 1 'bad' (prob_class_1): 35.0 % of the training rows"


def test_a_class_without_training_rows_is_warned_of(read):
    *_, said = read(labelled_rows(), multiclass_categories=["0", "1", "2"], num_classes=3)
    assert said[-1] == "the model cannot learn classes without training rows: label '2'"


def test_of_many_classes_the_first_are_told(read):
    table = labelled_rows(60).assign(label=[str(i % 30) for i in range(60)])
    *_, said = read(table, num_classes=30)
    assert len([line for line in said if line.startswith("label ")]) == 20
    assert "and 10 more classes" in said


def test_rows_without_a_label_are_an_error_or_left_out_and_told(read):
    table = labelled_rows()
    table.loc[[3, 7], "label"] = ""
    with pytest.raises(DataError, match="on_missing_label"):
        read(table)
    rows, held_out, _, said = read(table, on_missing_label="skip")
    assert (len(rows), len(held_out)) == (28, 10)
    assert not {4, 8} & {*rows.numbers(), *held_out.numbers()}
    assert said[0] == "data: 38 of 40 rows are used; 2 without a label (row 4, 8)"
    assert rows.left_out == {"without_label": 2}


def test_lines_that_cannot_be_read_are_left_out_and_told(read, tmp_path):
    table = labelled_rows()
    table.loc[30:, "label"] = ""
    lines = table.to_csv(index=False).splitlines()
    lines[5] = "broken"
    path, held = tmp_path / "rows.csv", tmp_path / "held.csv"
    path.write_text("\n".join(lines))
    held.write_text("\n".join(lines[:9]))
    rows, held_out, _, said = read(path, held, on_missing_label="skip", on_bad_line="skip")
    assert (len(rows), len(held_out)) == (29, 7)
    assert said[0].startswith(f"{path}, line 6: ")
    assert said[0].endswith("the line is left out")
    named = "30, 31, 32, 33, 34, 35, 36, 37, 38, 39"
    assert said[1] == (
        f"{path}: 29 of 40 rows are used; 10 without a label (row {named}); 1 line(s) that cannot be read"
    )
    assert said[3] == f"{held}: 7 of 8 rows are used; 1 line(s) that cannot be read"


def test_a_table_without_any_label_is_an_error(read):
    unlabeled = labelled_rows().assign(label=None)
    options = {"on_missing_label": "skip", "multiclass_categories": ["0", "1"]}
    with pytest.raises(DataError, match="no row has a label") as caught:
        read(unlabeled, **options)
    assert caught.value.where == "data, column 'label'"
    with pytest.raises(DataError, match="no row has a label") as caught:
        read(labelled_rows(), unlabeled, **options)
    assert caught.value.where == "validation, column 'label'"


def test_of_three_classes_the_metric_that_chooses_is_the_mean_of_those_with_rows(read):
    options = {"num_classes": 3, "multiclass_categories": ["0", "1", "2"], "monitor": "auroc"}
    _, held_out, *_ = read(labelled_rows(), labelled_rows(8), **options)
    assert len(held_out) == 8
    alike = labelled_rows(8).assign(label="1")
    with pytest.raises(DataError, match=r"AUROC cannot be computed .* all 8 validation rows have the label '1'"):
        read(labelled_rows(), alike, **options)
