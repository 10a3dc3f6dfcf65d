"""Pipelines: how steps fit together, their parameters, and that no row is ever lost."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plugins import run_python, step_registry, write_distribution
from support.steps import Upper

from bsm_core import Kind, Pipeline, TextStep
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import ComponentLoadError, PipelineError, StepFailedError, TokenizerError, UnknownStepError
from bsm_core.preprocess.steps import StepContext, TextFailure, build_step

NAMES = [
    "Upper", "Quiet", "Split", "Roles", "Chunk", "Tokenize", "Typed", "Picky", "Abstract", "NotOnEmpty", "Number",
    "Nothing", "Drops", "Generates", "Together",
]  # fmt: skip
REGISTRY = step_registry(
    {
        **{name.lower(): f"support.steps:{name}" for name in NAMES},
        "shout": "upper",
        "no_step": "pathlib:Path",
    }
)


def lengths(text: str) -> list[int]:
    """A tokenizer that can be pickled."""
    return [len(text)]


CONTEXT = StepContext("chat", tokenizer=lengths, config={"max_sen_len": 4, "batch_size": None})


def pipeline(*steps: str | StepSpec, must_give: Kind | None = None, context: StepContext = CONTEXT) -> Pipeline:
    specs = [StepSpec(step) if isinstance(step, str) else step for step in steps]
    return Pipeline(specs, context, registry=REGISTRY, where="config.steps", must_give=must_give)


def refusal(*steps: str | StepSpec, must_give: Kind | None = None, context: StepContext = CONTEXT) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        pipeline(*steps, must_give=must_give, context=context)
    assert caught.value.where == "config.steps"
    return caught.value


# How steps fit together


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        (["upper"], "AB|C"),
        (["upper", "quiet"], "ab|c"),
        (["split"], ["aB", "c"]),
        (["split", "upper"], ["AB", "C"]),  # a text step is applied to each message
        (["split", "upper", "quiet", "chunk"], ["ab", "c"]),
        (["chunk"], ["aB|c"]),  # one text is a list of one message
        (["split", "chunk", "upper"], ["AB", "C"]),  # and to each chunk
        (["tokenize"], [[4, 0]]),
        (["roles"], [{"role": "bot", "content": "aB|c"}]),
        (["split", "chunk", "tokenize"], [[2, 0], [1, 0]]),
        (["generates"], "aB|c."),
    ],
)
def test_what_fits(steps, result):
    assert pipeline(*steps)(["aB|c"]) == ([result], [])


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        (["split", "tokenize"], "'tokenize' takes chunks, but 'split' before it gives messages"),
        (["upper", "split", "split"], "'split' takes text, but 'split' before it gives messages"),
        (["chunk", "chunk"], "'chunk' takes messages, but 'chunk' before it gives chunks"),
        (["roles", "upper"], "'upper' takes text, but 'roles' before it gives role_messages"),
        (["roles", "chunk"], "'chunk' takes messages, but 'roles' before it gives role_messages"),
        (["tokenize", "upper"], "'upper' takes text, but 'tokenize' before it gives tokens"),
        # the kind of the values is that of the splitter, the name that of the neighbour
        (["split", "quiet", "tokenize"], "'tokenize' takes chunks, but 'quiet' before it gives messages"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_names(steps, names):
    assert refusal(*steps).what == names


def test_the_last_step_must_give_what_the_model_needs():
    error = refusal("split", "upper", must_give=Kind.TOKENS)
    assert error.what == "the steps of column 'chat' end with messages, the model needs tokens"
    assert pipeline("split", "chunk", "tokenize", must_give=Kind.TOKENS)(["a"]) == ([[[1, 0]]], [])


def test_no_steps_at_all():
    assert refusal().what == "column 'chat' has no steps"


def test_names_are_looked_up_in_the_registry():
    made = pipeline("shout", "fake/quiet")
    assert [c.origin for c in made.components] == [
        "fake==1.0:support.steps:Upper",
        "fake==1.0:support.steps:Quiet",
    ]
    with pytest.raises(UnknownStepError, match=r"no text step 'uper' \(config\.steps\)"):
        pipeline("uper")
    with pytest.raises(ComponentLoadError, match="'no_step' is not a subclass of TextStep"):
        pipeline("no_step")


# Parameters


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
    assert error.what == "text step 'abstract' lacks process"
    assert "beside process_batch" in error.fix


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
    assert CONTEXT.provide("tokenizer") is lengths
    assert CONTEXT.provide("batch_size") is CONTEXT.provide("no_such_key") is None
    error = refusal("chunk", context=StepContext("chat", config={"max_sen_len": None}))
    assert "missing 1 required positional argument: 'max_sen_len'" in error.details[0]


def test_the_tokenizer_is_no_parameter_of_the_config():
    error = refusal(StepSpec("tokenize", {"tokenizer": "bert", "extra": 1}))
    assert error.details == ("tokenizer: unknown",)
    assert error.fix == "its parameters are: extra"
    assert pipeline(StepSpec("tokenize", {"extra": 7}))(["ab"]) == ([[[2, 7]]], [])


# Rows that fail


def test_only_the_rows_that_fail_become_empty():
    texts = ["a", "bad", "b", "c", "so bad", "d"]
    results, failures = pipeline("upper")(texts)
    assert results == ["A", "", "B", "C", "", "D"]
    assert failures == [
        TextFailure(1, "upper", "ValueError: cannot shout 'bad'"),
        TextFailure(4, "upper", "ValueError: cannot shout 'so bad'"),
    ]


def test_a_long_column_goes_through_in_slices_and_rows_keep_their_place(monkeypatch):
    monkeypatch.setattr("bsm_core.preprocess.steps.ROWS_AT_ONCE", 3)
    seen = []
    run = Upper.process_batch
    monkeypatch.setattr(Upper, "process_batch", lambda self, values: seen.append(len(values)) or run(self, values))
    texts = ["a", "b", "c", "d", "bad", "e", "f"]
    results, failures = pipeline("upper")(texts)
    assert results == ["A", "B", "C", "D", "", "E", "F"]
    assert [failure.row for failure in failures] == [4]
    assert max(seen) == 3


def test_equal_texts_go_through_once_and_fail_one_by_one(monkeypatch):
    seen = []
    run = Upper.process_batch
    monkeypatch.setattr(Upper, "process_batch", lambda self, values: seen.append(list(values)) or run(self, values))
    made = pipeline("upper")
    seen.clear()
    results, failures = made(["a", "b", "a", "a", "b"])
    assert (results, failures) == (["A", "B", "A", "A", "B"], [])
    assert seen == [["a", "b"]]
    results, failures = made(["bad", "a", "bad"])
    assert results == ["", "A", ""]
    assert failures == [TextFailure(row, "upper", "ValueError: cannot shout 'bad'") for row in (0, 2)]


def test_a_failing_row_is_what_empty_text_is():
    results, failures = pipeline("split", "upper", "chunk", "tokenize")(["a|b", "a|bad", "c"])
    assert results == [[[1, 0], [1, 0]], [[1, 0]], [[1, 0]]]
    assert [(f.row, f.step) for f in failures] == [(1, "upper")]


def test_the_name_of_a_failure_is_the_one_of_the_config():
    _, failures = pipeline("quiet", "shout")(["BAD"])
    assert [f.step for f in failures] == ["shout"]


@given(st.lists(st.sampled_from(["a", "b|c", "", "bad", "x|bad"])))
def test_a_row_does_not_depend_on_its_neighbours(texts):
    made = pipeline("split", "upper", "chunk")
    results, failures = made(texts)
    assert results == [made([text])[0][0] for text in texts]
    assert [f.row for f in failures] == [i for i, text in enumerate(texts) if "bad" in text]


def test_a_value_that_is_no_text_is_a_row_that_fails():
    results, failures = pipeline("upper")(["a", 5, None, "b"])
    assert results == ["A", "", "", "B"]
    assert [f.row for f in failures] == [1, 2]


def test_a_result_of_the_wrong_kind_is_a_row_that_fails():
    results, failures = pipeline("number", "upper")(["a", "7", "b"])
    assert results == ["A", "", "B"]
    assert failures == [TextFailure(1, "number", "it gave a int, not text")]


def test_a_step_that_fails_on_a_batch_but_on_no_row_of_it():
    assert pipeline("together")(["a", "b", "c"]) == (["a", "b", "c"], [])


def test_no_rows():
    assert pipeline("split", "chunk")([]) == ([], [])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("notonempty", "IndexError: string index out of range"),
        ("nothing", "it gave a NoneType, not text"),
    ],
)
def test_a_step_must_take_empty_text(step, reason):
    with pytest.raises(StepFailedError) as caught:
        pipeline(step)
    assert caught.value.what == f"text step {step!r} fails on empty text: {reason}"
    assert caught.value.where == "config.steps"


def test_a_wrong_number_of_results_is_an_error():
    made = pipeline("drops")
    assert made(["a"]) == (["a"], [])
    with pytest.raises(StepFailedError, match="text step 'drops' gave 1 results for 3 values"):
        made(["a", "b", "c"])


# Between processes


def test_a_pipeline_is_pickled_by_the_names_of_its_steps_with_the_registry_that_knows_them(monkeypatch):
    made = pipeline("quiet", StepSpec("split", {"separator": "/"}), "chunk", "tokenize", must_give=Kind.TOKENS)
    made._stages[0].step.cannot_be_pickled = lambda: None
    data = pickle.dumps(made)
    assert pickle.loads(data)(["A/b"]) == made(["A/b"])
    assert pickle.loads(data).components == made.components
    monkeypatch.delattr("support.steps.Quiet")
    with pytest.raises(ComponentLoadError, match=r"support\.steps:Quiet of fake 1\.0"):
        pickle.loads(data)


def test_where_it_stands_and_what_it_must_give_go_with_it(monkeypatch):
    data = pickle.dumps(pipeline("quiet", must_give=Kind.TEXT))
    monkeypatch.setattr("support.steps.Quiet.gives", Kind.MESSAGES)
    monkeypatch.setattr("support.steps.Quiet.process", lambda self, value: [value])
    with pytest.raises(PipelineError, match=r"end with messages, the model needs text \(config\.steps\)"):
        pickle.loads(data)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_process_of_every_kind_finds_a_strangers_step(tmp_path, method):
    source = """
        from bsm_core import TextStep

        class Quiet(TextStep):
            def process(self, value):
                return value.lower()
    """
    write_distribution(tmp_path, "acme", {"acme": source}, {"steps": {"acme_quiet": "acme:Quiet"}})
    code = f"""
        import multiprocessing
        from bsm_core import Pipeline
        from bsm_core.artifact.config import StepSpec
        from bsm_core.preprocess.steps import StepContext
        made = Pipeline([StepSpec("acme_quiet")], StepContext("chat"), must_give=None)
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            print(pool.apply(made, [["HI", ""]]))
    """
    assert run_python(code, tmp_path) == "(['hi', ''], [])"


class Misspells(TextStep):
    uses = ("max_total_chnks",)

    def __init__(self, max_total_chunks: int = 5) -> None:
        self.most = max_total_chunks

    def process(self, value: str) -> str:
        return value[: self.most]


def test_a_step_that_uses_what_it_does_not_take():
    with pytest.raises(PipelineError) as caught:
        build_step(Misspells, StepSpec("misspells"), StepContext("chat"), "config.x")
    assert caught.value.what == "text step 'misspells' uses what it does not take: max_total_chnks"
    assert caught.value.details == ("max_total_chnks: did you mean 'max_total_chunks'?",)
