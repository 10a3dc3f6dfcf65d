from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from support.bert import ENCODER, token_rows

from bsm_core import TextBatch, TokenBudget
from bsm_plugins_models.encoders.bert import BertTextEncoder, EncoderConfig, build_encoder, longest_chunk


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return BertTextEncoder(ENCODER, 5).eval()


def reference(encoder, rows):
    """Each chunk by itself, unpadded."""
    vectors = []
    for row in rows:
        pooled = [encoder.bert(input_ids=torch.tensor([chunk])).pooler_output[0] for chunk in row]
        vectors.append(encoder.head_layer[1](torch.stack(pooled).mean(0)))
    return torch.stack(vectors)


@pytest.mark.parametrize("tokens", [1, 8, 50, 10_000])
def test_pooler_output_mean_over_chunks_then_linear_at_any_budget(encoder, tokens):
    rows = token_rows(7)
    with torch.inference_mode():
        got = encoder(TextBatch.from_rows(rows), TokenBudget(tokens))
        assert got.shape == (7, 5)
        assert torch.allclose(got, reference(encoder, rows), atol=1e-6)


def test_padding_carries_the_pad_token_of_the_config():
    torch.manual_seed(0)
    encoder = BertTextEncoder({**ENCODER, "pad_token_id": 7}, 5).eval()
    assert encoder.pad_id == 7
    assert BertTextEncoder({**ENCODER, "pad_token_id": None}, 5).pad_id == 0


def test_the_weights_have_the_names_of_the_artifacts(encoder):
    names = set(encoder.state_dict())
    assert {"bert.pooler.dense.weight", "bert.embeddings.word_embeddings.weight", "head_layer.1.weight"} <= names
    assert "head_layer.0.weight" not in names


def test_other_encoders_with_a_pooler_do_as_well():
    config = {**ENCODER, "model_type": "roberta", "max_position_embeddings": 20, "pad_token_id": 1}
    encoder = BertTextEncoder(config, 3).eval()
    with torch.inference_mode():
        assert encoder(TextBatch.from_rows([[[5, 6]], [[7]]]), TokenBudget(64)).shape == (2, 3)


def test_an_unknown_encoder_is_refused_and_nothing_of_the_artifact_is_run():
    check = TypeAdapter(EncoderConfig).validate_python
    assert check(ENCODER) == ENCODER
    with pytest.raises(ValidationError, match="model_type 'evil' is none that transformers knows"):
        check({"model_type": "evil", "auto_map": {"AutoModel": "evil.py--Evil"}})
    with pytest.raises(ValidationError, match="model_type None"):
        check({"hidden_size": 12})
    mapped = build_encoder({**ENCODER, "auto_map": {"AutoModel": "evil.py--Evil"}})
    assert type(mapped).__module__.startswith("transformers.")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_precision_a_config_was_saved_in_changes_nothing(dtype):
    encoder = build_encoder({**ENCODER, "dtype": dtype})
    assert {value.dtype for value in encoder.parameters()} == {torch.float32}


def test_an_encoder_without_a_pooler_is_refused():
    with pytest.raises(ValueError, match="'distilbert' has no pooler"):
        build_encoder({"model_type": "distilbert", "vocab_size": 50, "dim": 12, "n_heads": 3, "n_layers": 1})


def test_how_long_a_chunk_may_be():
    assert longest_chunk(ENCODER) == 16
    assert longest_chunk({**ENCODER, "model_type": "roberta", "pad_token_id": 1}) == 14
    assert longest_chunk({"model_type": "bert"}) is None
