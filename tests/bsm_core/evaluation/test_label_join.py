from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.evaluation.class_index import EMPTY, UNKNOWN, Labels
from bsm_core.evaluation.label_join import Omitted, join_labels
from bsm_core.scoring.comparing.joining import Repeats, Spelling


def join(ids, pairs, scored=None):
    """Join predictions with these ids and labels of these (id, code) pairs."""
    labels = Labels([key for key, _ in pairs], np.array([code for _, code in pairs], np.intp), {})
    codes, joined = join_labels(ids, np.array([True] * len(ids) if scored is None else scored, bool), labels)
    return [code if code >= 0 else None for code in codes.tolist()], joined


def test_rows_are_joined_on_the_id_whatever_their_order():
    codes, joined = join(["a", "b", "c"], [("c", 2), ("a", 0), ("b", 1)])
    assert codes == [0, 1, 2]
    nothing = Omitted(0, [])
    assert joined.no_label_row == joined.no_prediction_row == joined.empty_label == joined.unknown_label == nothing


def test_ids_are_compared_byte_for_byte():
    codes, joined = join(["001", "x ", "", "é"], [("1", 1), ("x", 1), ("", 1), ("e\u0301", 1)])
    assert codes == [None, None, 1, None]
    assert joined.spellings == [
        Spelling("leading zeros (or a trailing .0)", 1, "001", "1"),
        Spelling("white space around them", 1, "x ", "x"),
    ]


def test_each_row_that_is_left_out_is_counted_once_with_its_id():
    pairs = [("b", EMPTY), ("c", UNKNOWN), ("d", 1), ("e", 0), ("z", 0), ("z", 1)]
    codes, joined = join(["a", "b", "c", "d", "e"], pairs, [True, True, False, False, True])
    assert codes == [None, None, None, None, 0]
    assert joined.no_label_row == Omitted(1, ["a"])
    assert joined.empty_label == Omitted(1, ["b"])
    assert joined.unknown_label == Omitted(1, ["c"])
    assert joined.no_probabilities == Omitted(1, ["d"])
    assert joined.no_prediction_row == Omitted(2, ["z"])
    assert joined.repeated_labels == Repeats(1, 2, "z")


def test_an_id_with_one_label_has_it_in_all_its_predictions():
    codes, joined = join(["a", "b", "a", "a"], [("a", 1), ("b", 0)])
    assert codes == [1, 0, 1, 1]
    assert joined.repeated_predictions == Repeats(1, 3, "a")


def test_as_many_rows_in_both_files_are_joined_in_their_order():
    codes, _ = join(["a", "b", "a", "c"], [("a", 1), ("c", 2), ("b", 0), ("a", 0)])
    assert codes == [1, 0, 0, 2]


def test_other_numbers_of_rows_with_several_labels_are_left_out():
    codes, joined = join(["a", "a", "b", "b"], [("a", 1), ("a", 0), ("a", 1), ("b", 1), ("b", 1), ("b", 1)])
    assert codes == [None, None, 1, 1]
    assert joined.contradicting_labels == Omitted(2, ["a"])


def test_labels_without_rows():
    codes, joined = join(["a"], [])
    assert (codes, joined.no_label_row) == ([None], Omitted(1, ["a"]))


def test_at_most_five_examples():
    _, joined = join([str(i) for i in range(9)], [("x", 0)])
    assert joined.no_label_row == Omitted(9, ["0", "1", "2", "3", "4"])


IDS = st.sampled_from("abc")


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=8), st.lists(st.tuples(IDS, st.integers(-2, 1)), max_size=8))
def test_every_prediction_is_evaluated_or_counted_once(predictions, pairs):
    ids = [key for key, _ in predictions]
    codes, joined = join(ids, pairs, [scored for _, scored in predictions])
    left_out = (
        *(joined.no_label_row, joined.contradicting_labels, joined.empty_label),
        *(joined.unknown_label, joined.no_probabilities),
    )
    assert sum(code is not None for code in codes) + sum(each.rows for each in left_out) == len(ids)
    for (key, scored), code, nth in zip(
        predictions, codes, (ids[:i].count(key) for i, key in enumerate(ids)), strict=True
    ):
        theirs = [label for other, label in pairs if other == key]
        expected = None
        if len(theirs) == ids.count(key):
            expected = theirs[nth]
        elif len({*theirs}) == 1:
            expected = theirs[0]
        assert code == (expected if scored and expected is not None and expected >= 0 else None)
    assert joined.no_prediction_row.rows == sum(key not in ids for key, _ in pairs)
