"""Default text steps of the inference contract, for a text field whose config lists none.

The steps are names of components: whether a plugin provides them is found out when a pipeline is built. The lists are
those of the training jobs that wrote artifacts before steps could be configured; docs/contract.md describes them.
"""

from __future__ import annotations

FULL_CLEANING = (
    "dialogue_splitter",
    "html_normalizer",
    "emoji_remover",
    "text_normalizer",
    "dialogue_chunker",
    "tokenizer",
)
"""Steps of the only text field, and of the primary one of two."""
MINIMAL_CLEANING = ("dialogue_splitter", "text_normalizer", "dialogue_chunker", "tokenizer")
"""Steps of the secondary text field, whose text comes in a cleaner form."""
