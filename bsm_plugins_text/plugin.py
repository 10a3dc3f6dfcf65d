"""Registers the text steps by name. Imports none of them."""

from __future__ import annotations

from bsm_core import hookimpl


@hookimpl
def bsm_steps() -> dict[str, str]:
    """The built-in text steps."""
    return {
        "cs_adapter": "bsm_plugins_text.cs_adapter:CSAdapterProcessor",
        "cs_chat_splitter": "bsm_plugins_text.cs_chat_splitter:CSChatSplitterProcessor",
        "dialogue_chunker": "bsm_plugins_text.dialogue_chunker:DialogueChunkerProcessor",
        "dialogue_splitter": "bsm_plugins_text.dialogue_splitter:DialogueSplitterProcessor",
        "emoji_remover": "bsm_plugins_text.emoji_remover:EmojiRemoverProcessor",
        "html_normalizer": "bsm_plugins_text.html_normalizer:HTMLNormalizerProcessor",
        "text_normalizer": "bsm_plugins_text.text_normalizer:TextNormalizationProcessor",
        "text_upper": "bsm_plugins_text.text_upper:TextUpperProcessor",
        "tokenizer": "bsm_plugins_text.tokenizer:BertTokenizeProcessor",
    }
