"""Every type of encoder and every pooling, against transformers itself."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.families import tiny, with_noise

from bsm_core import TextBatch, TokenBudget
from bsm_core.models.micro_batches import encode_ragged_rows
from bsm_plugins_models.encoders.hugging_face import TYPES, build_encoder
from bsm_plugins_models.encoders.packed import tuned
from bsm_plugins_models.encoders.packed.families import parts_of
from bsm_plugins_models.encoders.packed.int8 import Quantized
from bsm_plugins_models.encoders.packed.linear import Packed
from bsm_plugins_models.encoders.packed.padded import PaddedEncoder
from bsm_plugins_models.encoders.pooling import WITHOUT_POOLER, pooled

UNPADDED = (
    *("bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "ernie", "distilbert", "electra", "mpnet"),
    *("bert-generation", "splinter", "modernbert"),
)
LENGTHS = (512, 130, 40, 33, 18, 17, 16, 15, 9, 9, 2, 1)
"""Of chunks: the window of the tiny ModernBERT reaches eight tokens to each side."""
TOLERANCES = {"bf16": 0.05, "int8": 0.1}
"""Of each chunk's mean difference to fp32, for vectors whose numbers are about one: the models are 16 wide."""


def chunks_of(lengths, low=5, high=60):
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(low, high, (n,), generator=generator).tolist() for n in lengths]


@cache
def model_of(kind, pooler):
    torch.manual_seed(0)
    return with_noise(build_encoder(tiny(kind), pooler=pooler)).eval()


def poolings(kind):
    return ("cls", "mean") if kind in WITHOUT_POOLER else ("cls", "mean", "pooler")


def own_vectors(model, chunks, pooling):
    """Vectors that transformers computes, of each chunk alone."""
    masks = [torch.ones(1, len(chunk), dtype=torch.int64) for chunk in chunks]
    with torch.inference_mode():
        outputs = [
            model(input_ids=torch.tensor([chunk]), attention_mask=mask)
            for chunk, mask in zip(chunks, masks, strict=True)
        ]
        return torch.cat([pooled(output, mask, pooling) for output, mask in zip(outputs, masks, strict=True)])


def encoded(backend, chunks, most=10_000):
    with torch.inference_mode():
        text = TextBatch.from_rows([[chunk] for chunk in chunks])
        return encode_ragged_rows(text, backend.encode, TokenBudget(10**6), most)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_what_transformers_computes_alone_and_in_a_batch(kind):
    lengths = LENGTHS if kind in UNPADDED else LENGTHS[1:]
    chunks = chunks_of(lengths)
    for pooling in poolings(kind):
        model = model_of(kind, pooling == "pooler")
        backend = tuned.build(model, "fp32", None, pooling)
        assert isinstance(backend.encode, PaddedEncoder) == (kind not in UNPADDED)
        want = own_vectors(model, chunks, pooling)
        assert torch.allclose(encoded(backend, chunks), want, rtol=1e-5, atol=1e-5)
        alone = torch.cat([encoded(backend, [chunk]) for chunk in chunks])
        assert torch.allclose(alone, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("kind", UNPADDED)
def test_lower_precisions(kind, precision):
    if not (Packed.runs(torch.bfloat16) if precision == "bf16" else Quantized.runs()):
        pytest.skip(f"this processor, or this PyTorch, has no products in {precision}")
    chunks = chunks_of([*range(40, 0, -3)])
    sample = TextBatch.from_rows([[chunk] for chunk in chunks])
    for pooling in poolings(kind):
        model = model_of(kind, pooling == "pooler")
        backend = tuned.build(model, precision, sample, pooling)
        if precision == "int8" and kind in ("mpnet", "modernbert"):
            assert backend is None
            continue
        got = encoded(backend, chunks)
        assert got.dtype == torch.float32
        assert (got - own_vectors(model, chunks, pooling)).abs().mean(1).max() < TOLERANCES[precision]


def test_the_families_without_padding_and_no_others():
    assert {kind for kind in TYPES if parts_of(model_of(kind, False))} == {*UNPADDED} - {"modernbert"}


def test_a_modernbert_with_scaled_positions_is_padded():
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 900.0}
    config = tiny("modernbert", rope_parameters={"full_attention": rope, "sliding_attention": rope})
    model, chunks = build_encoder(config, pooler=False).eval(), chunks_of([30, 4])
    backend = tuned.build(model, "fp32", None, "mean")
    assert isinstance(backend.encode, PaddedEncoder)
    assert torch.allclose(encoded(backend, chunks), own_vectors(model, chunks, "mean"), atol=1e-5)


def test_the_padded_encoder_shares_the_weights_that_are_no_products():
    model = model_of("albert", False)
    copied = PaddedEncoder(model, "mean")._model
    assert copied.embeddings.word_embeddings.weight is model.embeddings.word_embeddings.weight
    assert any(type(module) is torch.nn.Linear for module in model.modules())
