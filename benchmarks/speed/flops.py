"""Floating-point operations of the matrix products in the layers of a BERT encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def encoder_flop(lengths: Iterable[int], encoder: Mapping[str, Any]) -> int:
    """Return the floating-point operations of encoding chunks without padding.

    A multiplication and an addition count as two operations.

    With ``h`` for ``hidden_size`` and ``i`` for ``intermediate_size``, a layer takes, for a chunk of ``n`` tokens,
    ``2·n·(4·h² + 2·h·i)`` in its linear layers and ``2·2·n²·h`` in attention: queries by keys, weights by values.
    Embeddings, norms, activations and heads are not counted: they have small matrix products or none.

    Args:
        lengths: Number of tokens of each chunk, special tokens included.
        encoder: Content of the encoder's ``config.json``; empty for a model without text.
    """
    return sum(encoder.get("num_hidden_layers", 0) * _layer_flop(n, n, encoder) for n in lengths)


def needed_flop(lengths: Iterable[int], encoder: Mapping[str, Any]) -> int:
    """Return the operations that the pooler output depends on: the last layer counts for one token of each chunk."""
    layers = encoder.get("num_hidden_layers", 0)
    return sum((layers - 1) * _layer_flop(n, n, encoder) + _layer_flop(n, 1, encoder) for n in lengths if layers)


def _layer_flop(tokens: int, wanted: int, encoder: Mapping[str, Any]) -> int:
    """Return the operations of a layer that reads some tokens and computes the states of some of them."""
    hidden, inner = encoder["hidden_size"], encoder["intermediate_size"]
    key_value, others = 2 * 2 * hidden**2, 2 * (2 * hidden**2 + 2 * hidden * inner)
    return tokens * key_value + wanted * (others + 4 * tokens * hidden)
