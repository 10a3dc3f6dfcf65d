"""Rules for every model class of this project, beyond those of the conformance kit.

A new one is in as soon as it is registered.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import CONFIG, make, make_batch, token_rows

from bsm_core import Batch, ConfigError, Encoder, ModelBase, Registry, TextBatch
from bsm_core.backends.trial import check_precision
from bsm_core.errors import UsageError
from bsm_core.runtime.precision import Precision

REGISTRY = Registry.discover(frozenset())
CLASSES = {
    component.name: REGISTRY.load(component, ModelBase)
    for component in REGISTRY.components
    if component.kind == "model_class" and component.alias_of is None
}
ROWS = 12

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
by_name = pytest.mark.parametrize("name", sorted(CLASSES))


def vivid(name, **values):
    """A model with weights so large that rows are told apart."""
    model = make(CLASSES[name], **values)
    for value in model.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.4)
    return model


def predict(model, batch):
    with torch.inference_mode():
        return model.predict_step(batch)


@by_name
def test_encoders_alone_learn_at_their_own_rate(name):
    model = make(CLASSES[name], lr=0.5, encoder_lr=0.25, run_scheduler=False)
    groups = model.configure_optimizers().param_groups
    slow = {id(parameter) for group in groups if group["lr"] == 0.25 for parameter in group["params"]}
    found = {key for key, parameter in model.named_parameters() if id(parameter) in slow}
    encoders = ("bert.embeddings.", "bert.encoder.", "bert.pooler.", "embeddings.weight")
    learns = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert found == {key for key in learns if any(part in key for part in encoders)}


@by_name
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_forward_and_backward_on_any_number_of_rows(name, rows, classes):
    model, batch = make(CLASSES[name], num_classes=classes), make_batch(rows, classes=classes)
    got = predict(model, batch)
    assert got.shape == (rows, classes)
    assert torch.allclose(got.sum(1), torch.ones(rows, dtype=torch.float64), atol=1e-12)
    model.train().training_step(batch).backward()
    learns = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in learns)


@by_name
def test_no_rows(name):
    model = make(CLASSES[name])
    assert model(make_batch(0)).shape == (0, 2)
    assert predict(model, make_batch(0)).shape == (0, 2)


@pytest.fixture(scope="module")
def pool():
    """For each model class, a model and its scores of some rows, each row by itself."""
    models = {name: vivid(name) for name in CLASSES}
    return {
        name: (model, torch.cat([predict(model, rows_of([i])) for i in range(ROWS)])) for name, model in models.items()
    }


def rows_of(indices):
    """These rows of a large batch."""
    texts = {
        column: TextBatch.from_rows([rows[i] for i in indices])
        for column, rows in (("chat", token_rows(ROWS)), ("notes", token_rows(ROWS, 1)))
    }
    return Batch(len(indices), texts, make_batch(ROWS).features[indices])


@by_name
@settings(max_examples=15)
@given(indices=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=9), tokens=st.integers(1, 400))
def test_a_row_depends_neither_on_its_neighbours_nor_on_the_budget(name, pool, indices, tokens):
    model, alone = pool[name]
    model.token_budget.tokens = tokens
    assert (predict(model, rows_of(indices)) - alone[indices]).abs().max() < 1e-6


@by_name
def test_rows_are_told_apart(name, pool):
    _, alone = pool[name]
    assert alone[:, 1].std() > 0.01


@by_name
def test_rows_without_a_chunk_are_scored_like_any_other(name):
    model = vivid(name)
    got = predict(model, make_batch(4, empty=(0, 2)))
    assert got.isfinite().all()
    assert (got[[1, 3]] - predict(model, make_batch(4))[[1, 3]]).abs().max() < 1e-6
    assert predict(model, make_batch(2, empty=(0, 1))).isfinite().all()


@by_name
def test_a_class_does_without_features_or_says_that_it_needs_them(name):
    try:
        model = make(CLASSES[name], tab_field_list=[])
    except ConfigError as error:
        (detail,) = error.details
        assert detail.startswith("tab_field_list: ")
    else:
        assert predict(model, make_batch(3, 0)).shape == (3, 2)


@by_name
def test_a_key_that_is_null_has_its_default(name):
    fields = CLASSES[name].Config.model_fields
    optional = {key for key, field in fields.items() if not field.is_required()}
    given = {key: value for key, value in CONFIG.items() if key not in optional} | {"max_sen_len": 16}
    if "kernel_size" in fields:  # whose default needs longer chunks
        given["max_sen_len"] = 64
    model_class = CLASSES[name]
    nulls = dict.fromkeys(optional - given.keys())
    assert model_class.from_config({**given, **nulls}).config == model_class.from_config(given).config


class PlainLstm(Encoder):
    """PyTorch's LSTM, and nothing of ours."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, 1, batch_first=True)

    def encode(self, input_ids, attention_mask):
        return self.lstm(input_ids[..., None].float())[0][:, -1]


@by_name
@pytest.mark.parametrize("how", ["bfloat16", "autocast"])
def test_bf16_is_close_to_float32(name, how):
    if (name, how) == ("lstm", "autocast"):
        try:
            check_precision("lstm", PlainLstm().eval(), Precision.BF16)
        except UsageError as error:
            pytest.skip(str(error))
    model, batch = vivid(name), make_batch(ROWS)
    want = predict(model, batch)
    low = copy.deepcopy(model).bfloat16() if how == "bfloat16" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        got = predict(low, batch)
        loss = low.train().training_step(batch)
    loss.backward()
    assert loss.isfinite()
    assert (got - want).abs().max() < 0.1
    assert (got - want).abs().mean() < 0.1 * want[:, 1].std()


def test_the_suite_walks_over_the_built_in_classes():
    assert len(CLASSES) >= 12


WITHOUT_EMBEDDINGS = {"transformers_classifier": "it has no method fuse_rows and no method classify_rows of its own"}
"""Classes whose scores are not computed from one vector of the row."""


@by_name
def test_scores_of_changed_features_need_no_encoder(name, monkeypatch):
    if name in WITHOUT_EMBEDDINGS:
        assert CLASSES[name].why_no_embeddings() == WITHOUT_EMBEDDINGS[name]
        return
    model, batch = vivid(name), make_batch(ROWS)
    changed = dataclasses.replace(batch, features=batch.features + 1)
    with torch.inference_mode():
        texts, expected = model.encode_texts(batch), model(changed)
        assert [*texts] == [column for column in ("chat", "notes") if column in texts]
        monkeypatch.setattr(type(model), "encode_texts", lambda *_: pytest.fail("a text was encoded"))
        assert torch.equal(model.classify_rows(model.fuse_rows(texts, changed.features)), expected)


@by_name
def test_the_vectors_of_rows_are_those_of_the_parts(name):
    if name in WITHOUT_EMBEDDINGS:
        return
    model, batch = vivid(name), make_batch(ROWS)
    asking = dataclasses.replace(batch, vectors={})
    assert torch.equal(predict(model, asking), predict(model, batch))
    texts = [f"embedding_{column}" for column in ("chat", "notes") if f"embedding_{column}" in asking.vectors]
    assert [*asking.vectors] == [*texts, "embedding"]
    assert len(texts) == len(
        {"text_name", "primary_text_name", "secondary_text_name"} & {*type(model.config).model_fields}
    )
    assert {key: vectors.shape[1] for key, vectors in asking.vectors.items()} == model.vector_sizes(batch)
    with torch.inference_mode():
        logits = model.classify_rows(asking.vectors["embedding"])
    assert torch.equal(logits.double().softmax(dim=-1)[:, 1], predict(model, batch)[:, 1])
