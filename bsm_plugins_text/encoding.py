"""Calling a tokenizer: what the steps that use one share."""

from __future__ import annotations

from typing import Any


def encode(tokenizer: Any, texts: list[str], **options: Any) -> Any:
    """What a Hugging Face fast tokenizer makes of some texts, at least one; without padding and masks.

    Raises:
        ValueError: A text is no Unicode text.
    """
    try:
        return tokenizer(texts, padding=False, return_attention_mask=False, return_token_type_ids=False, **options)
    except TypeError as error:  # so it says that a string cannot be UTF-8
        raise ValueError("half of a surrogate pair is no text") from error
