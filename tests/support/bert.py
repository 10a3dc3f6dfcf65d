"""Rows of token ids and a small BERT, for tests of the model classes."""

from __future__ import annotations

from typing import Any

import torch

from bsm_core import Batch, TextBatch

ENCODER: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}


def token_rows(rows: int, seed: int = 0) -> list[list[list[int]]]:
    """Rows of one to three chunks of one to eight ids."""
    generator = torch.Generator().manual_seed(seed)

    def below(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    return [[[1 + below(49) for _ in range(1 + below(8))] for _ in range(1 + below(3))] for _ in range(rows)]


def make_batch(rows: int, features: int = 0, columns: tuple[str, ...] = ("chat",), seed: int = 0) -> Batch:
    """A batch of random rows; the first rows are the same for every ``rows``."""
    texts = {column: TextBatch.from_rows(token_rows(rows, seed + i)) for i, column in enumerate(columns)}
    matrix = torch.randn(64, features, generator=torch.Generator().manual_seed(seed))[:rows]
    return Batch(rows, texts, matrix, torch.arange(rows) % 2)
