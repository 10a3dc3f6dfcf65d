import pytest

from bsm_core import Kind, Pipeline, TextStep
from bsm_core.artifact.config import StepSpec
from bsm_core.artifact.contract import FULL_CLEANING, MINIMAL_CLEANING
from bsm_core.errors import PipelineError
from bsm_core.plugins.registry import default_registry
from bsm_core.preprocess.steps import StepContext

OURS = [c for c in default_registry().components if c.kind == "step" and c.provider.distribution == "bsm-core"]


def pipeline(tokenizer, *steps, must_give=Kind.TOKENS):
    config = {"max_sen_len": 16, "chunk_trancate": False, "max_total_chunks": 5}
    specs = [step if isinstance(step, StepSpec) else StepSpec(step) for step in steps]
    return Pipeline(specs, StepContext("chat", tokenizer, config), must_give=must_give)


def test_names():
    assert {c.name for c in OURS} == {
        *FULL_CLEANING,
        *MINIMAL_CLEANING,
        "cs_adapter",
        "cs_chat_splitter",
        "text_upper",
    }


@pytest.mark.parametrize("component", OURS, ids=lambda component: component.name)
def test_every_name_loads_a_step_that_says_what_it_does(component):
    assert component.target.startswith("bsm_plugins_text.")
    assert default_registry().load(component, TextStep).__doc__


@pytest.mark.parametrize(
    "steps",
    [
        FULL_CLEANING,
        MINIMAL_CLEANING,
        ("cs_chat_splitter", "cs_adapter", "dialogue_chunker", "tokenizer"),
        ("text_upper", "tokenizer"),
    ],
)
def test_pipelines_of_the_contract_give_tokens(tokenizer, steps):
    run = pipeline(tokenizer, *steps)
    texts = ["[bom]Hello <b>there</b>😀[eom]", "[bot]: hello [customer]: parcel?", "", "\x00", "\ufeff\u202e"]
    rows, failures = run(texts)
    assert failures == []
    assert [ids for row in rows for ids in row if len(ids) > 16] == []
    assert rows == [run([text])[0][0] for text in texts]


def test_full_cleaning_text_by_text(wordpiece):
    run = pipeline(wordpiece, *FULL_CLEANING[:-1], must_give=Kind.CHUNKS)
    [chunks], _ = run(["x[bom] <p>Where</p> is&nbsp;“it” 📦?[eom]\n[bom]<br/>[eom][bom]LATE…[eom]"])
    assert " ".join(chunks) == 'where is "it" ? late...'


def test_a_lone_surrogate_empties_its_row_alone(tokenizer):
    run = pipeline(tokenizer, *FULL_CLEANING)
    rows, failures = run(["[bom]hello[eom]", "a\ud800b", "late"])
    assert [(failure.row, failure.stage) for failure in failures] == [(1, "dialogue_chunker")]
    assert rows == run(["[bom]hello[eom]", "", "late"])[0]


def test_parameters_are_checked(wordpiece):
    with pytest.raises(PipelineError, match="unmarked"):
        pipeline(wordpiece, StepSpec("dialogue_splitter", {"unmarked": "guess"}), "dialogue_chunker", "tokenizer")
    with pytest.raises(PipelineError, match="did you mean 'lowercase'"):
        pipeline(wordpiece, StepSpec("text_normalizer", {"lower_case": True}), "tokenizer")


def test_a_step_parameter_beats_the_artifact(words):
    run = pipeline(words, "dialogue_splitter", StepSpec("dialogue_chunker", {"max_sen_len": 1}), must_give=Kind.CHUNKS)
    assert run(["[bom]hello[eom][bom]late[eom]"])[0] == [["hello", "late"]]
