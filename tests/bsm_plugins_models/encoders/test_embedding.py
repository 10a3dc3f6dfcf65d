from __future__ import annotations

import pytest
import torch
from support.models import CONFIG

from bsm_core import ConfigError
from bsm_plugins_models.encoders.embedding import EmbeddingConfig, TokenEmbedding


def make(**values):
    return TokenEmbedding(EmbeddingConfig.model_validate({**CONFIG, **values}))


def test_the_shape_is_that_of_the_artifacts_matrix():
    assert make(embedding_shape=[7, 3]).weight.shape == (7, 3)


@pytest.mark.parametrize("trainable", [True, False])
def test_it_may_be_frozen(trainable):
    assert make(is_embeddings_trainable=trainable).weight.requires_grad is trainable


@pytest.mark.parametrize("trainable", [True, False])
def test_it_starts_from_a_matrix(trainable):
    embedding = make(is_embeddings_trainable=trainable)
    embedding.load_pretrained("embedding_mat", {"weight": torch.ones(64, 12, dtype=torch.float64)})
    assert (embedding.weight == 1).all()
    assert embedding.weight.dtype == torch.float32
    assert embedding.weight.requires_grad is trainable


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ConfigError) as caught:
        make().load_pretrained("embedding_mat", {"weight": torch.ones(60, 12)})
    assert caught.value.where == "config.embedding_mat"
    assert caught.value.details == ("shape: weight is [60, 12], the model has [64, 12]",)
