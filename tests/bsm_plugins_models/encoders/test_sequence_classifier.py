from __future__ import annotations

import pickle

import pytest
import torch
from support.classifiers import FAMILIES, classifier_config
from support.models import CONFIG, wrong_keys

from bsm_core import TextBatch
from bsm_core.errors import ConfigError
from bsm_plugins_models.encoders.hugging_face import build_encoder
from bsm_plugins_models.encoders.sequence_classifier import CLASSIFIERS, SequenceClassifier, SequenceClassifierConfig
from bsm_plugins_models.text import TransformersClassifier

LENGTHS = (1, 2, 5, 9, 33, 40, 17, 3)


def make(family: str, **keys) -> SequenceClassifier:
    torch.manual_seed(0)
    config = classifier_config(family, **keys)
    made = SequenceClassifier(
        SequenceClassifierConfig(text_name="text", text_encoder=config, num_classes=3, is_binary=False, max_sen_len=40)
    )
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value), alpha=0.2 if value.ndim > 1 else 0.1)
    return made.eval()


def chunks() -> TextBatch:
    generator = torch.Generator().manual_seed(0)
    return TextBatch.from_rows([[torch.randint(5, 90, (n,), generator=generator).tolist()] for n in LENGTHS])


OTHERS = ("big_bird", "convbert", "fnet", "mobilebert", "nystromformer", "squeezebert", "xmod")
KEYS = [(family, {}) for family in (*FAMILIES, *OTHERS)] + [("modernbert", {"classifier_pooling": "cls"})]


@pytest.mark.parametrize(("family", "keys"), KEYS)
@torch.inference_mode()
def test_the_tuned_backend_computes_the_familys_own_head(family, keys):
    encoder, text = make(family, **keys), chunks()
    want = encoder.encode(*text.padded(0, text.distinct, encoder.pad_id))
    backend = encoder.backends()["tuned"]("fp32", None)
    if backend is None:
        pytest.skip("oneDNN's products do not run here")
    got = backend.encode(text.tokens, text.chunk_offsets.diff())
    assert (got - want).abs().max() < 1e-5
    assert want.std(0).min() > 0.1
    encoder.backend = backend
    assert isinstance(pickle.loads(pickle.dumps(encoder)), SequenceClassifier)


def test_a_head_that_reads_every_token_has_no_faster_backend():
    assert make("eurobert", num_key_value_heads=2, bos_token_id=1, eos_token_id=2, mask_token_id=3).backends() == {}


def test_types_that_cannot_be_used():
    for family in ("xlnet", "roc_bert", "gpt2"):
        told = wrong_keys(TransformersClassifier, {**CONFIG, "text_encoder": {"model_type": family}})["text_encoder"]
        assert f"bsm does not support model_type {family!r} here" in told
    assert len(CLASSIFIERS) == 34  # as the changelog says


def test_no_text_may_be_longer_than_the_positions():
    values = {**CONFIG, "text_encoder": classifier_config("roberta", max_position_embeddings=20), "max_sen_len": 19}
    told = wrong_keys(TransformersClassifier, values)["text_encoder"]
    assert "max_sen_len is 19, the encoder has positions for 18 tokens" in told


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2"])
def test_pretrained_weights_are_those_of_the_encoder(family):
    made, encoder = make(family), build_encoder(classifier_config(family), pooler=family != "deberta-v2")
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.load_pretrained("text_encoder", encoder.state_dict())
    after, loaded = made.model.state_dict(), encoder.state_dict()
    base = {name.removeprefix(f"{made.model.base_model_prefix}."): name for name in after}
    for name, own in base.items():
        assert torch.equal(after[own], loaded[name] if own != name else before[own]), own
    with pytest.raises(ConfigError, match="missing"):
        made.load_pretrained("text_encoder", {})
