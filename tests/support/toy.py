"""An artifact of the toy plugin in ``tests/toy_site``, and rows for it; needs no built-in plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bsm_core import ModelBase
from bsm_core.artifact import save_artifact
from bsm_core.plugins.registry import Registry

SITE = Path(__file__).parents[1] / "toy_site"
CONFIG: Mapping[str, Any] = {
    "model_class": "toy_model",
    "text_name": "chat",
    "text_processing_steps": ["toy_trap", "toy_tokens"],
    "tab_field_list": ["amount", "channel"],
    "cat_field_list": ["channel"],
    "is_binary": True,
    "max_sen_len": 8,
    "batch_size": 4,
}
RISK_TABLES = {"channel": {"bins": {"web": 0.5, "shop": -0.5}, "default_bin": 0.25}}
IMPUTE = {"amount": 2.0}


def write_toy_artifact(folder: Path, **config: Any) -> Path:
    """Write the artifact, with the same weights every time; needs :data:`SITE` on the path."""
    values = {**CONFIG, **config}
    registry = Registry.discover()
    torch.manual_seed(0)
    model_class = registry.load(registry.resolve("model_class", "toy_model"), ModelBase)
    model = model_class.from_config({**values, "num_classes": values.get("num_classes", 2)})
    return save_artifact(folder, config=values, state_dict=model.state_dict(), risk_tables=RISK_TABLES, impute=IMPUTE)


def toy_rows(count: int = 23) -> pd.DataFrame:
    """Rows with ids like ``007``, texts of one to three chunks, missing numbers and unseen categories."""
    return pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(count)],
            "chat": ["|".join(["hello", "is this on", f"n{i}"][: i % 3 + 1]) for i in range(count)],
            "amount": ["" if i % 5 == 0 else str(i / 4) for i in range(count)],
            "channel": [["web", "shop", "mail"][i % 3] for i in range(count)],
            "extra": ["never, read"] * count,
        }
    )
