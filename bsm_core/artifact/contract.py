"""Names of components that bsm itself writes or assumes; whether a plugin provides them is found out when it is needed.

The default text steps are those of the inference contract, for a text field whose config lists none. The lists are
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

TRANSFORMERS_CLASSIFIER, TOKENIZING = "transformers_classifier", ("tokenizer",)
"""Model class and text steps of a sequence classifier that ``bsm import`` takes over: those of transformers alone."""
