"""Backend ``tuned``: encoders of transformers without padding, or, of other families, with packed products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from bsm_core import Backend, TextBatch
from bsm_plugins_models.encoders.packed.attention import ByLength, Ragged
from bsm_plugins_models.encoders.packed.bert import PackedBert, int8_products
from bsm_plugins_models.encoders.packed.families import BertParts, parts_of
from bsm_plugins_models.encoders.packed.float32 import by_onednn
from bsm_plugins_models.encoders.packed.int8 import Quantized
from bsm_plugins_models.encoders.packed.linear import Cast, Packed
from bsm_plugins_models.encoders.packed.modernbert import PackedModernBert, is_plain_modernbert
from bsm_plugins_models.encoders.packed.padded import PaddedEncoder
from bsm_plugins_models.encoders.packed.products import in_dtype
from bsm_plugins_models.encoders.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tuned"
TOKENS = 2048
"""Tokens at once on the CPU; more tokens do not fit into the processor's cache."""
_TOKEN_MULTIPLE, _CHUNK_MULTIPLE = 32, 8
"""Numbers of which the tokens and the chunks of a micro-batch are multiples."""
_ON_CPU = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ON_GPU = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtypes that the attention kernel for sequences of different lengths supports."""
_Encode = Callable[[Tensor, Tensor], Tensor]


def build(
    bert: PreTrainedModel, precision: str, sample: TextBatch | None, pooling: Pooling = "pooler"
) -> Backend | None:
    """Build the backend ``"tuned"`` of a transformers model.

    Args:
        bert: The model, on its device.
        precision: On the CPU fp32; bf16 for a family that is computed without padding, int8 for one whose layers are
            those of BERT and which has no relative positions. On a GPU bf16 or fp16, for the latter families.
        sample: Chunks to calibrate int8 with.
        pooling: How the tokens of a chunk are pooled.

    Returns:
        The backend; None if it does not support the model, the device, this version of PyTorch, or the precision, or
        for int8 without a sample.
    """
    parts = parts_of(bert)
    if bert.device.type == "cuda" and precision in _ON_GPU:
        encode = _on_gpu(bert, parts, _ON_GPU[precision], pooling)
        return encode and Backend(NAME, precision, encode)
    if bert.device.type != "cpu" or not Packed.runs(_ON_CPU.get(precision, torch.float32)):
        return None
    encode = _on_cpu(bert, parts, precision, sample, pooling)
    if encode is None:
        return None
    return Backend(NAME, precision, encode, TOKENS, in_streams=True, alone=True)  # by_onednn changes the process


def _on_gpu(bert: PreTrainedModel, parts: BertParts | None, dtype: torch.dtype, pooling: Pooling) -> _Encode | None:
    if parts is None or parts.relative is not None:
        return None
    if not Ragged.runs(bert.config.hidden_size, parts.heads, dtype, bert.device):
        return None
    return PackedBert(bert, parts, in_dtype(Cast, dtype), Ragged, pooling)


def _on_cpu(
    bert: PreTrainedModel, parts: BertParts | None, precision: str, sample: TextBatch | None, pooling: Pooling
) -> _Encode | None:
    if precision == "int8":
        if parts is None or parts.relative is not None or sample is None or not sample.distinct or not Quantized.runs():
            return None
        products = int8_products(bert, parts, sample, pooling)
        return _in_few_shapes(PackedBert(bert, parts, products, ByLength, pooling), parts.longest)
    if precision not in _ON_CPU:
        return None
    products = in_dtype(Packed, _ON_CPU[precision])
    if parts is not None:
        return _in_few_shapes(PackedBert(bert, parts, products, ByLength, pooling), parts.longest)
    if is_plain_modernbert(bert):
        return _in_few_shapes(PackedModernBert(bert, products, pooling), _TOKEN_MULTIPLE)
    return PaddedEncoder(bert, pooling) if precision == "fp32" and bert.dtype == torch.float32 else None


def _in_few_shapes(encode: _Encode, longest: int) -> _Encode:
    """Append chunks of padding, so that the numbers of tokens and chunks are multiples.

    oneDNN compiles a kernel for each shape, which takes as long as a few runs of it, and keeps at most a thousand.

    Args:
        encode: Encodes chunks.
        longest: Largest number of tokens of a chunk of padding.
    """
    multiple = min(_TOKEN_MULTIPLE, longest)

    def encode_in_few_shapes(tokens: Tensor, lengths: Tensor) -> Tensor:
        single = -(len(lengths) + 1) % _CHUNK_MULTIPLE
        last = 1 + -(len(tokens) + single + 1) % multiple
        padding = torch.tensor([1] * single + [last])
        with by_onednn():  # around the whole call, so that no other thread changes the setting halfway
            return encode(functional.pad(tokens, (0, single + last)), torch.cat([lengths, padding]))[: len(lengths)]

    return encode_in_few_shapes
