from __future__ import annotations

import pyarrow as pa
import torch

from bsm_core.predictor.reason_table import COLUMNS, RowReasons, Word, reason_table, words_of
from bsm_core.preprocess.tracing.traced_chunks import TracedChunk

CELL = "<b>Great</b> fits!"


def numbers(*values):
    return torch.tensor([values], dtype=torch.float64).T


def chunk(places, words):
    return TracedChunk([1, 5, 6, 7, 2], ["[CLS]", "great", "fit", "##s", "[SEP]"], places, words, None)


def words(places=(None, (3, 8), (13, 16), (16, 17), None), numbered=(None, 0, 1, 1, None)):
    return words_of(CELL, [chunk(places, numbered)], [numbers(0.0, 1.0, 2.0, 0.5, 0.0)], frozenset({1, 2}))


def test_pieces_of_a_word_are_one_word():
    assert [(word.text, word.place, word.values.tolist()) for word in words()] == [
        ("Great", (3, 8), [1.0]),
        ("fits", (13, 17), [2.5]),
    ]


def test_words_without_a_place_have_the_text_of_their_tokens():
    got = words(places=(None,) * 5)
    assert [(word.text, word.place) for word in got] == [("great", None), ("fits", None)]


def test_tokens_without_a_word_number_stand_alone():
    got = words(places=(None,) * 5, numbered=(None,) * 5)
    assert [(word.text, word.values.tolist()) for word in got] == [("great", [1.0]), ("fit", [2.0]), ("s", [0.5])]


def test_words_of_chunks_follow_each_other():
    one = chunk((None, (3, 8), None, None, None), (None, 0, 1, 1, None))
    two = chunk((None, (13, 17), None, None, None), (None, 2, 3, 3, None))
    got = words_of(CELL, [one, two], [numbers(0.0, 1.0, 0.0, 0.0, 0.0)] * 2, frozenset({1, 2}))
    assert [word.text for word in got] == ["Great", "fits", "fits", "fits"]


def one(value):
    return torch.tensor([value, -value], dtype=torch.float64)


def test_lines_of_a_row_add_up_to_its_log_odds():
    reasons = RowReasons(
        fields={"text": one(3.0)},
        features={"age": one(0.25)},
        baseline=one(1.0),
        words={"text": [Word("Great", (3, 8), one(2.0)), Word("[x]", None, one(0.5))]},
        cells={"age": "41"},
    )
    got = reason_table(pa.array(["r1"]), "id", [reasons], ["no", "yes"])
    assert got.schema.names == ["id", *COLUMNS.names]
    assert got.slice(0, 4).drop_columns(["baseline", "class"]).to_pylist() == [
        {"id": "r1", "field": "text", "token": "Great", "start": 3, "end": 8, "feature": None, "contribution": 2.0},
        {"id": "r1", "field": "text", "token": "[x]", "start": None, "end": None, "feature": None, "contribution": 0.5},
        {"id": "r1", "field": "text", "token": None, "start": None, "end": None, "feature": None, "contribution": 0.5},
        {"id": "r1", "field": "age", "token": None, "start": None, "end": None, "feature": "41", "contribution": 0.25},
    ]
    assert got["class"].to_pylist() == ["no"] * 4 + ["yes"] * 4
    assert sum(got["contribution"].to_pylist()[4:]) + got["baseline"][4].as_py() == -(3.0 + 0.25 + 1.0)


def test_no_rows_have_no_reasons():
    assert reason_table(pa.array([], pa.int64()), "row", [], ["1"]).schema.names == ["row", *COLUMNS.names]
