from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.families import tiny
from support.models import CONFIG, ENCODER, token_rows, wrong_keys
from support.operations import Operations

from bsm_core import ConfigError, TextBatch, TokenBudget
from bsm_core.models.deferred_init import deferred_initialization
from bsm_plugins_models.bimodal import BimodalBert
from bsm_plugins_models.encoders.bert import BertEncoder, BertTextEncoder, build_encoder
from bsm_plugins_models.encoders.hugging_face import TYPES
from bsm_plugins_models.encoders.packed.tuned import build
from bsm_plugins_models.encoders.pooling import WITHOUT_POOLER
from bsm_plugins_models.trimodal import TrimodalBert


def text_encoder(encoder, size, reinit_pooler=False, reinit_layers=0, pooling=None):
    keys = {"reinit_pooler": reinit_pooler, "reinit_layers": reinit_layers, "pooling": pooling}
    keys |= {"hidden_common_dim": size}
    return BertTextEncoder(SimpleNamespace(text_encoder=encoder, **keys))


def make(**values):
    torch.manual_seed(0)
    return text_encoder(ENCODER, 5, **values).eval()


def reference(encoder, rows):
    """Each chunk by itself, unpadded."""
    vectors = []
    for row in rows:
        pooled = [encoder.bert(input_ids=torch.tensor([chunk])).pooler_output[0] for chunk in row]
        vectors.append(encoder.head_layer[1](torch.stack(pooled).mean(0)))
    return torch.stack(vectors)


@pytest.mark.parametrize("tokens", [1, 8, 50, 10_000])
def test_pooler_output_mean_over_chunks_then_linear_at_any_budget(tokens):
    encoder, rows = make(), token_rows(7)
    with torch.inference_mode():
        got = encoder(TextBatch.from_rows(rows), TokenBudget(tokens))
        assert got.shape == (7, 5)
        assert torch.allclose(got, reference(encoder, rows), atol=1e-5)


def test_transformers_draws_no_weights_either_where_they_are_replaced():
    state = make().state_dict()
    with Operations() as operations, deferred_initialization():
        encoder = text_encoder(ENCODER, 5)
        encoder.load_state_dict(state)
    assert operations.random == 0
    beside = dict(encoder.named_buffers())
    assert {name: value.tolist() for name, value in make().named_buffers()} == {
        k: v.tolist() for k, v in beside.items()
    }
    assert beside["bert.embeddings.position_ids"].tolist() == [list(range(16))]


def test_padding_carries_the_pad_token_of_the_config():
    assert text_encoder({**ENCODER, "pad_token_id": 7}, 5).pad_id == 7
    assert text_encoder({**ENCODER, "pad_token_id": None}, 5).pad_id == 0


def test_the_weights_have_the_names_of_the_artifacts():
    names = set(make().state_dict())
    assert names - {f"bert.{name}" for name in build_encoder(ENCODER).state_dict()} == {
        "head_layer.1.weight",
        "head_layer.1.bias",
    }


def test_other_encoders_with_a_pooler_do_as_well():
    config = {**ENCODER, "model_type": "roberta", "max_position_embeddings": 20, "pad_token_id": 1}
    encoder = text_encoder(config, 3).eval()
    with torch.inference_mode():
        assert encoder(TextBatch.from_rows([[[5, 6]], [[7]]]), TokenBudget(64)).shape == (2, 3)


def refused(**values):
    return wrong_keys(BimodalBert, {**CONFIG, **values})


def test_an_unknown_encoder_is_refused_and_nothing_of_the_artifact_is_run():
    evil = {"model_type": "evil", "auto_map": {"AutoModel": "evil.py--Evil"}}
    assert refused(text_encoder=evil)["text_encoder"].startswith("transformers has no model_type 'evil'")
    assert refused(text_encoder={"hidden_size": 12})["text_encoder"].startswith("transformers has no model_type None")
    mapped = build_encoder({**ENCODER, "auto_map": {"AutoModel": "evil.py--Evil"}})
    assert type(mapped).__module__.startswith("transformers.")


def test_chunks_longer_than_the_encoder_has_positions_for_are_refused():
    said = refused(max_sen_len=17)
    assert list(said) == ["text_encoder"]
    assert said["text_encoder"].startswith("max_sen_len is 17, the encoder has positions for 16 tokens")


def test_more_layers_to_reset_than_there_are_are_refused():
    assert refused(reinit_layers=3) == {"reinit_layers": "the encoder has 2 layers (it is 3)"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_precision_a_config_was_saved_in_changes_nothing(dtype):
    encoder = build_encoder({**ENCODER, "dtype": dtype})
    assert {value.dtype for value in encoder.parameters()} == {torch.float32}


SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
POSITIONS = 20


def config_of(kind, **other):
    sizes = {key: ENCODER[key] for key in SIZES}
    return {"model_type": kind, "max_position_embeddings": POSITIONS, **sizes, **other}


@pytest.mark.parametrize("padding", [{}, {"pad_token_id": 0}, {"pad_token_id": 1}, {"pad_token_id": 3}], ids=str)
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm"])
def test_the_longest_chunk_is_the_longest_that_the_encoder_takes(kind, padding):
    encoder = BertEncoder(config_of(kind, **padding)).eval()
    chunk = [7] * encoder.longest
    with torch.inference_mode():
        assert encoder.encode_rows(TextBatch.from_rows([[chunk]]), TokenBudget(64)).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            encoder.encode_rows(TextBatch.from_rows([[[*chunk, 7]]]), TokenBudget(64))
        if packed := build(encoder.bert, "fp32", None):
            text = TextBatch.from_rows([[chunk], [[5, 6, 9]]])
            expected = encoder.encode_rows(text, TokenBudget(64))
            encoder.backend = packed
            assert torch.allclose(encoder.encode_rows(text, TokenBudget(64)), expected, atol=1e-6)


def test_how_long_a_chunk_may_be():
    assert BertEncoder(ENCODER).longest == 16
    assert BertEncoder(config_of("roberta")).longest == POSITIONS - 2
    assert BertEncoder(config_of("roberta", pad_token_id=0)).longest == POSITIONS - 1


def test_a_roberta_takes_max_sen_len_up_to_its_positions():
    encoder = config_of("roberta", pad_token_id=0)
    assert refused(text_encoder=encoder, max_sen_len=POSITIONS)["text_encoder"].startswith(
        "max_sen_len is 20, the encoder has positions for 19 tokens"
    )
    BimodalBert.from_config({**CONFIG, "text_encoder": encoder, "max_sen_len": POSITIONS - 1})


def test_an_encoder_that_counts_positions_from_no_padding_token_is_refused():
    said = refused(text_encoder=config_of("roberta", pad_token_id=None))["text_encoder"]
    assert "pad_token_id" in said


def test_padding_carries_the_pad_token_that_is_the_default_of_the_type():
    assert BertEncoder(config_of("roberta")).pad_id == 1


def pretrained(**values):
    """A state dict whose weights are all ones."""
    return {name: torch.ones_like(value) for name, value in build_encoder({**ENCODER, **values}).state_dict().items()}


def fresh_names(encoder, state):
    """Load, and say which weights stayed as they were."""
    before = {name: value.clone() for name, value in encoder.bert.state_dict().items()}
    encoder.load_pretrained("text_encoder", state)
    after = encoder.bert.state_dict()
    assert all(torch.equal(value, before[name]) or (value == 1).all() for name, value in after.items())
    matrices = {name for name, value in after.items() if value.ndim > 1}  # biases and norms may have been 1 before
    return {name for name in matrices if torch.equal(after[name], before[name])}


def test_pretrained_weights_are_loaded():
    assert fresh_names(make(), {**pretrained(), "embeddings.position_ids": torch.arange(16)}) == set()


def test_what_is_reset_stays_as_a_fresh_encoder_has_it():
    assert fresh_names(make(reinit_pooler=True), pretrained()) == {"pooler.dense.weight"}
    last = {name for name in pretrained() if name.startswith("encoder.layer.1.") and "LayerNorm" not in name}
    assert fresh_names(make(reinit_layers=1), pretrained()) == {name for name in last if name.endswith("weight")}
    both = fresh_names(make(reinit_pooler=True, reinit_layers=2), pretrained())
    assert {name.split(".")[0] for name in both} == {"encoder", "pooler"}


def test_pretrained_weights_without_a_pooler_leave_it_fresh():
    state = {name: value for name, value in pretrained().items() if not name.startswith("pooler.")}
    assert fresh_names(make(), state) == {"pooler.dense.weight"}


def test_pretrained_weights_that_do_not_fit_are_named():
    state = pretrained(vocab_size=60, num_hidden_layers=3)
    del state["embeddings.LayerNorm.bias"]
    with pytest.raises(ConfigError, match=r"in 18 place\(s\) \(config.primary_text_encoder\)") as caught:
        make().load_pretrained("primary_text_encoder", state)
    assert caught.value.details[0] == "missing: embeddings.LayerNorm.bias [12]"
    assert "unexpected: encoder.layer.2.output.dense.weight" in caught.value.details
    assert caught.value.details[-1] == "shape: embeddings.word_embeddings.weight is [60, 12], the model has [64, 12]"


def test_layers_that_an_encoder_shares_cannot_be_reset():
    config = {**ENCODER, "model_type": "albert", "embedding_size": 12}
    said = refused(text_encoder=config, reinit_layers=1)
    assert said == {"reinit_layers": "the layers of this encoder share their weights; set this key to 0 (it is 1)"}
    encoder = text_encoder(config, 5, reinit_layers=1)
    with pytest.raises(ConfigError) as caught:
        encoder.load_pretrained("text_encoder", build_encoder(config).state_dict())
    assert caught.value.details == ("no such weights: encoder.layer.1.*",)


RESET = {
    "distilbert": "transformer.layer.1.",
    "modernbert": "layers.3.",
    "deberta-v2": "encoder.layer.1.",
    "xlm": ("attentions.1.", "layer_norm1.1.", "ffns.1.", "layer_norm2.1."),
    "xlnet": "layer.1.",
    "squeezebert": "encoder.layers.1.",
    "mobilebert": "encoder.layer.1.",
}


@pytest.mark.parametrize("kind", RESET)
def test_layers_of_other_families_are_reset(kind):
    encoder = BertEncoder(tiny(kind), reinit_layers=1, pooling="mean")
    ones = {name: torch.full_like(value, 7) for name, value in encoder.bert.state_dict().items()}
    encoder.load_pretrained("text_encoder", ones)
    kept = {name for name, value in encoder.bert.state_dict().items() if not (value == 7).all()}
    assert kept == {name for name in ones if name.startswith(RESET[kind])} != set()


@pytest.mark.parametrize("kind", TYPES)
def test_the_types_without_a_pooler(kind):
    with torch.device("meta"):
        model = build_encoder(tiny(kind), pooler=False)
        assert not any(name.startswith("pooler.") for name in model.state_dict())
        if kind in WITHOUT_POOLER:
            with pytest.raises(ValueError, match="has no pooler"):
                build_encoder(tiny(kind))
        else:
            assert any(name.startswith("pooler.") for name in build_encoder(tiny(kind)).state_dict())


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_in_a_batch_equals_itself_alone(kind):
    """Whatever the pooling, and whatever draws its weights; the pooled vectors are made of transformers' own."""
    config, rows = tiny(kind), [[[5, 6, 7, 8, 9]], [[11, 12], [13]], [[21] * 40]]
    for pooling in ("cls", "mean", *(["pooler"] if kind not in WITHOUT_POOLER else [])):
        torch.manual_seed(0)
        state = BertEncoder(config, pooling=pooling).state_dict()
        with deferred_initialization():
            encoder = text_encoder(config, 5, pooling=pooling)
            encoder.load_state_dict(state, strict=False)
        with torch.inference_mode():
            got = encoder.eval().encode_rows(TextBatch.from_rows(rows), TokenBudget(10_000))
            want = torch.stack([torch.stack([alone(encoder.bert, c, pooling) for c in row]).mean(0) for row in rows])
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-5)


def alone(model, chunk, pooling):
    output = model(input_ids=torch.tensor([chunk]), attention_mask=torch.ones(1, len(chunk), dtype=torch.int64))
    hidden = output.last_hidden_state[0]
    return output.pooler_output[0] if pooling == "pooler" else hidden.mean(0) if pooling == "mean" else hidden[0]


def test_a_pooling_that_an_encoder_has_not_is_refused():
    for kind in ("distilbert", "modernbert"):
        said = refused(text_encoder=tiny(kind), pooling="pooler")
        assert said == {
            "pooling": f'an encoder of type {kind!r} has no pooler; write "cls" or "mean" (it is \'pooler\')'
        }
    assert list(refused(pooling="max")) == ["pooling"]
    said = refused(pooling="mean", reinit_pooler=True)
    assert said == {"reinit_pooler": "with pooling 'mean' there is no pooler; set this key to false (it is True)"}


def test_the_default_is_the_pooler_where_there_is_one():
    poolings = [
        BimodalBert.from_config({**CONFIG, **keys}).config.pooling for keys in ({}, {"text_encoder": tiny("xlm")})
    ]
    assert poolings == ["pooler", "cls"]


def test_each_text_field_may_have_its_own_pooling():
    shared = TrimodalBert.from_config({**CONFIG, "pooling": "mean"})
    assert [shared.primary_text_subnetwork.pooling, shared.secondary_text_subnetwork.pooling] == ["mean", "mean"]
    own = TrimodalBert.from_config({**CONFIG, "secondary_pooling": "cls", "secondary_text_encoder": tiny("electra")})
    assert [own.primary_text_subnetwork.pooling, own.secondary_text_subnetwork.pooling] == ["pooler", "cls"]
    said = wrong_keys(TrimodalBert, {**CONFIG, "pooling": "pooler", "secondary_text_encoder": tiny("electra")})
    assert said["pooling"].startswith("an encoder of type 'electra' has no pooler")


def test_the_weights_of_a_pooler_that_is_not_used_are_passed_over():
    encoder = BertEncoder(ENCODER, pooling="mean")
    assert fresh_names(encoder, pretrained()) == set()
    assert not any("pooler" in name for name in encoder.state_dict())
