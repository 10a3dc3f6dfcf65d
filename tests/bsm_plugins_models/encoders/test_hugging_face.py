from __future__ import annotations

import re
from inspect import getsource
from sys import modules

import pytest
import torch
from support.families import POSITIONS, tiny, with_noise
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel

from bsm_plugins_models.encoders import hugging_face
from bsm_plugins_models.encoders.bert import longest_chunk
from bsm_plugins_models.encoders.hugging_face import PADDING_COUNTS, TYPES, read_encoder


def built(kind, **other):
    torch.manual_seed(0)
    return with_noise(AutoModel.from_config(read_encoder(tiny(kind, **other)))).eval()


@torch.inference_mode()
def hidden(model, ids, padding=0):
    """Hidden states of one chunk with so much padding after it."""
    tokens = torch.tensor([[*ids, *[model.config.pad_token_id or 0] * padding]])
    mask = (torch.arange(tokens.shape[1]) < len(ids)).long()[None]
    return model(input_ids=tokens, attention_mask=mask).last_hidden_state[:, : len(ids)]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_returns_a_vector_for_each_token_which_padding_does_not_change(kind):
    model = built(kind)
    for length, padding in ((1, 3), (40, 20)):
        ids = [5 + (7 * i) % 50 for i in range(length)]
        alone, padded = hidden(model, ids), hidden(model, ids, padding)
        assert alone.shape == (1, length, model.config.hidden_size)
        assert torch.allclose(alone, padded, rtol=1e-5, atol=1e-5) == (kind not in PADDING_COUNTS)


def test_sparse_attention_which_depends_on_other_texts_is_full():
    model = built("big_bird", attention_type="block_sparse", block_size=4, num_random_blocks=1)
    long = [5 + (7 * i) % 50 for i in range(60)]
    first, short, again = hidden(model, long), hidden(model, [7] * 5), hidden(model, long)
    assert torch.equal(first, again)
    assert torch.allclose(first, hidden(built("big_bird", attention_type="original_full"), long))
    assert short.isfinite().all()


def test_an_xmod_needs_a_language():
    with pytest.raises(ValueError, match="default_language is None; name one of the languages of the encoder"):
        read_encoder(tiny("xmod", languages=["en", "de"], default_language=None))


@pytest.mark.parametrize("kind", TYPES)
def test_the_longest_chunk_of_every_type(kind):
    model = built(kind, num_hidden_layers=1, layer_types=None)
    longest = longest_chunk(model)
    assert hidden(model, [7] * (longest or POSITIONS + 1)).isfinite().all()
    if longest:
        with pytest.raises((IndexError, RuntimeError)):
            hidden(model, [7] * (longest + 1))


_OF_HEADS = {"cls_dropout", "num_labels", "summary_activation", "summary_type", "head_dim"}
"""Keys that only heads read, and one that rotary encoders without it compute."""


@pytest.mark.parametrize("kind", TYPES)
def test_every_key_that_an_encoder_reads_reaches_it(kind):
    """transformers reads some keys that a type's config does not define; without them it is another encoder."""
    config = CONFIG_MAPPING[kind]
    read = set(re.findall(r'getattr\((?:self\.)?config, "(\w+)"', source_of(MODEL_MAPPING[config])))
    read |= set(re.findall(r'kwargs\.(?:pop|get|setdefault)\(\s*"(\w+)"', source_of(config)))
    known = config().to_dict()
    if "rope_parameters" in known and kind not in ("modernbert", "ultrabert"):  # which read them in their own way
        read |= {"rope_theta", "rope_scaling", "partial_rotary_factor"}
    assert read - {*known, *config.attribute_map, *_OF_HEADS} <= {*hugging_face._ALSO_READ.get(kind, ())}


def source_of(cls):
    return getsource(modules[cls.__module__])


@pytest.mark.parametrize(
    "encoder",
    [
        tiny("deberta-v2"),
        tiny("modernbert"),
        {"model_type": "eurobert", "rope_theta": 250_000, "pad_token_id": 0},
        {"model_type": "modernbert", "global_rope_theta": 1_000.0, "local_rope_theta": 10.0},
    ],
    ids=lambda encoder: encoder["model_type"],
)
def test_a_config_is_what_transformers_makes_of_it(encoder):
    want = {**CONFIG_MAPPING[encoder["model_type"]].from_dict(encoder).to_dict(), "initializer_range": None}
    got = {**read_encoder(encoder).to_dict(), "initializer_range": None}
    assert {key: got.get(key) for key in want} == want


def test_values_that_transformers_refuses_are_told():
    with pytest.raises(ValueError, match="transformers cannot read the config of this encoder"):
        read_encoder({"model_type": "modernbert", "global_attn_every_n_layers": 0})


@pytest.mark.parametrize(
    ("encoder", "word"),
    [
        ({"model_type": "albert", "inner_group_num": 1_000_000}, "inner_group_num"),
        ({"model_type": "albert", "num_hidden_groups": 150, "inner_group_num": 150}, "modules"),
        ({"model_type": "mobilebert", "num_feedforward_networks": 1_000_000}, "num_feedforward_networks"),
        ({"model_type": "distilbert", "n_layers": 1_000_000}, "n_layers"),
        ({"model_type": "xlnet", "n_layer": 201}, "n_layer"),
        ({"model_type": "xlm", "n_langs": 1_000_000}, "n_langs"),
        ({"model_type": "xmod", "languages": ["x"] * 300_000}, "languages"),
    ],
)
def test_encoders_of_very_many_parts_are_refused(encoder, word):
    with pytest.raises(ValueError, match=word):
        read_encoder(encoder)


@pytest.mark.parametrize(
    "encoder",
    [
        {"model_type": "xmod", "languages": [f"l{i}" for i in range(81)], "default_language": "l0"},
        {"model_type": "nomic_bert", "n_embd": 768, "n_inner": 3072, "n_positions": 8192, "rotary_emb_base": 160_000},
        {"model_type": "longformer", "attention_window": [512] * 24, "max_position_embeddings": 4098},
        {"model_type": "xlm", "n_words": 30_145, "n_langs": 100, "n_layers": 12},
        {"model_type": "xlnet", "n_token": 32_000},
        {"model_type": "deberta-v2", "position_buckets": 256, "max_relative_positions": -1},
        {"model_type": "albert", "num_hidden_layers": 12, "num_hidden_groups": 1, "inner_group_num": 1},
    ],
)
def test_encoders_of_ordinary_sizes_pass(encoder):
    read_encoder(encoder)
