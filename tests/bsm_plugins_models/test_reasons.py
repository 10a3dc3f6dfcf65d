"""Reasons for the scores of every model class: they add up, and agree with shap and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.models import FEATURES, make, make_batch
from torch import nn

from bsm_core import Batch, ModelBase, Registry, TextBatch
from bsm_core.errors import CorruptArtifactError
from bsm_core.explain.background import make_background
from bsm_core.explain.explainer import Explainer
from bsm_core.explain.inputs import log_odds

REGISTRY = Registry.discover(frozenset())
CLASSES = {
    component.name: REGISTRY.load(component, ModelBase)
    for component in REGISTRY.components
    if component.kind == "model_class" and component.alias_of is None
}
ROWS = 6
by_name = pytest.mark.parametrize("name", sorted(CLASSES))
with_text = pytest.mark.parametrize("name", sorted(CLASSES.keys() - {"tabular"}))
by_classes = pytest.mark.parametrize("classes", [2, 4])


def vivid(name, **values):
    """A model with weights so large that inputs matter."""
    model = make(CLASSES[name], **values)
    for key, value in model.named_parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.8 if "embedding" in key else 0.4)
    return model


def texts_of(model):
    names = ("text_name", "primary_text_name", "secondary_text_name")
    return [getattr(model.config, name) for name in names if hasattr(model.config, name)]


def rows_of(model, rows=ROWS, **options):
    batch = make_batch(rows, **options)
    return Batch(rows, {name: batch.texts[name] for name in texts_of(model)}, batch.features)


def explainer(model, background=None):
    empty = Batch(1, {name: TextBatch.from_rows([[[1]]]) for name in texts_of(model)}, torch.full((1, 3), -1.0))
    return Explainer(model, [(name, 1) for name in FEATURES], empty, background)


def odds_of(model, batch):
    with torch.inference_mode():
        return log_odds(model(batch), model.config.calibration_temperature).double()


@by_name
@by_classes
def test_contributions_add_up_to_the_log_odds(name, classes):
    model = vivid(name, num_classes=classes, calibration_temperature=1.7)
    batch = rows_of(model, empty=(2,))
    got = explainer(model).contributions(batch)
    assert got.names == (*texts_of(model), *FEATURES)
    assert torch.allclose(got.log_odds, odds_of(model, batch), atol=1e-5)
    assert torch.allclose(got.baseline + got.values.sum(1), got.log_odds, atol=1e-9)
    assert got.values.abs().amax() > 0.1


@by_name
def test_a_row_of_the_background_has_no_contributions(name):
    model = vivid(name)
    batch = Batch(2, {n: TextBatch.from_rows([[[1]]] * 2) for n in texts_of(model)}, torch.full((2, 3), -1.0))
    got = explainer(model).contributions(batch)
    assert got.values.abs().amax() < 1e-6
    assert torch.allclose(got.baseline.expand(2, -1), got.log_odds, atol=1e-6)


@pytest.mark.parametrize("name", ["bimodal_moe", "tabular", "transformers_classifier", "trimodal_bert"])
def test_values_are_those_of_shap(name):
    """The vectors of texts are single inputs for us; shap gets a position in a list of vectors in their place."""
    shap = pytest.importorskip("shap")
    model = vivid(name)
    batch = rows_of(model)
    ours = explainer(model)
    got = ours.contributions(batch)
    inputs, count = ours.inputs, len(ours.inputs.names)

    with torch.inference_mode():
        values = ours._game.values(batch)[:, :, 0]

    def value(known):
        places = (known > 0.5) @ (1 << np.arange(count))
        return values[torch.from_numpy(places), value.row].numpy()

    for value.row in range(2):
        found = shap.explainers.Exact(value, torch.zeros(1, count).numpy())(torch.ones(1, count).numpy())
        assert inputs.names == got.names
        assert got.values[value.row, :, 0].tolist() == pytest.approx(found.values[0].tolist(), abs=1e-6)


def of_padding(ours, batch, column, row):
    """Contribution of a text of padding tokens of the same lengths, attended to like words, adds to the log-odds."""
    part = batch.select(torch.tensor([row]))
    padding = TextBatch.from_rows([[[0] * len(chunk) for chunk in part.texts[column].to_rows()[0]]])
    changed = Batch(1, {**part.texts, column: padding}, part.features)
    return ours.contributions(changed).values[0, ours.inputs.texts.index(column)]


@with_text
@by_classes
def test_tokens_explain_their_field(name, classes):
    model = vivid(name, num_classes=classes)
    batch, ours = rows_of(model, 4), explainer(model)
    if name == "transformers_classifier":
        assert ours.tokens(batch, texts_of(model)[0], steps=2) is None  # its features are inputs, too
        return
    whole = ours.contributions(batch)
    for place, column in enumerate(texts_of(model)):
        found = ours.tokens(batch, column, steps=2)
        for row, (tokens, ids) in enumerate(zip(found, batch.texts[column].to_rows(), strict=True)):
            assert [chunk.shape for chunk in tokens.chunks] == [(len(chunk), whole.values.shape[2]) for chunk in ids]
            total = sum(chunk.sum(0) for chunk in tokens.chunks) + tokens.error
            assert torch.allclose(total, whole.values[row, place] - of_padding(ours, batch, column, row), atol=2e-4)


def test_a_model_whose_only_input_is_a_text_needs_no_parts():
    model = vivid("transformers_classifier")
    batch = rows_of(model, 3)
    batch = Batch(3, batch.texts, torch.empty(3, 0))
    ours = Explainer(model, [], Batch(1, {"chat": TextBatch.from_rows([[[1]]])}, torch.empty(1, 0)))
    tokens = ours.tokens(batch, "chat", steps=64)
    padding = [of_padding(ours, batch, "chat", row) for row in range(3)]
    for row, (found, start) in enumerate(zip(tokens, padding, strict=True)):
        explained = ours.contributions(batch).values[row, 0] - start
        assert torch.allclose(sum(chunk.sum(0) for chunk in found.chunks), explained, atol=0.05)


@pytest.mark.parametrize("name", ["bert", "lstm"])
def test_as_many_steps_as_one_percent_needs(name):
    model = make(CLASSES[name])
    batch, ours = rows_of(model, 4), explainer(model)
    for column in texts_of(model):
        for tokens in ours.tokens(batch, column):
            explained = sum(chunk.sum(0) for chunk in tokens.chunks) + tokens.error
            assert (tokens.error.abs() <= 0.01 * explained.abs().clamp(min=1e-3)).all()


def test_tokens_that_stand_for_no_text_have_no_value():
    model = vivid("bimodal_bert")
    batch, ours = rows_of(model, 4), explainer(model)
    fixed = {batch.texts["chat"].to_rows()[0][0][0]}
    for tokens, ids in zip(ours.tokens(batch, "chat", fixed, steps=2), batch.texts["chat"].to_rows(), strict=True):
        for values, chunk in zip(tokens.chunks, ids, strict=True):
            for value, token in zip(values, chunk, strict=True):
                assert bool(value.any()) is (token not in fixed)


def test_rows_that_share_a_chunk_have_their_own_values():
    model = vivid("bimodal_bert")
    chunks = [[[3, 4, 5], [7, 8]], [[3, 4, 5]], [[3, 4, 5], [3, 4, 5]]]
    batch = Batch(3, {"chat": TextBatch.from_rows(chunks)}, torch.randn(3, 3))
    ours = explainer(model)
    together = ours.tokens(batch, "chat", steps=4)
    for row in range(3):
        [alone] = ours.tokens(batch.select(torch.tensor([row])), "chat", steps=4)
        for got, expected in zip(together[row].chunks, alone.chunks, strict=True):
            assert torch.allclose(got, expected, atol=1e-6)
    assert torch.equal(*together[2].chunks)


@with_text
def test_values_of_tokens_are_those_of_captum(name):
    captum = pytest.importorskip("captum.attr")
    if name == "transformers_classifier":
        pytest.skip("the field is not the only input")
    model = vivid(name)
    batch, ours = rows_of(model, 2), explainer(model)
    column = texts_of(model)[0]
    table = next(module for module in model.modules() if isinstance(module, nn.Embedding))
    for row in range(2):
        part = batch.select(torch.tensor([row]))
        chunks = part.texts[column].to_rows()[0][:1]  # captum's layer is called once
        part = Batch(1, {**part.texts, column: TextBatch.from_rows([chunks])}, part.features)
        got = ours.tokens(part, column, steps=8)[0].chunks[0][:, 0]
        found = of_captum(captum, ours._game.field_value(part, column), table, torch.tensor(chunks), steps=8)
        assert found[: len(got)].tolist() == pytest.approx(got.tolist(), abs=1e-4)


def of_captum(captum, value, table, ids, steps):
    """Integrated gradients of captum, from padding tokens to the tokens, float ``[tokens]``."""
    method = captum.LayerIntegratedGradients(lambda given: value(TextBatch.from_rows([given.tolist()]))[:, 0], table)
    options = {"n_steps": steps, "method": "gausslegendre", "internal_batch_size": 1}
    return method.attribute(ids, torch.zeros_like(ids), **options).sum(-1)[0]


@by_name
def test_the_mean_row_of_training_is_the_background(name):
    model = vivid(name)
    batch = rows_of(model)
    stored = make_background(model, batch, {column: frozenset({3}) for column in texts_of(model)})
    assert stored.features == pytest.approx(batch.features.mean(0).tolist(), abs=1e-6)
    assert list(stored.tokens) == texts_of(model)
    ours = explainer(model, stored)
    got = ours.contributions(batch)
    if not model.why_no_embeddings():
        with torch.inference_mode():
            texts = {key: vectors.mean(0)[None] for key, vectors in model.encode_texts(batch).items()}
            logits = model.classify_rows(model.fuse_rows(texts, batch.features.mean(0)[None]))
        assert torch.allclose(got.baseline, log_odds(logits, 1)[0].double(), atol=1e-5)
    assert torch.allclose(got.baseline + got.values.sum(1), got.log_odds, atol=1e-9)


def test_the_mean_token_is_the_start_of_the_line():
    model = vivid("bimodal_bert")
    batch = rows_of(model)
    stored = make_background(model, batch, {"chat": frozenset({3})})
    ids = [token for row in batch.texts["chat"].to_rows() for chunk in row for token in chunk if token != 3]
    table = model.text_subnetwork.bert.get_input_embeddings().weight
    assert stored.tokens["chat"] == pytest.approx(table[ids].mean(0).tolist(), abs=1e-5)
    mean = explainer(model, stored).tokens(batch, "chat", steps=4)[0].chunks[0]
    padding = explainer(model).tokens(batch, "chat", steps=4)[0].chunks[0]
    assert not torch.allclose(mean, padding, atol=1e-2)


@pytest.mark.parametrize(("change", "said"), [({"features": [0.0]}, "features"), ({"texts": {}}, "texts.chat")])
def test_a_background_of_another_model_is_refused(change, said):
    model = vivid("bimodal_bert")
    stored = make_background(model, rows_of(model), {"chat": frozenset()}).model_copy(update=change)
    with pytest.raises(CorruptArtifactError, match=said):
        explainer(model, stored)
