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
    return sum(encoder.get("num_hidden_layers", 0) * _layer_flop(n, n, encoder) for n in lengths)


def needed_flop(lengths: Iterable[int], encoder: Mapping[str, Any]) -> int:
    """As :func:`encoder_flop`, of what the pooler's output depends on: the last layer is needed for one token alone."""
    layers = encoder.get("num_hidden_layers", 0)
    return sum((layers - 1) * _layer_flop(n, n, encoder) + _layer_flop(n, 1, encoder) for n in lengths if layers)


def _layer_flop(tokens: int, wanted: int, encoder: Mapping[str, Any]) -> int:
    """Of a layer that reads some tokens, and gives some of them."""
    hidden, inner = encoder["hidden_size"], encoder["intermediate_size"]
    key_value, others = 2 * 2 * hidden**2, 2 * (2 * hidden**2 + 2 * hidden * inner)
    return tokens * key_value + wanted * (others + 4 * tokens * hidden)
