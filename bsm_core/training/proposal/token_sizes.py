"""Number of tokens of the texts of a table, from which a proposal takes the sizes of chunks and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bsm_core.artifact.pretrained_files import TOKENIZER, load_encoder_config
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.training.config.pretrained_folders import pretrained_folder
from bsm_core.training.wordpiece import fit_wordpiece

_TEXTS, _CHARACTERS = 2_000, 20_000
"""Number of texts that are tokenized, and of characters of each."""
_LONGEST_NEW, _LONGEST, _STEP, _SPECIAL, _CHUNKS = 128, 512, 16, 2, 5
"""Longest chunk of a new encoder and of any, step of the lengths, special tokens of a chunk, and most chunks."""
_SMALL_VOCAB, _VOCAB, _MANY_ROWS = 4_000, 8_000, 10_000


class TokenSizes(NamedTuple):
    """Config keys about tokens.

    Attributes:
        max_sen_len: Longest chunk, with special tokens.
        max_total_chunks: Number of chunks of a text.
        vocab_size: Size of a fitted vocabulary; None for a given tokenizer.
        tokens: Number of tokens that 95 % of the texts do not exceed.
    """

    max_sen_len: int
    max_total_chunks: int
    vocab_size: int | None
    tokens: int


def token_sizes(texts: Sequence[Sequence[str]], rows: int, pretrained: Path | None) -> TokenSizes:
    """Return sizes that hold almost all texts whole.

    Args:
        texts: Sampled texts of each text field.
        rows: Number of rows of the table.
        pretrained: Folder of a pretrained encoder and its tokenizer; None for new ones.
    """
    shown = [[text[:_CHARACTERS] for text in field[:_TEXTS]] for field in texts]
    longest, vocab = _LONGEST_NEW, None
    if pretrained is None:
        vocab = _VOCAB if rows >= _MANY_ROWS else _SMALL_VOCAB
        every = [text for field in shown for text in field]
        tokenizer = fit_wordpiece(every, vocab_size=vocab, min_frequency=2, max_length=_LONGEST)
    else:
        tokenizer = load_tokenizer(pretrained)
        positions = load_encoder_config(pretrained).get("max_position_embeddings")
        given = positions if isinstance(positions, int) else _LONGEST
        longest = min(_LONGEST, given, tokenizer.model_max_length)
    tokenizer.model_max_length = _CHARACTERS  # so that long texts are no reason for a warning
    counts = [len(ids) for field in shown if field for ids in tokenizer(field, add_special_tokens=False)["input_ids"]]
    tokens = int(np.quantile(counts, 0.95)) if counts else 0
    whole = -(-(tokens + _SPECIAL) // _STEP) * _STEP
    chunks = min(_CHUNKS, -(-whole // longest))
    return TokenSizes(min(longest, whole), chunks, vocab, tokens)


def folder_of(name: str) -> Path | None:
    """Return the folder of a pretrained tokenizer, see :func:`pretrained_folder`."""
    return pretrained_folder(TOKENIZER, name)
