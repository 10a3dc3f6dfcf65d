from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from bsm_core.errors import DataError, MissingColumnsError
from bsm_core.report.labels import Labels, hashed

CLASSES = [["no", "0"], ["yes", "1"]]


@pytest.fixture
def read(tmp_path):
    def start(rows, name="labels.csv", column=None, classes=CLASSES, usual=""):
        frame, path = pd.DataFrame(rows), tmp_path / name
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        return Labels(path, "id", column, classes, usual)

    return start


def ids(*values):
    return pa.chunked_array([pa.array(values)])


def test_rows_get_the_class_of_their_id(read):
    labels = read({"id": ["007", "a b", "9"], "label": ["yes", "0", "1.0"]})
    assert labels.of(ids(b"9", b"x", b"007")).tolist() == [1, -1, 1]
    assert labels.of(ids(b"a b")).tolist() == [0]
    assert (labels.join.rows, labels.join.joined, labels.join.unused) == (4, 3, 0)
    assert labels.join.remarks() == ["1 row(s) of the predictions have no label and are left out"]


def test_what_does_not_fit_together_is_said(read):
    labels = read(
        {
            "id": ["a", "a", "b", "b", "c", "d", "e", "f", None],
            "label": ["yes", "yes", "yes", "no", "", "maybe", "1", "0", "1"],
        }
    )
    assert labels.of(ids("a", "b", "c", "e", "e", "z", None)).tolist() == [1, -1, -1, 1, 1, -1, -1]
    join = labels.join
    assert (join.labels, join.missing, join.unknown, join.conflicting) == (9, 1, {"maybe": 1}, 1)
    assert (join.repeated_labels, join.repeated_rows, join.unused) == (1, 1, 1)
    said = "\n".join(join.remarks())
    for words in ("4 row(s) of the predictions have no label", "1 id(s) of the labels file are not in the predictions",
                  "none of the classes and are left out: 'maybe' (1)", "1 id(s) have different labels",
                  "1 row(s) of the labels file repeat", "1 row(s) of the predictions have the id of an earlier row",
                  "1 label(s) are empty"):  # fmt: skip
        assert words in said


def test_a_number_of_parquet_is_the_text_of_csv(read):
    labels = read({"id": [7, 8], "target": [0, 1]}, "labels.parquet")
    assert labels.column == "target"
    assert labels.of(ids(b"8", b"7")).tolist() == [1, 0]
    assert hashed(ids(7))[0] == hashed(ids(b"7"))[0] == hashed(ids("7"))[0]


def test_which_column_has_the_labels(read):
    rows = {"id": ["a"], "x": ["no"], "label": ["no"], "spam": ["yes"]}
    assert read(rows).column == "label"
    assert read(rows, usual="spam").column == "spam"
    assert read(rows, column="x").column == "x"
    with pytest.raises(MissingColumnsError, match="which column") as error:
        read({"id": ["a"], "x": ["no"], "y": ["no"]})
    assert "--label-column" in error.value.fix
    with pytest.raises(MissingColumnsError, match="z"):
        read(rows, column="z")
    with pytest.raises(MissingColumnsError, match="id"):
        read({"key": ["a"], "label": ["no"]})


def test_labels_of_other_classes_are_an_error_that_shows_both(read):
    with pytest.raises(DataError, match="no label of the file is one of the classes") as error:
        read({"id": ["a", "b"], "label": ["ham", "spam"]})
    assert "'ham' (1), 'spam' (1)" in error.value.details[0]
    assert "'no' or '0'; 'yes' or '1'" in error.value.details[1]


def test_only_conflicting_labels(read):
    labels = read({"id": ["a", "a"], "label": ["yes", "no"]})
    assert labels.of(ids("a")).tolist() == [-1]
