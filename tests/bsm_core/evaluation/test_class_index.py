from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bsm_core.artifact.config import ClassLabels
from bsm_core.errors import DataError, UsageError
from bsm_core.evaluation.class_index import EMPTY, UNKNOWN, ClassIndex, Labels


def codes(index, *cells, kind=None):
    return index.codes(pa.chunked_array([pa.array(cells, kind)]))[0].tolist()


def test_class_indices_in_any_spelling_of_a_number():
    index = ClassIndex.of(ClassLabels(), 3, None)
    assert codes(index, b"0", b"1.0", b"2e0", b"3", b"-1", b"x") == [0, 1, 2, UNKNOWN, UNKNOWN, UNKNOWN]
    assert codes(index, 0, 2, 3, kind=pa.int8()) == [0, 2, UNKNOWN]
    assert codes(index, 0.0, 1.5, None, float("nan")) == [0, UNKNOWN, EMPTY, EMPTY]
    assert index.names == ["0", "1", "2"]


def test_a_cell_without_text_is_no_label():
    assert codes(ClassIndex.of(ClassLabels(), 2, None), b"", b"nan", None, b"  ", b"\xff") == [EMPTY] * 5


def test_two_classes_may_be_booleans():
    assert codes(ClassIndex.of(ClassLabels(), 2, None), False, True) == [0, 1]
    assert codes(ClassIndex.of(ClassLabels(), 2, None), b"TRUE", b"false") == [1, 0]
    assert codes(ClassIndex.of(ClassLabels(), 3, None), True) == [UNKNOWN]


def test_labels_of_training_come_before_indices():
    index = ClassIndex.of(ClassLabels("y", ["1", "2", "high"], ["bad", "fair", "good"]), 3, None)
    assert codes(index, b"1", b"2.0", b"high", b"0", b"good") == [0, 1, 2, UNKNOWN, 2]
    assert index.names == ["bad", "fair", "good"]


def test_names_without_labels_of_training():
    assert codes(ClassIndex.of(ClassLabels(names=["no", "yes"]), 2, None), b"yes", b"0", b"no") == [1, 0, 0]


def test_a_name_that_is_the_label_of_another_class_means_that_class():
    assert codes(ClassIndex.of(ClassLabels("y", ["1", "0"], ["0", "1"]), 2, None), b"0", b"1") == [1, 0]


def test_labels_that_are_given_come_first():
    index = ClassIndex.of(ClassLabels("y", ["0", "1"]), 2, ["no", "yes"])
    assert codes(index, b"yes", b"no", b"1") == [1, 0, UNKNOWN]
    assert index.names == ["no", "yes"]


@pytest.mark.parametrize("given", [["a"], ["a", "b", "c"], ["1", "1.0"]])
def test_one_different_label_for_each_class(given):
    with pytest.raises(UsageError, match="are given for 2 classes"):
        ClassIndex.of(ClassLabels(), 2, given)


def read(*cells):
    table = pa.table({"id": [str(i) for i in range(len(cells))], "y": [*cells]})
    return Labels.read([table[:2], table[2:]], "id", "y", ClassIndex.of(ClassLabels(), 2, None), "labels.csv")


def test_labels_that_are_no_class_are_kept_with_their_rows():
    found = read("1", "maybe", "0", "")
    assert found.unknown == {1: "maybe"}
    assert np.array_equal(found.codes, [1, UNKNOWN, 0, EMPTY])


def test_no_label_at_all_is_an_error_that_names_them():
    with pytest.raises(DataError, match="no label of the column 'y' is a class") as caught:
        read("yes", "no", "yes")
    assert caught.value.details == ("labels: 'yes' (2 rows), 'no' (1 rows)", "classes: '0', '1'")
    with pytest.raises(DataError, match="all cells are empty"):
        read("", None, "")
