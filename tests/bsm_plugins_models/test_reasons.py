"""Reasons for the scores of every model class: they add up, and agree with shap and captum."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from support.models import FEATURES, make, make_batch
from torch import nn

from bsm_core import Batch, ModelBase, Registry, TextBatch
from bsm_core.explain.explainer import Explainer
from bsm_core.explain.inputs import Background, log_odds

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


@by_name
def test_values_are_those_of_shap(name):
    """The vectors of texts are single inputs for us; shap gets a position in a list of vectors in their place."""
    shap = pytest.importorskip("shap")
    model = vivid(name)
    batch = rows_of(model)
    ours = explainer(model)
    got = ours.contributions(batch)
    inputs, count = ours.inputs, len(ours.inputs.names)

    def value(known):
        found = []
        for row in torch.tensor(known) > 0.5:
            part = batch.select(torch.tensor([value.row]))
            place = int((row.int() * 2 ** torch.arange(count)).sum())
            with torch.inference_mode():
                found.append(float(ours._game.values(part)[place, 0, 0]))
        return torch.tensor(found).numpy()

    for value.row in range(2):
        found = shap.explainers.Exact(value, torch.zeros(1, count).numpy())(torch.ones(1, count).numpy())
        assert inputs.names == got.names
        assert got.values[value.row, :, 0].tolist() == pytest.approx(found.values[0].tolist(), abs=1e-6)


@with_text
@by_classes
def test_tokens_explain_their_field(name, classes):
    model = vivid(name, num_classes=classes)
    batch, ours = rows_of(model), explainer(model)
    whole = ours.contributions(batch)
    for place, column in enumerate(texts_of(model)):
        found = ours.tokens(batch, column)
        if name == "transformers_classifier":
            continue  # its features are inputs, too
        for row, (tokens, ids) in enumerate(zip(found, batch.texts[column].to_rows(), strict=True)):
            assert [len(chunk) for chunk in tokens.chunks] == [len(chunk) for chunk in ids]
            total = sum(chunk.sum(0) for chunk in tokens.chunks) + tokens.error
            padding = ours_of_padding(ours, batch, column, row)
            assert torch.allclose(total, whole.values[row, place] - padding, atol=2e-4)
            assert (tokens.error.abs() <= 0.01 * (total.abs().clamp(min=1e-3)) + 1e-6).all() or tokens.steps == 512


def ours_of_padding(ours, batch, column, row):
    """What a text of padding tokens of the same lengths, attended to like words, adds to the log-odds."""
    part = batch.select(torch.tensor([row]))
    encoder_pad = 0
    chunks = TextBatch.from_rows([[[encoder_pad] * len(c) for c in part.texts[column].to_rows()[0]]])
    changed = Batch(1, {**part.texts, column: chunks}, part.features)
    return ours.contributions(changed).values[0, ours.inputs.texts.index(column)]


@with_text
def test_values_of_tokens_are_those_of_captum(name):
    captum = pytest.importorskip("captum.attr")
    model = vivid(name)
    batch, ours = rows_of(model, 3), explainer(model)
    column = texts_of(model)[0]
    if ours.tokens(batch, column, steps=1) is None:
        pytest.skip("the field is not the only input")
    table = next(module for module in model.modules() if isinstance(module, nn.Embedding))
    for row in range(3):
        part = batch.select(torch.tensor([row]))
        chunks = part.texts[column].to_rows()[0][:1]  # captum's layer is called once
        part = Batch(1, {**part.texts, column: TextBatch.from_rows([chunks])}, part.features)
        value = ours._game.field_value(part, column)
        method = captum.LayerIntegratedGradients(lambda ids: value(TextBatch.from_rows([ids.tolist()]))[:, 0], table)
        ids = torch.tensor(chunks)
        length = getattr(model, "length", None)
        found = method.attribute(ids, torch.zeros_like(ids), n_steps=16, method="gausslegendre", internal_batch_size=1)
        got = ours.tokens(part, column, steps=16)[0].chunks[0][:, 0]
        assert found.sum(-1)[0][: len(got)].tolist() == pytest.approx(got.tolist(), abs=1e-4)
