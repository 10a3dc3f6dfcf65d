"""How much work the rows are: the matrix products of a BERT encoder's layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def encoder_flop(lengths: Iterable[int], encoder: Mapping[str, Any]) -> int:
    """Floating-point operations of encoding chunks without padding, a multiplication and an addition being two.

    With ``h`` for ``hidden_size`` and ``i`` for ``intermediate_size``, a layer takes, for a chunk of ``n`` tokens,
    ``2·n·(4·h² + 2·h·i)`` in its linear layers and ``2·2·n²·h`` in attention: queries by keys, weights by values.
    Embeddings, norms, activations and heads do not count; they are no matrix products, or small ones.

    Args:
        lengths: Tokens of each chunk, special tokens included.
        encoder: The encoder's ``config.json``; empty where there is none, and nothing to encode.
    """
    if not encoder:
        return 0
    hidden, inner, layers = (encoder[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    linear, attention = 2 * (4 * hidden**2 + 2 * hidden * inner), 4 * hidden
    return sum(layers * (n * linear + n**2 * attention) for n in lengths)
