"""Tokens that know where they stood in the cell, through the steps of a pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.pipelines import CONTEXT, pipeline

from bsm_core import TracedText, TracedTokens
from bsm_core.errors import PipelineError
from bsm_core.preprocess.tracing.traced_chunks import has_places, is_traced, traced_value


class NumbersInWords:
    """The part of a tokenizer that tells the text of a token."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"<{i}>" for i in ids]


def test_tokens_through_steps_on_text_messages_and_chunks():
    made = pipeline("quiet", "split", "upper", "chunk", "words", context=replace(CONTEXT, tokenizer=NumbersInWords()))
    cell = "Ab c|Ffg hi|"
    first, second, third = made.trace(cell)
    assert [[*chunk.ids] for chunk in (first, second, third)] == made([cell])[0][0]
    assert first.tokens == ["<0>", "<2>", "<1>", "<0>"]
    assert first.places == [None, (0, 2), (3, 4), None]
    assert first.words == [None, 0, 1, None]
    assert second.places == [None, (5, 8), None]  # a chunk has four characters
    assert second.words == [None, 2, None]
    assert [[*third.ids], third.places, third.words] == [[0, 0], [None, None], [None, None]]
    assert [chunk.lost_by for chunk in (first, second, third)] == [None] * 3


def test_without_a_tokenizer_a_token_is_its_id():
    [chunk] = pipeline("chunk", "words", context=replace(CONTEXT, tokenizer=None)).trace("a")
    assert chunk.tokens == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("steps", "lost_by"),
    [
        (["split", "fresh", "quiet", "chunk", "words"], "fresh"),
        (["split", "sees", "fresh", "chunk", "words"], "sees"),  # the first
        (["split", "chunk", "tokenize"], "tokenize"),
    ],
)
def test_a_step_that_loses_places_is_named(steps, lost_by):
    context = replace(CONTEXT, tokenizer=lambda text: [len(text)]) if "tokenize" in steps else CONTEXT
    made = pipeline(*steps, context=replace(context, tokenizer=Lengths()))
    chunks = made.trace("a!|b")
    assert [chunk.lost_by for chunk in chunks] == [lost_by] * 2
    assert [[*chunk.ids] for chunk in chunks] == made(["a!|b"])[0][0]
    assert chunks[0].places == [None] * len(chunks[0].ids)


class Lengths(NumbersInWords):
    """A tokenizer of one token."""

    def __call__(self, text: str) -> list[int]:
        return [len(text)]


def test_messages_that_kept_their_places_have_them():
    first, second = pipeline("split", "fresh", "chunk", "words", context=replace(CONTEXT, tokenizer=None)).trace("a!|b")
    assert (first.places, second.places) == ([None, None, None], [None, (3, 4), None])


@pytest.mark.parametrize("cell", ["raise it", "see it"])
def test_a_step_that_sees_traced_text_loses_the_places_and_changes_no_token(cell):
    made = pipeline("sees", "chunk", "words", context=replace(CONTEXT, tokenizer=None))
    [chunk] = made.trace(cell)
    assert ([[*chunk.ids]], chunk.lost_by) == (made([cell])[0][0], "sees")


@pytest.mark.parametrize("cell", ["", "|"])
def test_a_cell_without_text_loses_nothing(cell):
    made = pipeline("split", "fresh", "chunk", "words", context=replace(CONTEXT, tokenizer=None))
    assert [chunk.lost_by for chunk in made.trace(cell)] == [None] * len(made([cell])[0][0])


def test_a_text_on_which_a_step_fails_counts_as_empty():
    made = pipeline("fresh", "upper", "chunk", "words", context=replace(CONTEXT, tokenizer=None))
    [chunk] = made.trace("bad!")
    assert ([[*chunk.ids]], chunk.lost_by, chunk.places) == (made([""])[0][0], None, [None, None])


def test_a_pipeline_without_tokens_cannot_be_traced():
    with pytest.raises(PipelineError, match="the steps of column 'chat' give no tokens, so none can be traced"):
        pipeline("split", "chunk").trace("a")


def test_traced_tokens_are_ids():
    tokens = TracedTokens([1, 2], [None, (0, 1)], [None, 0])
    assert tokens == [1, 2]
    with pytest.raises(ValueError, match="2 ids, but 1 places and 2 words"):
        TracedTokens([1, 2], [None], [0, 1])


def test_values_of_every_kind():
    value = [{"role": "bot", "content": "a"}, {"role": "", "content": ""}]
    traced = traced_value(value)
    assert traced == value
    assert isinstance(traced[0]["content"], TracedText)
    assert has_places(traced)
    assert not has_places(value)
    assert is_traced([{**message, "role": "bot"} for message in traced])
    assert not is_traced(value)
    assert is_traced(["", TracedText("a")])
    assert not is_traced([[1, 2]])
    assert traced_value([[1, 2]]) == [[1, 2]]
    assert is_traced([TracedTokens([1], [None], [0])])
    assert not has_places([TracedTokens([1], [None], [0])])
