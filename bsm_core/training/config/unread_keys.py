"""Keys of a training config that nothing reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from pydantic import AliasChoices, BaseModel

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.errors import nearest
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.pipeline import params_used
from bsm_core.scoring.settings import sources
from bsm_core.training.config.training_config import ENCODERS, OWN_FILES, TOKENIZERS, TrainingConfig
from bsm_core.training.features.feature_keys import FeatureKeys


class _Job(Protocol):
    """Members of :class:`~bsm_core.training.config.training_job.TrainingJob` that say what it reads."""

    values: dict[str, Any]
    artifact: ArtifactConfig
    names: ResolvedNames
    model_class: type[ModelBase]
    registry: Registry

    def reads(self, key: str) -> bool: ...

    def own_or_shared(self, key: str) -> str: ...

    def tokenizer_keys(self) -> Mapping[str, Any]: ...


def unread_keys(job: _Job, columns: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each key that nothing reads, and why.

    Args:
        job: The job.
        columns: Keys of columns that the model class does not read.
    """
    without = dict.fromkeys(columns, f"model class {job.artifact.model_class!r} does not read it") | dict(_useless(job))
    models = (ArtifactConfig, TrainingConfig, job.model_class.Config)
    known = {key for model in models for key in keys_of(model) if not key.endswith("text_processing_steps")}
    known |= {*sources(), *OWN_FILES, "id_name", "id2label"}
    for text in job.artifact.text_fields:
        known |= {text.steps_key, *params_used(job.names.steps(text), job.registry)}
    for key in sorted({*job.values, *columns}):
        if key in without:
            yield key, f"is ignored: {without[key]}"
        elif key not in known:
            near = nearest(key, known)
            yield key, f"is not read by anything{f'; did you mean {near!r}?' if near else ''}"


def _useless(job: _Job) -> Iterator[tuple[str, str]]:
    """Yield keys of bsm that this job has no use for, and why."""
    name = f"model class {job.artifact.model_class!r}"
    encoders = {job.own_or_shared(key) for key in ENCODERS if job.reads(key)}
    tokenizers = job.tokenizer_keys()
    fitted = [key for key in tokenizers if key not in job.values]
    used = {key for text in job.artifact.text_fields for key in params_used(job.names.steps(text), job.registry)}
    for keys, read, otherwise in (
        (ENCODERS, encoders, f"{name} does not read it"),
        (TOKENIZERS, {*tokenizers}, "no text step of its field reads it"),
    ):
        for key in {*keys} - read:
            instead = sorted(own for own in read if own.endswith(key))
            yield (
                key,
                f"{' and '.join(instead)} {'are' if instead[1:] else 'is'} read instead" if instead else otherwise,
            )
    if not fitted:
        yield from dict.fromkeys(("vocab_size", "min_frequency"), "no tokenizer is fitted").items()
    if not job.reads("embedding_shape"):
        yield from dict.fromkeys(("embed_size", "embedding_mat"), f"{name} has no embedding matrix").items()
    elif "embedding_mat" in job.values:
        yield "embed_size", "embedding_mat has a size"
    if not {*job.artifact.tab_field_list} & {*job.artifact.cat_field_list}:
        yield from dict.fromkeys(("risk_smoothing", "risk_min_count"), "no feature is a category").items()
    if not job.artifact.tab_field_list:
        yield from dict.fromkeys(FeatureKeys.model_fields, "the model has no features").items()
    chunk_keys = ("max_total_chunks", "chunk_trancate", "chunk_truncate")
    if not used & {*chunk_keys}:
        yield from ((key, "no text step reads it") for key in chunk_keys if not job.reads(key))


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys that a model reads, with their other names."""
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.validation_alias, AliasChoices):
            yield from (alias for alias in field.validation_alias.choices if isinstance(alias, str))
