"""Tokenizers, encoders and embeddings of a training job: new ones, or loaded from the files that the config names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bsm_core.artifact.config import StepSpec, TextField
from bsm_core.artifact.pretrained_files import load_encoder_config, load_tokenizer
from bsm_core.errors import ConfigError
from bsm_core.preprocess.columns import text_values
from bsm_core.preprocess.features import Column
from bsm_core.preprocess.pipeline import Pipeline, names_used
from bsm_core.preprocess.steps import StepContext
from bsm_core.training.training_config import ENCODERS, TrainingJob
from bsm_core.training.wordpiece import fit_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextAssets:
    """Tokenizers, encoders and embeddings of a training job.

    Attributes:
        tokenizers: Tokenizers by prefix: ``"primary_"``, ``"secondary_"``, or ``""`` for the fields that share one.
        encoders: Hugging Face configs of the encoders that the model class reads, by config key.
        pretrained: Weights to start from, by config key, for ``ModelBase.load_pretrained``.
        embedding: Embedding matrix of the artifact, float32 ``[vocabulary, dimensions]``; zeros if training starts from
            new embeddings; None if the model class reads none.
    """

    tokenizers: Mapping[str, PreTrainedTokenizerBase]
    encoders: Mapping[str, Mapping[str, Any]]
    pretrained: Mapping[str, Mapping[str, Tensor]]
    embedding: Tensor | None

    def tokenizer(self, text: TextField) -> PreTrainedTokenizerBase:
        """Return the tokenizer of a text field."""
        return _tokenizer_for(self.tokenizers, text.prefix)

    def config(self) -> dict[str, Any]:
        """Return the artifact's config keys of the tokenizers: their folders and the sizes of their vocabularies."""
        folders = {f"{prefix}tokenizer": f"{prefix}tokenizer" for prefix in self.tokenizers}
        return folders | {f"{prefix}vocab_size": len(tokenizer) for prefix, tokenizer in self.tokenizers.items()}

    def provided(self) -> dict[str, Any]:
        """Return the values that an artifact provides to the model class, by config key."""
        shape = {} if self.embedding is None else {"embedding_shape": list(self.embedding.shape)}
        return {**self.encoders, **shape}


def prepare_text(job: TrainingJob, columns: Mapping[str, Column]) -> TextAssets:
    """Fit or load the tokenizers, then the encoders and the embedding matrix that belong to them.

    Args:
        job: The training job.
        columns: Columns of the training rows.

    Raises:
        ConfigError: An encoder or embedding matrix is too small for its tokenizer, or a file cannot be used.
    """
    tokenizers = _tokenizers(job, columns)
    encoders: dict[str, Mapping[str, Any]] = {}
    pretrained: dict[str, Mapping[str, Tensor]] = {}
    for key in filter(job.reads, ENCODERS):
        tokenizer = _tokenizer_for(tokenizers, key.removesuffix("text_encoder"))
        encoders[key], weights = _encoder(job, key, tokenizer)
        if weights is not None:
            pretrained[key] = weights
    embedding = None
    if job.reads("embedding_shape"):
        vocabulary = len(_tokenizer_for(tokenizers, ""))
        if path := job.values.get("embedding_mat"):
            embedding = _embedding(path, vocabulary)
            pretrained["embedding_mat"] = {"weight": embedding}
        else:
            embedding = torch.zeros(vocabulary, job.training.embed_size)
    return TextAssets(tokenizers, encoders, pretrained, embedding)


def _tokenizers(job: TrainingJob, columns: Mapping[str, Column]) -> dict[str, PreTrainedTokenizerBase]:
    fields: dict[str, list[tuple[TextField, list[StepSpec]]]] = {}
    for text in job.artifact.text_fields:
        steps = _steps_before_tokenizer(job, text)
        if len(steps) < len(text.steps):
            fields.setdefault(job.tokenizer_key(text.prefix), []).append((text, steps))
    tokenizers = {}
    for key, sharing in fields.items():
        folder = job.values.get(key)
        tokenizers[key.removesuffix("tokenizer")] = (
            load_tokenizer(Path(folder))
            if folder
            else fit_wordpiece(
                (text for field, steps in sharing for text in _texts(job, field, steps, columns[field.column])),
                vocab_size=job.training.vocab_size,
                min_frequency=job.training.min_frequency,
                max_length=job.artifact.max_sen_len,
            )
        )
    return tokenizers


def _steps_before_tokenizer(job: TrainingJob, text: TextField) -> list[StepSpec]:
    """Return the steps of a text field before the first one that uses a tokenizer; all of them if none does."""

    def uses_none(step: StepSpec) -> bool:
        return "tokenizer" not in names_used([step], registry=job.registry, where=f"config.{text.steps_key}")

    return list(takewhile(uses_none, text.steps))


def _texts(job: TrainingJob, text: TextField, steps: list[StepSpec], column: Column) -> Iterator[str]:
    """Return the texts of a column after some steps."""
    values: list[Any] = text_values(column)[0]
    if steps:
        context, where = StepContext(text.column, None, job.artifact.as_mapping()), f"config.{text.steps_key}"
        values, _ = Pipeline(steps, context, registry=job.registry, where=where, must_give=None)(values)
    for value in values:
        yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(value.get("content", ""))
    else:
        for inner in value:
            yield from _strings(inner)


def _tokenizer_for(tokenizers: Mapping[str, PreTrainedTokenizerBase], prefix: str) -> PreTrainedTokenizerBase:
    tokenizer = tokenizers.get(prefix) or tokenizers.get("")
    if tokenizer is None:
        raise ConfigError(
            "the model class reads tokens, but no text step uses a tokenizer",
            where="config.text_processing_steps",
            fix="end the list with a step that returns tokens",
        )
    return tokenizer


def _encoder(
    job: TrainingJob, key: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, Any], Mapping[str, Tensor] | None]:
    """Return the config of an encoder and, for a pretrained one, its weights."""
    own, vocabulary = job.encoder_key(key), len(tokenizer)
    given = job.values[own]
    weights = None
    if isinstance(given, str):
        config, weights = load_encoder_config(Path(given)), _pretrained(Path(given), own)
    else:
        config = {"vocab_size": vocabulary, "pad_token_id": tokenizer.pad_token_id or 0, **given}
    if (size := config.get("vocab_size", vocabulary)) < vocabulary:
        raise ConfigError(
            f"the vocabulary of the encoder has {size} tokens, that of the tokenizer has {vocabulary}",
            where=f"config.{own}",
            fix="name the tokenizer that belongs to the encoder, or remove vocab_size from the encoder's config",
        )
    return config, weights


def _pretrained(folder: Path, key: str) -> Mapping[str, Tensor]:
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32)
    except Exception as error:
        raise ConfigError(
            f"the pretrained encoder cannot be loaded: {type(error).__name__}: {error}",
            where=f"config.{key}: {folder}",
            fix="give a folder that save_pretrained of transformers wrote",
        ) from error
    weights: Mapping[str, Tensor] = model.state_dict()
    return weights


def _embedding(path: str, vocabulary: int) -> Tensor:
    try:
        matrix: np.ndarray[Any, Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the embedding matrix cannot be read: {error}",
            where=f"config.embedding_mat: {path}",
            fix="save it with numpy.save, as float32 [vocabulary, dimensions]",
        ) from error
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) < vocabulary:
        raise ConfigError(
            f"the embedding matrix is {matrix.dtype} {list(matrix.shape)}, not float [{vocabulary}, dimensions]",
            where=f"config.embedding_mat: {path}",
            fix="give one row for each token of the tokenizer",
        )
    return torch.from_numpy(matrix.astype(np.float32))
