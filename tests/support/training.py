"""Small training jobs for the toy plugin in ``tests/toy_site``, without the built-in plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel

CONFIG: Mapping[str, Any] = {
    "model_class": "toy_model",
    "text_name": "chat",
    "text_processing_steps": ["toy_trap", "toy_tokens"],
    "tab_field_list": ["amount", "channel"],
    "cat_field_list": ["channel"],
    "label_name": "label",
    "max_sen_len": 8,
    "batch_size": 8,
    "lr": 0.05,
    "max_epochs": 3,
    "validation_fraction": 0.25,
    "baselines": False,
}
"""Job without a tokenizer, which takes a third of a second."""
BERT: Mapping[str, Any] = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}
ENCODING: Mapping[str, Any] = {
    "model_class": "toy_encoder",
    "text_name": "chat",
    "text_processing_steps": ["toy_clean", "toy_split", "toy_encode"],
    "text_encoder": dict(BERT),
    "label_name": "label",
    "max_sen_len": 8,
    "vocab_size": 60,
    "max_epochs": 1,
    "validation_fraction": 0.25,
    "baselines": False,
}
"""Job with a tokenizer and an encoder."""
PAIR: Mapping[str, Any] = {
    **{key: value for key, value in ENCODING.items() if not key.startswith("text_") or key == "text_encoder"},
    "model_class": "toy_pair",
    "primary_text_name": "title",
    "secondary_text_name": "chat",
    "primary_text_processing_steps": ["toy_encode"],
    "secondary_text_processing_steps": ["toy_clean", "toy_split", "toy_encode"],
}
"""Job with two text fields."""


def labelled_rows(count: int = 40) -> pd.DataFrame:
    """Return rows in which each text reveals the label. All values are text, as in a CSV file."""
    return pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(count)],
            "chat": [f"{'good|fine' if i % 3 else 'bad <b>thing</b>'} day|n{i % 7}" for i in range(count)],
            "title": ["nice one" if i % 3 else "poor" for i in range(count)],
            "amount": ["" if i % 5 == 0 else str(i / 4) for i in range(count)],
            "channel": [["web", "shop", "mail"][i % 3] for i in range(count)],
            "label": [str(int(i % 3 > 0)) for i in range(count)],
        }
    )


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save_encoder(folder: Path, seed: int = 1, **config: Any) -> PreTrainedModel:
    """Write the folder of a pretrained encoder, as transformers does, and return the encoder."""
    torch.manual_seed(seed)
    settings = CONFIG_MAPPING["bert"](**{**BERT, "vocab_size": 60, **config})
    encoder = AutoModel.from_config(settings)
    encoder.save_pretrained(folder)
    return encoder
