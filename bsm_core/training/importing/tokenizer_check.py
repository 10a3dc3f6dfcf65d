"""Checking the tokenizer of a model that is imported."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bsm_core.artifact.files import corrupt
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("bsm")


def check_vocabulary(folder: Path, vocabulary: int | None) -> PreTrainedTokenizerBase:
    """Load a tokenizer, and compare its tokens with those of the encoder.

    Args:
        folder: Folder of the tokenizer.
        vocabulary: Number of token ids that the encoder takes; None if it is not known.

    Raises:
        CorruptArtifactError: The vocabulary of the tokenizer is larger. Tokens that were added later are a warning.
        TokenizerError, UnsafeArtifactError: The tokenizer cannot be used.
    """
    tokenizer = load_tokenizer(folder, warn=lambda line: None)  # which the artifact warns of, too
    if vocabulary is None or len(tokenizer) <= vocabulary:
        return tokenizer
    if tokenizer.vocab_size > vocabulary:
        raise corrupt(
            f"the tokenizer in {folder}",
            f"has {tokenizer.vocab_size:,} tokens, the encoder has {vocabulary:,}",
            "give the tokenizer with which this model was trained",
        )
    told = (
        "the tokenizer has %d added tokens for which the encoder has no vectors; a text with one of them is not scored"
    )
    log.warning(told, len(tokenizer) - vocabulary)
    return tokenizer
