"""Tokenizers, encoders and embeddings of a training job: new ones, or loaded from the files that the config names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bsm_core.artifact.config import TextField
from bsm_core.artifact.pretrained_files import load_encoder_config
from bsm_core.errors import ConfigError
from bsm_core.preprocess.cells import Column
from bsm_core.preprocess.columns import text_values
from bsm_core.preprocess.pipeline import Pipeline, params_used
from bsm_core.preprocess.steps import StepContext
from bsm_core.training.config.training_config import ENCODERS
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.wordpiece import fit_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextAssets:
    """Tokenizers, encoders and embeddings of a training job, fitted on the training rows or loaded from files.

    Args:
        job: The training job.
        columns: Columns of the training rows.

    Attributes:
        tokenizers: Tokenizers by prefix: ``"primary_"``, ``"secondary_"``, or ``""`` for the fields that share one.
        encoders: Hugging Face configs of the encoders that the model class reads, by config key.
        pretrained: Weights to start from, by config key, for ``ModelBase.load_pretrained``.
        embedding: Embedding matrix of the artifact, float32 ``[vocabulary, dimensions]``; zeros if training starts from
            new embeddings; None if the model class reads none.

    Raises:
        ConfigError: An encoder or embedding matrix is too small for its tokenizer, or a file cannot be used.
    """

    def __init__(self, job: TrainingJob, columns: Mapping[str, Column]) -> None:
        self.tokenizers = _tokenizers(job, columns)
        self.encoders: dict[str, Mapping[str, Any]] = {}
        self.pretrained: dict[str, Mapping[str, Tensor]] = {}
        self.embedding: Tensor | None = None
        for key in filter(job.reads, ENCODERS):
            self._add_encoder(key, job)
        if job.reads("embedding_shape"):
            vocabulary = len(self.tokenizer(""))
            if path := job.values.get("embedding_mat"):
                self.embedding = read_embedding_file(path, vocabulary)
                self.pretrained["embedding_mat"] = {"weight": self.embedding}
            else:
                self.embedding = torch.zeros(vocabulary, job.training.embed_size)

    def tokenizer(self, prefix: str) -> PreTrainedTokenizerBase:
        """Return the tokenizer of the text field with a prefix."""
        tokenizer = self.tokenizers.get(prefix) or self.tokenizers.get("")
        if tokenizer is None:
            raise ConfigError(
                "the model class reads tokens, but no text step uses a tokenizer",
                where="config.text_processing_steps",
                fix="end the list with a step that returns tokens",
            )
        return tokenizer

    def config(self) -> dict[str, Any]:
        """Return the artifact's config keys of the tokenizers: their folders and the sizes of their vocabularies."""
        folders = {f"{prefix}tokenizer": f"{prefix}tokenizer" for prefix in self.tokenizers}
        return folders | {f"{prefix}vocab_size": len(tokenizer) for prefix, tokenizer in self.tokenizers.items()}

    def provided(self) -> dict[str, Any]:
        """Return the values that an artifact provides to the model class, by config key."""
        shape = {} if self.embedding is None else {"embedding_shape": list(self.embedding.shape)}
        return {**self.encoders, **shape}

    def _add_encoder(self, key: str, job: TrainingJob) -> None:
        tokenizer = self.tokenizer(key.removesuffix("text_encoder"))
        own, vocabulary = job.own_or_shared(key), len(tokenizer)
        given = job.values[own]
        if isinstance(given, str):
            folder = job.folder(own)
            config = load_encoder_config(folder)
            self.pretrained[key] = _pretrained(folder, own)
        else:
            config = {"vocab_size": vocabulary, "pad_token_id": tokenizer.pad_token_id or 0, **given}
        if (size := config.get("vocab_size", vocabulary)) < vocabulary:
            raise ConfigError(
                f"the vocabulary of the encoder has {size} tokens, that of the tokenizer has {vocabulary}",
                where=f"config.{own}",
                fix="name the tokenizer that belongs to the encoder, or remove vocab_size from the encoder's config",
            )
        self.encoders[key] = config


def _tokenizers(job: TrainingJob, columns: Mapping[str, Column]) -> dict[str, PreTrainedTokenizerBase]:
    texts: dict[str, Iterator[str]] = {}
    for field in job.artifact.text_fields:
        before = _steps_before_tokenizer(job, field)
        if before < len(field.steps):
            key = job.own_or_shared(f"{field.prefix}tokenizer")
            texts[key] = chain(texts.get(key, ()), _texts(job, field, before, columns[field.column]))
    tokenizers = {}
    for key, learned_from in texts.items():
        tokenizer = job.given_tokenizer(key)
        if tokenizer is None:
            tokenizer = fit_wordpiece(
                learned_from,
                vocab_size=job.training.vocab_size,
                min_frequency=job.training.min_frequency,
                max_length=job.artifact.max_sen_len,
            )
        tokenizers[key.removesuffix("tokenizer")] = tokenizer
    return tokenizers


def _steps_before_tokenizer(job: TrainingJob, text: TextField) -> int:
    """Return the number of steps of a text field before the first one that uses a tokenizer; of all if none does."""
    steps = job.names.steps(text)
    uses = ("tokenizer" in params_used([step], job.registry) for step in steps)
    return next((number for number, uses_it in enumerate(uses) if uses_it), len(steps))


def _texts(job: TrainingJob, text: TextField, before: int, column: Column) -> Iterator[str]:
    """Return the texts of a column after the first ``before`` steps."""
    values: list[Any] = text_values(column)[0]
    if before:
        context, where = StepContext(text.column, None, job.artifact.as_mapping()), f"config.{text.steps_key}"
        specs, components = text.steps[:before], job.names.steps(text)[:before]
        pipeline = Pipeline(specs, context, registry=job.registry, where=where, must_give=None, components=components)
        values, _ = pipeline(values)
    yield from _strings(values)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(value.get("content", ""))
    else:
        for inner in value:
            yield from _strings(inner)


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
    return dict(model.state_dict())


def read_embedding_file(path: str, vocabulary: int = 0) -> Tensor:
    """Return the embedding matrix in a file of ``numpy.save``, float32 ``[vocabulary, dimensions]``.

    Args:
        path: The file.
        vocabulary: Number of rows that the matrix must have at least.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
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
