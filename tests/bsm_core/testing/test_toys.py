from __future__ import annotations

import pandas as pd
import pytest
from support.broken_models import Good
from support.broken_steps import Good as Shout
from support.plugins import write_plugin

from bsm_core import Predictor, Registry
from bsm_core.errors import UnknownStepError
from bsm_core.plugins.registry import default_registry
from bsm_core.testing import isolated_registry, toy_artifact
from bsm_core.testing.toys import ROWS, toy_tokenizer


def test_a_registry_of_the_built_ins_and_of_what_is_given(tmp_path, monkeypatch):
    write_plugin(tmp_path, "acme", {"acme_shout": "acme:Shout"})
    monkeypatch.syspath_prepend(tmp_path)
    default_registry.cache_clear()
    before = default_registry()
    assert before.resolve("step", "acme_shout")
    with isolated_registry(steps={"shout": Shout}) as registry:
        assert default_registry() is registry
        assert registry.resolve("step", "shout").target == "support.broken_steps:Good"
        with pytest.raises(UnknownStepError):
            registry.resolve("step", "acme_shout")
        assert set(Registry.discover(frozenset()).names("model_class")) <= set(registry.names("model_class"))
    assert default_registry().resolve("step", "acme_shout")
    default_registry.cache_clear()


def test_what_is_given_stands_in_for_a_built_in():
    with isolated_registry(steps={"toy_tokens": "acme:Tokens"}) as registry:
        assert registry.resolve("step", "toy_tokens").target == "acme:Tokens"


def test_registries_nest_and_come_back_when_a_test_fails():
    outer = default_registry()
    with isolated_registry() as first:
        with pytest.raises(UnknownStepError), isolated_registry() as second:
            second.resolve("step", "no_such_step")
        assert default_registry() is first
    assert default_registry().components == outer.components


def test_an_artifact_is_whole_and_the_same_every_time(tmp_path):
    with isolated_registry(steps={"shout": Shout}):
        steps = ["shout", "toy_tokens"]
        folders = [toy_artifact(tmp_path / name, text_processing_steps=steps) for name in ("one", "two")]
        scores = [Predictor.from_artifact(folder).predict(pd.DataFrame(ROWS)) for folder in folders]
        plain = Predictor.from_artifact(toy_artifact(tmp_path / "three")).predict(pd.DataFrame(ROWS))
    assert scores[0].equals(scores[1])
    assert not scores[0].equals(plain)
    assert list(plain.columns) == ["prob_class_0", "prob_class_1"]


def test_an_artifact_of_a_model_of_ones_own(tmp_path):
    with isolated_registry(model_classes={"mine": Good}):
        model = Good.from_config(
            {"text_name": "text", "tab_field_list": ["a"], "vocab_size": 64, "num_classes": 4, "max_sen_len": 16}
        )
        folder = toy_artifact(tmp_path, model, model_class="mine", tab_field_list=["a"], num_classes=4)
        assert Predictor.from_artifact(folder).predict(pd.DataFrame(ROWS)).shape == (4, 4)


def test_the_tokenizer_is_fast_and_made_of_nothing():
    tokenizer = toy_tokenizer()
    assert tokenizer.is_fast
    assert tokenizer.num_special_tokens_to_add() == 2
    assert len(tokenizer("Hello 😀")["input_ids"]) > 2
    assert max(tokenizer("zebra quiz 0123456789")["input_ids"]) < 64
