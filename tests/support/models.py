"""Small configs, rows and checks that the tests of all model classes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from bsm_core import Batch, ModelBase, TextBatch
from bsm_core.errors import ConfigError
from bsm_plugins_models.encoders.bert import build_encoder

ENCODER: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 64,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
FEATURES = ["a", "b", "c"]
CONFIG: Mapping[str, Any] = {
    "text_name": "chat",
    "primary_text_name": "chat",
    "secondary_text_name": "notes",
    "tab_field_list": FEATURES,
    "hidden_common_dim": 8,
    "max_sen_len": 16,
    "batch_size": 4,
    "text_encoder": ENCODER,
    "embedding_shape": [64, 12],
    "num_layers": 2,
    "num_channels": [5, 6],
    "kernel_size": [2, 3],
}
"""Config keys of all model classes; each class ignores the keys of the others."""

M = TypeVar("M", bound=ModelBase)


def make(model_class: type[M], **values: Any) -> M:
    """Build a model in evaluation mode, with the same weights every time."""
    torch.manual_seed(0)
    return model_class.from_config({**CONFIG, **values}).eval()


def token_rows(rows: int, seed: int = 0) -> list[list[list[int]]]:
    """Return rows of one to three chunks of one to sixteen ids; the first rows are equal for every ``rows``."""
    generator = torch.Generator().manual_seed(seed)

    def below(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    return [[[1 + below(63) for _ in range(1 + below(16))] for _ in range(1 + below(3))] for _ in range(rows)]


def make_batch(rows: int, features: int = len(FEATURES), classes: int = 2, empty: tuple[int, ...] = ()) -> Batch:
    """Return random rows with the text fields ``"chat"`` and ``"notes"``; the ``empty`` rows have no chunk."""
    texts = {}
    for seed, column in enumerate(("chat", "notes")):
        tokens = [[] if i in empty else row for i, row in enumerate(token_rows(rows, seed))]
        texts[column] = TextBatch.from_rows(tokens)
    matrix = torch.randn(64, features, generator=torch.Generator().manual_seed(2))[:rows]
    return Batch(rows, texts, matrix, torch.arange(rows) % classes)


def shapes(model: ModelBase, *encoders: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's state by name, without its encoders, which must have the names of transformers."""
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    inner = {name: tuple(value.shape) for name, value in build_encoder(ENCODER).state_dict().items()}
    for prefix in encoders:
        assert {name: found.pop(prefix + name) for name in inner} == inner
    return found


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a Linear."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a LayerNorm."""
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def attention(name: str, size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a MultiheadAttention."""
    packed = {f"{name}.in_proj_weight": (3 * size, size), f"{name}.in_proj_bias": (3 * size,)}
    return packed | linear(f"{name}.out_proj", size, size)


LOSS = {"class_weights_tensor": (2,), "loss_op.weight": (2,)}
TAB = norm("tab_subnetwork.embedding_layer.0", 3) | linear("tab_subnetwork.embedding_layer.1", 3, 8)
TEXT = linear("text_subnetwork.head_layer.1", 12, 8)
"""Shapes of the weights that all models of :data:`CONFIG` have, those with features, and those with one BERT."""


def wrong_keys(model_class: type[ModelBase], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the message for each key of a config that is refused."""
    try:
        model_class.from_config(values)
    except ConfigError as error:
        pairs = (detail.partition(": ") for detail in error.details)
        return {key: said for key, _, said in pairs}
    raise AssertionError("the config was not refused")
