"""Pipelines: how steps fit together, and that no row is ever lost."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pipelines import pipeline, refusal
from support.plugins import run_python, write_distribution
from support.steps import Upper

from bsm_core import Kind
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import ComponentLoadError, PipelineError, StepFailedError, UnknownStepError
from bsm_core.preprocess.findings import Issue

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


# Rows that fail


def test_only_the_rows_that_fail_become_empty():
    texts = ["a", "bad", "b", "c", "so bad", "d"]
    results, failures = pipeline("upper")(texts)
    assert results == ["A", "", "B", "C", "", "D"]
    assert failures == [
        Issue(1, "chat", "upper", "ValueError: cannot shout 'bad'", "bad"),
        Issue(4, "chat", "upper", "ValueError: cannot shout 'so bad'", "so bad"),
    ]


def test_a_long_column_goes_through_in_slices_and_rows_keep_their_place(monkeypatch):
    monkeypatch.setattr("bsm_core.preprocess.pipeline.ROWS_AT_ONCE", 3)
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
    assert failures == [Issue(row, "chat", "upper", "ValueError: cannot shout 'bad'", "bad") for row in (0, 2)]


def test_a_failing_row_is_what_empty_text_is():
    results, failures = pipeline("split", "upper", "chunk", "tokenize")(["a|b", "a|bad", "c"])
    assert results == [[[1, 0], [1, 0]], [[1, 0]], [[1, 0]]]
    assert [(f.row, f.stage) for f in failures] == [(1, "upper")]


def test_the_name_of_a_failure_is_the_one_of_the_config():
    _, failures = pipeline("quiet", "shout")(["BAD"])
    assert [f.stage for f in failures] == ["shout"]


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
    assert failures == [Issue(1, "chat", "number", "the result has type int and is not text", "7")]


def test_a_step_that_fails_on_a_batch_but_on_no_row_of_it():
    assert pipeline("together")(["a", "b", "c"]) == (["a", "b", "c"], [])


def test_no_rows():
    assert pipeline("split", "chunk")([]) == ([], [])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("notonempty", "IndexError: string index out of range"),
        ("nothing", "the result has type NoneType and is not text"),
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
    with pytest.raises(StepFailedError, match="text step 'drops' returned 1 results for 3 values"):
        made(["a", "b", "c"])


# Between processes


def test_a_pipeline_is_pickled_by_the_names_of_its_steps_with_the_registry_that_knows_them(monkeypatch):
    made = pipeline("quiet", StepSpec("split", {"separator": "/"}), "chunk", "tokenize", must_give=Kind.TOKENS)
    made.steps[0].step.cannot_be_pickled = lambda: None
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
