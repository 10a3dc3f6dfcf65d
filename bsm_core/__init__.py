"""Batch inference for PyTorch Lightning classifiers on text and tabular data.

The public names load on first use, so that ``import bsm_core`` imports neither torch nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsm_core.runtime.lazy import lazy_names
from bsm_core.runtime.versions import __version__

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact as Artifact
    from bsm_core.artifact.config import ArtifactConfig as ArtifactConfig
    from bsm_core.errors import ConfigError as ConfigError
    from bsm_core.evaluation import Evaluation as Evaluation
    from bsm_core.evaluation import evaluate as evaluate
    from bsm_core.models.base import ModelBase as ModelBase
    from bsm_core.models.batch import Batch as Batch
    from bsm_core.models.batch import TextBatch as TextBatch
    from bsm_core.models.encoder import Backend as Backend
    from bsm_core.models.encoder import BuildBackend as BuildBackend
    from bsm_core.models.encoder import Encoder as Encoder
    from bsm_core.models.micro_batches import TokenBudget as TokenBudget
    from bsm_core.models.micro_batches import encode_rows as encode_rows
    from bsm_core.models.model_config import ModelConfig as ModelConfig
    from bsm_core.plugins.hookspecs import Removed as Removed
    from bsm_core.plugins.hookspecs import hookimpl as hookimpl
    from bsm_core.plugins.registry import Registry as Registry
    from bsm_core.predictor.predictor import Predictor as Predictor
    from bsm_core.preprocess.dataset import BSMDataset as BSMDataset
    from bsm_core.preprocess.findings import Issue as Issue
    from bsm_core.preprocess.pipeline import Pipeline as Pipeline
    from bsm_core.preprocess.steps import Kind as Kind
    from bsm_core.preprocess.steps import TextStep as TextStep
    from bsm_core.preprocess.tracing.traced_chunks import TracedChunk as TracedChunk
    from bsm_core.preprocess.tracing.traced_chunks import TracedTokens as TracedTokens
    from bsm_core.preprocess.tracing.traced_patterns import find_all as find_all
    from bsm_core.preprocess.tracing.traced_patterns import split_at as split_at
    from bsm_core.preprocess.tracing.traced_patterns import substitute as substitute
    from bsm_core.preprocess.tracing.traced_text import TracedText as TracedText
    from bsm_core.preprocess.tracing.traced_text import added_text as added_text
    from bsm_core.scoring.engines.finish import RunResult as RunResult
    from bsm_core.scoring.run_function import run as run
    from bsm_core.scoring.settings import Settings as Settings
    from bsm_core.training import Trained as Trained
    from bsm_core.training import import_model as import_model
    from bsm_core.training import train as train

_NAMES = {
    "artifact": ("Artifact",),
    "artifact.config": ("ArtifactConfig",),
    "errors": ("ConfigError",),
    "evaluation": ("Evaluation", "evaluate"),
    "models.base": ("ModelBase",),
    "models.batch": ("Batch", "TextBatch"),
    "models.encoder": ("Backend", "BuildBackend", "Encoder"),
    "models.micro_batches": ("TokenBudget", "encode_rows"),
    "models.model_config": ("ModelConfig",),
    "plugins.hookspecs": ("Removed", "hookimpl"),
    "plugins.registry": ("Registry",),
    "predictor.predictor": ("Predictor",),
    "preprocess.dataset": ("BSMDataset",),
    "preprocess.findings": ("Issue",),
    "preprocess.pipeline": ("Pipeline",),
    "preprocess.steps": ("Kind", "TextStep"),
    "preprocess.tracing.traced_chunks": ("TracedChunk", "TracedTokens"),
    "preprocess.tracing.traced_patterns": ("find_all", "split_at", "substitute"),
    "preprocess.tracing.traced_text": ("TracedText", "added_text"),
    "scoring.engines.finish": ("RunResult",),
    "scoring.run_function": ("run",),
    "scoring.settings": ("Settings",),
    "training": ("Trained", "import_model", "train"),
}
__all__ = ["__version__", *sorted(name for names in _NAMES.values() for name in names)]


__getattr__ = lazy_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
