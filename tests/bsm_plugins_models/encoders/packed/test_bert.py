from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import ENCODER, make, make_batch
from transformers import AutoConfig, AutoModel

from bsm_core import TextBatch
from bsm_core.backends import choose
from bsm_core.backends.choose import choose_backends
from bsm_core.models.micro_batches import TokenBudget, encode_ragged_rows
from bsm_plugins_models.encoders.bert import build_encoder
from bsm_plugins_models.encoders.packed import attention, tuned
from bsm_plugins_models.encoders.packed.bert import PackedBert
from bsm_plugins_models.encoders.packed.families import parts_of
from bsm_plugins_models.encoders.packed.int8 import Quantized
from bsm_plugins_models.encoders.packed.linear import Cast, Packed
from bsm_plugins_models.encoders.packed.products import in_dtype
from bsm_plugins_models.text import Bert

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
TOLERANCES = {"fp32": 1e-6, "bf16": 0.03, "int8": 0.1}
"""Of the mean difference: the model is 12 wide, and averages nothing out."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_encoder(ENCODER).eval()


def chunks_of(lengths):
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(1, ENCODER["vocab_size"], (n,), generator=generator).tolist() for n in lengths]


SAMPLE = TextBatch.from_rows([[chunk] for chunk in chunks_of([*range(16, 0, -1)] * 4)])


def runs(precision):
    """Whether this processor, and this PyTorch, have the products of a precision."""
    packed = Packed.runs(torch.bfloat16 if precision == "bf16" else torch.float32)
    return packed and (precision != "int8" or Quantized.runs())


def where_it_runs(*values):
    """Skip the case of a precision that this processor does not have; fp32 is never skipped."""
    reason = f"this processor, or this PyTorch, has no products in {values[0]}"
    return pytest.param(*values, marks=pytest.mark.skipif(values[0] != "fp32" and not runs(values[0]), reason=reason))


def encoded(model, precision, chunks, most=64):
    backend = tuned.build(model, precision, SAMPLE)
    assert (backend.name, backend.precision) == ("tuned", precision)
    with torch.inference_mode():
        return encode_ragged_rows(TextBatch.from_rows([[c] for c in chunks]), backend.encode, TokenBudget(10**6), most)


def eager(model, chunks):
    with torch.inference_mode():
        return torch.cat([model(input_ids=torch.tensor([chunk])).pooler_output for chunk in chunks])


@pytest.mark.parametrize("precision", [where_it_runs(precision) for precision in TOLERANCES])
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=12), most=st.integers(1, 60))
@settings(max_examples=15)
def test_it_gives_what_the_model_gives_whatever_is_encoded_at_once(model, precision, lengths, most):
    chunks = chunks_of(lengths)
    got = encoded(model, precision, chunks, most)
    assert got.dtype == torch.float32
    assert (got - eager(model, chunks)).abs().mean() < TOLERANCES[precision]


@pytest.mark.parametrize(
    ("precision", "tolerance"), [where_it_runs("fp32", 1e-6), where_it_runs("bf16", 1e-2), where_it_runs("int8", 1e-2)]
)
def test_a_chunk_does_not_depend_on_its_neighbours(model, precision, tolerance):
    chunks = chunks_of([16, 13, 13, 5, 1])
    alone = torch.cat([encoded(model, precision, [chunk]) for chunk in chunks])
    assert torch.allclose(encoded(model, precision, chunks), alone, atol=tolerance)


def test_an_encoder_of_a_single_layer():
    torch.manual_seed(1)
    model, chunks = build_encoder({**ENCODER, "num_hidden_layers": 1}).eval(), chunks_of([9, 4, 4])
    assert (encoded(model, "fp32", chunks) - eager(model, chunks)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert"])
def test_positions_that_begin_behind_the_padding_token(kind):
    torch.manual_seed(2)
    sizes = {key: ENCODER[key] for key in _SIZES}
    config = AutoConfig.for_model(kind, max_position_embeddings=20, pad_token_id=3, **sizes)
    model = AutoModel.from_config(config).eval()
    chunks = [[5, 6, 7, 8, 9, 10], [4, 3, 3, 4], [3, 9]]  # a padding token in a text has no position
    assert (encoded(model, "fp32", chunks, most=12) - eager(model, chunks)).abs().max() < 1e-6


def test_no_chunk_at_all(model):
    assert encoded(model, "fp32", []).shape == (0, ENCODER["hidden_size"])


def test_other_models_precisions_and_samples_have_no_such_back_end(model):
    assert tuned.build(model, "fp16", SAMPLE) is None
    assert tuned.build(model, "int8", None) is None
    for other in ({"hidden_act": "gelu_new"}, {"num_hidden_layers": 0}, {"model_type": "albert"}):
        padded = build_encoder({**ENCODER, **other})
        assert parts_of(padded) is None
        assert [tuned.build(padded, precision, SAMPLE) for precision in ("bf16", "int8")] == [None, None]
    assert tuned.build(build_encoder(ENCODER).bfloat16(), "fp32", None) is None


@pytest.mark.parametrize(("missing", "precisions"), [(Packed, ["fp32", "bf16", "int8"]), (Quantized, ["int8"])])
def test_a_machine_without_the_operators_has_no_such_back_end(model, monkeypatch, missing, precisions):
    here = [precision for precision in TOLERANCES if runs(precision)]
    monkeypatch.setattr(missing, "runs", lambda *dtype: False)
    built = [precision for precision in TOLERANCES if tuned.build(model, precision, SAMPLE)]
    assert built == [precision for precision in here if precision not in precisions]


class NoOperators:
    """A namespace of operators of a PyTorch that no longer has them."""

    def __getattr__(self, name):
        raise AttributeError(f"'_OpNamespace' object has no attribute {name!r}")


class OtherSignature(NoOperators):
    """One whose operators take other arguments."""

    def _reorder_linear_weight(self, weight):
        raise NotImplementedError


@pytest.mark.parametrize("namespace", [NoOperators(), OtherSignature()], ids=["gone", "another signature"])
def test_without_the_private_operators_a_model_scores_the_same(monkeypatch, tmp_path, request, namespace):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    classifier = make(Bert)
    batch = make_batch(9)
    monkeypatch.setattr(choose, "_fastest", lambda name, encoder, eager, backends, earlier: backends[0])
    assert choose_backends(classifier).backends == {"bert": "tuned"}
    with torch.inference_mode():
        tuned = classifier.predict_step(batch)
    monkeypatch.setattr(torch.ops, "mkldnn", namespace)
    Packed.runs.cache_clear()
    request.addfinalizer(Packed.runs.cache_clear)
    assert choose_backends(classifier).backends == {"bert": "eager"}
    with torch.inference_mode():
        assert torch.allclose(classifier.predict_step(batch), tuned, atol=1e-6)


@torch.inference_mode()
def test_streams_give_the_same_again_and_again():
    """Wide enough for the kernels of real models; each micro-batch on one of two threads."""
    torch.manual_seed(3)
    wide = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 512, "max_position_embeddings": 64}
    model = build_encoder({**ENCODER, **wide, "initializer_range": 0.02}).eval()
    chunks = [torch.randint(1, 60, (n,)).tolist() for n in range(4, 64)]
    text, backend = TextBatch.from_rows([[chunk] for chunk in chunks]), tuned.build(model, "fp32", None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        got = [encode_ragged_rows(text, backend.encode, TokenBudget(10**6), 256, 2) for _ in range(5)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(again, got[0]) for again in got)
    assert (got[0] - eager(model, chunks)).abs().max() < 1e-5


def test_the_layers_of_a_gpu_give_the_same(model):
    """On the CPU, with the CPU's attention: the kernel has a test of its own."""
    on_gpu = PackedBert(model, parts_of(model), in_dtype(Cast, torch.bfloat16), attention.ByLength)
    chunks = chunks_of([11, 6, 2])
    batch = TextBatch.from_rows([[chunk] for chunk in chunks])
    with torch.inference_mode():
        got = on_gpu(batch.tokens, batch.chunk_offsets.diff())
    assert (got - eager(model, chunks)).abs().mean() < TOLERANCES["bf16"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_on_a_gpu(precision):
    torch.manual_seed(0)
    model = build_encoder({**ENCODER, "hidden_size": 24}).eval()  # heads of a size that the kernel takes
    chunks = chunks_of([11, 6, 2])
    want = eager(model, chunks)
    backend = tuned.build(model.cuda(), precision, None)
    batch = TextBatch.from_rows([[chunk] for chunk in chunks]).to("cuda")
    with torch.inference_mode():
        got = backend.encode(batch.tokens, batch.chunk_offsets.diff())
    assert (got.cpu() - want).abs().mean() < TOLERANCES["bf16"]
