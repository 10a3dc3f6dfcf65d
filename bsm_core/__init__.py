"""Batch inference for PyTorch Lightning classifiers on text and tabular data.

The public names load on first use, so that ``import bsm_core`` imports neither torch nor pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact as Artifact
    from bsm_core.batch import Batch as Batch
    from bsm_core.batch import TextBatch as TextBatch
    from bsm_core.batch import TokenBudget as TokenBudget
    from bsm_core.batch import encode_rows as encode_rows
    from bsm_core.config import ArtifactConfig as ArtifactConfig
    from bsm_core.dataset import BSMDataset as BSMDataset
    from bsm_core.encoder import Backend as Backend
    from bsm_core.encoder import BuildBackend as BuildBackend
    from bsm_core.encoder import Encoder as Encoder
    from bsm_core.errors import ConfigError as ConfigError
    from bsm_core.hookspecs import Removed as Removed
    from bsm_core.hookspecs import hookimpl as hookimpl
    from bsm_core.model import ModelBase as ModelBase
    from bsm_core.model import ModelConfig as ModelConfig
    from bsm_core.predictor import Predictor as Predictor
    from bsm_core.registry import Registry as Registry
    from bsm_core.settings import Settings as Settings
    from bsm_core.steps import Kind as Kind
    from bsm_core.steps import Pipeline as Pipeline
    from bsm_core.steps import TextStep as TextStep
    from bsm_core.training import Trained as Trained
    from bsm_core.training import train as train

_HOMES = {
    "Artifact": "artifact",
    "ArtifactConfig": "config",
    "BSMDataset": "dataset",
    "Backend": "encoder",
    "Batch": "batch",
    "BuildBackend": "encoder",
    "ConfigError": "errors",
    "Encoder": "encoder",
    "Kind": "steps",
    "ModelBase": "model",
    "ModelConfig": "model",
    "Pipeline": "steps",
    "Predictor": "predictor",
    "Registry": "registry",
    "Removed": "hookspecs",
    "Settings": "settings",
    "TextBatch": "batch",
    "TextStep": "steps",
    "TokenBudget": "batch",
    "Trained": "training",
    "encode_rows": "batch",
    "hookimpl": "hookspecs",
    "train": "training",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bsm_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bsm_core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
