"""Artifacts in the form that training jobs write, small enough for tests."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

SENTENCES = ["hello world, good morning", "the order is late again", "thank you for the quick help", "a b c d e f g"]

CONFIG: Mapping[str, Any] = {
    "model_class": "bimodal_bert",
    "text_name": "dialogue",
    "tab_field_list": ["amount", "channel", "age"],
    "cat_field_list": ["channel"],
    "is_binary": True,
    "num_classes": 2,
    "max_sen_len": 16,
    "batch_size": 4,
    "tokenizer": "tokenizer",
}
ENCODER_CONFIG: Mapping[str, Any] = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "vocab_size": 64,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
RISK_TABLES: Mapping[str, Any] = {"channel": {"bins": {"online": 0.1, "retail": 0.3}, "default_bin": 0.2}}
IMPUTE: Mapping[str, Any] = {"amount": 1.5, "age": 40.0}


def state_dict() -> dict[str, Tensor]:
    """Two small layers, the same every time."""
    return {
        "encoder.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
        "head.bias": torch.tensor([0.5, -0.5]),
    }


def write_artifact(
    folder: Path,
    *,
    config: Mapping[str, Any] = CONFIG,
    hyperparameters: Mapping[str, Any] | None = None,
    weights: Any = None,
    model_artifacts: Mapping[str, Any] | None = None,
    risk_tables: Any = RISK_TABLES,
    impute: Any = IMPUTE,
    encoder_config: Mapping[str, Any] | None = ENCODER_CONFIG,
    with_tokenizer: bool = True,
) -> Path:
    """Write an artifact of the old form: pickles, ``model.pth``, a tokenizer and an encoder config.

    Args:
        folder: Where to; made if need be.
        config: The whole config, or ``CONFIG | {...}``.
        hyperparameters: What ``hyperparameters.json`` holds; the config where None.
        weights: What ``model.pth`` holds; :func:`state_dict` where None.
        model_artifacts: Further keys of ``model_artifacts.pth``; ``config`` may be replaced here as well.
        risk_tables: What ``risk_table_map.pkl`` holds.
        impute: What ``impute_dict.pkl`` holds.
        encoder_config: What ``text_encoder/config.json`` holds; no such file where None.
        with_tokenizer: Whether to write ``tokenizer/``.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hyperparameters = config if hyperparameters is None else hyperparameters
    (folder / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
    torch.save({"config": dict(config), "vocab": {}, **(model_artifacts or {})}, folder / "model_artifacts.pth")
    torch.save(state_dict() if weights is None else weights, folder / "model.pth")
    (folder / "risk_table_map.pkl").write_bytes(pickle.dumps(risk_tables))
    (folder / "impute_dict.pkl").write_bytes(pickle.dumps(impute))
    if with_tokenizer:
        write_tokenizer(folder / "tokenizer")
    if encoder_config is not None:
        (folder / "text_encoder").mkdir(exist_ok=True)
        (folder / "text_encoder" / "config.json").write_text(json.dumps(dict(encoder_config)))
    return folder


def write_tokenizer(folder: Path, sentences: list[str] | None = None) -> Path:
    """Train a WordPiece tokenizer on a few sentences and write it as transformers would."""
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=64, special_tokens=list(tokens.values()), show_progress=False)
    tokenizer.train_from_iterator(sentences or SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {**tokens, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
