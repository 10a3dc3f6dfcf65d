"""Building a step: its parameters, from the config and from the artifact."""

from __future__ import annotations

import pytest
from support.pipelines import CONTEXT, lengths, pipeline, refusal

from bsm_core import TextStep
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import PipelineError, TokenizerError
from bsm_core.preprocess.step_params import build_step
from bsm_core.preprocess.steps import StepContext


def test_parameters_reach_the_step_in_the_types_of_its_annotations():
    params = {"count": 2, "share": 1, "on": False, "mode": "Drop", "words": ["a"], "limits": {"x": 1}, "anything": [1]}
    (result,), _ = pipeline(StepSpec("typed", params))(["x"])
    assert result == repr((2, 1.0, False, "Drop", ("a",), {"x": 1}, [1], {}))


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"count": "2"}, "count: Input should be a valid integer (it is '2')"),
        ({"count": 2.5}, "count: Input should be a valid integer (it is 2.5)"),
        ({"count": True}, "count: Input should be a valid integer (it is True)"),
        ({"on": 1}, "on: Input should be a valid boolean (it is 1)"),
        ({"mode": "keep"}, "mode: Input should be 'Keep' or 'Drop' (it is 'keep')"),
        ({"words": "a"}, "words: Input should be a valid array (it is 'a')"),
        ({"words": ["a", 1]}, "words.1: Input should be a valid string (it is 1)"),
        ({"limits": {"x": "y"}}, "limits.x: Input should be a valid integer (it is 'y')"),
        ({"cuont": 2}, "cuont: unknown; did you mean 'count'?"),
        ({"zzz": 2}, "zzz: unknown"),
        ({"others": 2}, "others: unknown"),
        ({"anything": {1, 2}}, "TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_a_wrong_parameter_is_named(params, problem):
    error = refusal(StepSpec("typed", params))
    assert error.what == "text step 'typed' cannot be built"
    assert error.details == (problem,)
    assert error.fix == "its parameters are: count, share, on, mode, words, limits, anything"


def test_all_wrong_parameters_at_once():
    assert len(refusal(StepSpec("typed", {"count": "2", "zzz": 1, "on": "no"})).details) == 3


@pytest.mark.parametrize("params", [{}, {"marks": 3}], ids=str)
def test_a_class_that_lacks_process_is_told_so_also_where_it_has_process_batch(params):
    error = refusal(StepSpec("abstract", params))
    assert error.what == "text step 'abstract' does not define process"
    assert "process_batch needs it too" in error.fix


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (StepSpec("picky", {"error": "value"}), "ValueError: no good"),
        (StepSpec("picky", {"error": "key"}), "KeyError: 'no good'"),
        (StepSpec("picky", {"error": "runtime"}), "RuntimeError: no good"),
        (StepSpec("picky", {"unreadable": 1}), "NameError: name 'Tokenizer' is not defined"),
    ],
)
def test_a_step_that_cannot_be_built(step, problem):
    error = refusal(step)
    assert error.what == f"text step {step.name!r} cannot be built"
    assert error.details[0].startswith(problem)
    assert type(error.__cause__).__name__ == problem.split(":")[0]


def test_an_error_of_ours_is_not_wrapped():
    with pytest.raises(TokenizerError, match=r"^no good$"):
        pipeline(StepSpec("picky", {"error": "ours"}))


def test_a_step_without_parameters_says_so():
    assert refusal(StepSpec("upper", {"x": 1})).fix == "its parameters are: none"


def test_the_artifact_provides_what_a_step_uses():
    assert pipeline("chunk")(["abcdef"]) == ([["abcd"]], [])
    assert pipeline(StepSpec("chunk", {"max_sen_len": 2}))(["abcdef"]) == ([["ab"]], [])  # its own entry comes first
    assert pipeline("chunk", context=StepContext("chat", config={"max_sen_len": 0}))(["abc"]) == ([[""]], [])


def test_what_the_artifact_does_not_have_is_not_given():
    assert CONTEXT.provide(["tokenizer", "batch_size", "no_such_key"]) == {"tokenizer": lengths}
    error = refusal("chunk", context=StepContext("chat", config={"max_sen_len": None}))
    assert "missing 1 required positional argument: 'max_sen_len'" in error.details[0]


def test_the_tokenizer_is_no_parameter_of_the_config():
    error = refusal(StepSpec("tokenize", {"tokenizer": "bert", "extra": 1}))
    assert error.details == ("tokenizer: unknown",)
    assert error.fix == "its parameters are: extra"
    assert pipeline(StepSpec("tokenize", {"extra": 7}))(["ab"]) == ([[[2, 7]]], [])


class Misspells(TextStep):
    uses = ("max_total_chnks",)

    def __init__(self, max_total_chunks: int = 5) -> None:
        self.most = max_total_chunks

    def process(self, value: str) -> str:
        return value[: self.most]


def test_a_step_that_uses_what_it_does_not_take():
    with pytest.raises(PipelineError) as caught:
        build_step(Misspells, StepSpec("misspells"), StepContext("chat"), "config.x")
    assert caught.value.what == (
        "text step 'misspells' names in `uses` what its __init__ does not take: max_total_chnks"
    )
    assert caught.value.details == ("max_total_chnks: did you mean 'max_total_chunks'?",)
