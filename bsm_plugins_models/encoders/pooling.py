"""Pooling of the vectors of a chunk's tokens to one vector, as the encoder was trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, ValidationInfo
from torch import Tensor

Pooling: TypeAlias = Literal["pooler", "cls", "mean"]
"""``pooler``: output of the encoder's pooler; ``cls``: vector of the first token; ``mean``: mean over the tokens."""

WITHOUT_POOLER = (
    *("bert-generation", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "esmc", "eurobert", "flaubert"),
    *("gte", "modernbert", "nomic_bert", "nystromformer", "openai_privacy_filter", "roformer", "splinter"),
    *("ultrabert", "xlm", "xlnet"),
)
"""Types of encoders that transformers builds without a pooler."""


def default_pooling(model_type: str) -> Pooling:
    """Return ``"pooler"`` if this type of encoder has a pooler, otherwise ``"cls"``."""
    return "cls" if model_type in WITHOUT_POOLER else "pooler"


def _possible(pooling: Pooling | None, info: ValidationInfo) -> Pooling:
    encoder: dict[str, Any] = info.data.get(str(info.field_name).replace("pooling", "text_encoder"), {})
    kind = encoder.get("model_type", "bert")
    if pooling == "pooler" and kind in WITHOUT_POOLER:
        raise ValueError(f'an encoder of type {kind!r} has no pooler; write "cls" or "mean"')
    return pooling or default_pooling(kind)


def _needs_pooler(reinit: bool, info: ValidationInfo) -> bool:
    pooling = info.data.get(str(info.field_name).replace("reinit_pooler", "pooling"), "pooler")
    if reinit and pooling != "pooler":
        raise ValueError(f"with pooling {pooling!r} there is no pooler; set this key to false")
    return reinit


EncoderPooling = Annotated[Pooling | None, AfterValidator(_possible)]
"""Pooling that the encoder has; that of :func:`default_pooling` if the config names none."""

ReinitPooler = Annotated[bool, AfterValidator(_needs_pooler)]
"""Whether training starts with a new pooler; only with the pooling ``pooler``."""


def pooled(output: Any, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector for each chunk, float ``[chunks, hidden size]``; means are float32.

    Args:
        output: What a transformers model returns for padded chunks.
        attention_mask: 1 for a token, special tokens included, 0 for padding; int64 ``[chunks, length]``.
        pooling: How to pool.
    """
    if pooling == "pooler":
        vectors: Tensor = output.pooler_output
        return vectors
    hidden: Tensor = output.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask[..., None].to(hidden.device)
    return (hidden.float() * mask).sum(1) / mask.sum(1)
