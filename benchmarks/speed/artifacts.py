"""Artifacts of the benchmark, written as a training job writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from data import FEATURES, ID, NUMBERS, TEXT
from minilm import minilm
from transformers import AutoModel, AutoTokenizer

from bsm_core import ModelBase, Predictor
from bsm_core.artifact import pack, save_artifact
from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.self_check import add_check

Config = dict[str, Any]
EXAMPLE = Path(__file__).parents[2] / "examples/reviews/model.tar.gz"
STEPS = [
    "html_normalizer",
    "emoji_remover",
    "text_normalizer",
    {"name": "dialogue_chunker", "chunk_trancate": True},
    "tokenizer",
]
ROWS_SPREAD = 64
"""Number of rows on which the log odds of a new model are scaled."""
BERT_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


@dataclass(frozen=True)
class Model:
    """Model of the benchmark.

    Attributes:
        about: Description in the results, one line.
        scale: Number of rows of a data set, as a multiple of those of MiniLM-L6.
        kind: Kind of data set that the model reads.
    """

    about: str
    scale: float
    kind: str = "text"


MODELS = {
    "minilm": Model("bimodal_bert on MiniLM-L6, 6 layers of 384", 1),
    "bert-base": Model("bimodal_bert on a BERT-base of random weights, 12 layers of 768", 1 / 8),
    "tiny": Model("the example's bimodal_bert, 2 layers of 64", 2),
    "tabular": Model("tabular on ten features", 1, "tabular"),
}


def word_pieces() -> Any:
    """Return the tokenizer of MiniLM, which is that of BERT."""
    return AutoTokenizer.from_pretrained(minilm(), model_max_length=512)


def write_artifact(name: str, folder: Path, check_rows: pd.DataFrame) -> Path:
    """Write the artifact of a model.

    Args:
        name: The model.
        folder: Folder to write; it must not exist.
        check_rows: Rows with the columns that the model reads; the first ones are stored as check rows.

    Returns:
        The folder.
    """
    torch.manual_seed(0)
    if name == "tiny":
        return pack(EXAMPLE, folder)
    config, encoder = _tabular() if name == "tabular" else _bimodal(), {}
    if name != "tabular":
        pretrained = AutoModel.from_pretrained(minilm())
        encoder = pretrained.config.to_dict() | (BERT_BASE if name == "bert-base" else {})
    model = _built(config, encoder)
    if name == "minilm":
        model.load_pretrained("text_encoder", pretrained.state_dict())
    _save(folder, config, encoder, model)
    spread(model, Predictor.from_artifact(folder), check_rows.head(ROWS_SPREAD))
    _save(folder, config, encoder, model)
    add_check(folder, check_rows)
    return folder


def _tabular() -> Config:
    return {"model_class": "tabular", "tab_field_list": list(FEATURES), "hidden_common_dim": 64, "id_name": ID}


def _bimodal() -> Config:
    text = {"text_name": TEXT, "text_processing_steps": STEPS, "max_sen_len": 512, "tokenizer": "tokenizer"}
    features = {"tab_field_list": list(NUMBERS), "hidden_common_dim": 64, "id_name": ID}
    return {"model_class": "bimodal_bert", **text, **features}


def _built(config: Config, encoder: Config) -> ModelBase:
    registry = default_registry()
    model_class = registry.load(registry.resolve("model_class", config["model_class"]), ModelBase)
    return model_class.from_config(config | ({"text_encoder": encoder} if encoder else {})).eval()


def _save(folder: Path, config: Config, encoder: Config, model: ModelBase) -> None:
    save_artifact(
        folder,
        config=config,
        state_dict=model.state_dict(),
        risk_tables={},
        impute=dict.fromkeys(config["tab_field_list"], 0.0),
        tokenizers={"": word_pieces()} if encoder else {},
        encoder_configs={"": encoder} if encoder else {},
        safe_only=True,
    )


@torch.no_grad()
def spread(model: ModelBase, predictor: Predictor, rows: pd.DataFrame) -> None:
    """Scale the last layer, so that the log odds of these rows have mean 0 and standard deviation 0.5.

    With a new head all rows have about the same score, which would hide differences between the systems.

    Args:
        model: The model, with two classes and ``final_merge_network``; its last layer is changed.
        predictor: Predictor with the same weights.
        rows: Rows with the columns that the model reads.
    """
    probabilities = torch.tensor(predictor.predict(rows)["prob_class_1"].to_numpy())
    odds, last = probabilities.logit(), model.final_merge_network[-1]
    last.bias -= odds.mean() * torch.tensor([0.0, 1.0])
    for parameter in (last.weight, last.bias):
        parameter /= 2 * odds.std()
