"""Tokenizers and encoders of a training job: fitted or fresh, or from the folders of pretrained ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bsm_core.artifact.config import TextField
from bsm_core.artifact.pretrained_files import load_encoder_config, load_tokenizer, prefix_of
from bsm_core.errors import ConfigError
from bsm_core.preprocess.dataset import text_values
from bsm_core.preprocess.features import Column
from bsm_core.preprocess.steps import Pipeline, StepContext, names_used
from bsm_core.training.training_config import ENCODERS, TrainingJob
from bsm_core.training.wordpiece import fit_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextParts:
    """The tokenizers and encoders of a job.

    Attributes:
        tokenizers: By prefix: ``""`` for the fields that share one.
        encoders: The Hugging Face config of each encoder the model class wants, by its config key.
        pretrained: Weights to start from, by config key, for ``ModelBase.load_pretrained``.
        embedding: The embedding matrix of the artifact, float32 ``[vocabulary, dimensions]``, where the class wants
            one; zeros where it tells the shape alone.
    """

    tokenizers: dict[str, PreTrainedTokenizerBase]
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    pretrained: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    embedding: Tensor | None = None

    def tokenizer(self, text: TextField) -> PreTrainedTokenizerBase:
        """The tokenizer of a text field that has one."""
        return self.tokenizers.get(prefix_of(text)) or self.tokenizers[""]

    def config(self) -> dict[str, Any]:
        """What the artifact's config says of them: where its tokenizers are, and how large."""
        places = {f"{prefix}tokenizer": f"{prefix}tokenizer" for prefix in self.tokenizers}
        return places | {f"{prefix}vocab_size": len(tokenizer) for prefix, tokenizer in self.tokenizers.items()}

    def provided(self) -> dict[str, Any]:
        """What the artifact provides to the model class of them, by config key."""
        shape = {} if self.embedding is None else {"embedding_shape": list(self.embedding.shape)}
        return {**self.encoders, **shape}


def prepare_text(job: TrainingJob, columns: Mapping[str, Column]) -> TextParts:
    """Fit or load the tokenizers, then describe the encoders.

    Args:
        job: The job.
        columns: Of the training part.

    Raises:
        ConfigError: An encoder has too small a vocabulary, or a folder does not hold what it should.
    """
    parts = TextParts(_tokenizers(job, columns))
    for key in filter(job.reads, ENCODERS):
        config, state = _encoder(job, key, _tokenizer_of(parts.tokenizers, key.removesuffix("text_encoder")))
        parts.encoders[key] = config
        if state is not None:
            parts.pretrained[key] = state
    if not job.reads("embedding_shape"):
        return parts
    given = job.values.get("embedding_mat")
    vocabulary = len(_tokenizer_of(parts.tokenizers, ""))
    if given is None:
        return TextParts(**{**vars(parts), "embedding": torch.zeros(vocabulary, job.training.embed_size)})
    embedding = _embedding(given, vocabulary)
    return TextParts(
        parts.tokenizers, parts.encoders, {**parts.pretrained, "embedding_mat": {"weight": embedding}}, embedding
    )


def _tokenizers(job: TrainingJob, columns: Mapping[str, Column]) -> dict[str, PreTrainedTokenizerBase]:
    fields: dict[str, list[TextField]] = {}
    for text in job.artifact.text_fields:
        if "tokenizer" in names_used(text.steps, registry=job.registry, where=f"config.{text.steps_key}"):
            fields.setdefault(job.tokenizer_key(prefix_of(text)), []).append(text)
    tokenizers = {}
    for key, sharing in fields.items():
        folder = job.values.get(key)
        tokenizers[key.removesuffix("tokenizer")] = (
            load_tokenizer(Path(folder))
            if folder
            else fit_wordpiece(
                (text for one in sharing for text in _texts(job, one, columns[one.column])),
                vocab_size=job.training.vocab_size,
                min_frequency=job.training.min_frequency,
                max_length=job.artifact.max_sen_len,
            )
        )
    return tokenizers


def _texts(job: TrainingJob, text: TextField, column: Column) -> Iterator[str]:
    """A column's texts as the steps before the first that needs a tokenizer leave them."""

    def without(spec: Any) -> bool:
        return "tokenizer" not in names_used([spec], registry=job.registry, where=where)

    where = f"config.{text.steps_key}"
    values: list[Any] = text_values(column)[0]
    if steps := list(takewhile(without, text.steps)):
        context = StepContext(text.column, None, job.artifact.as_mapping())
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


def _tokenizer_of(tokenizers: Mapping[str, PreTrainedTokenizerBase], prefix: str) -> PreTrainedTokenizerBase:
    tokenizer = tokenizers.get(prefix) or tokenizers.get("")
    if tokenizer is None:
        raise ConfigError(
            "the model class reads tokens, but no text step uses a tokenizer",
            where="config.text_processing_steps",
            fix="end the list with 'dialogue_chunker' and 'tokenizer'",
        )
    return tokenizer


def _encoder(
    job: TrainingJob, key: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, Any], Mapping[str, Tensor] | None]:
    """The config of an encoder and, of a pretrained one, its weights."""
    own, vocabulary = job.encoder_key(key), len(tokenizer)
    given = job.values[own]
    if isinstance(given, str):
        config, state = load_encoder_config(Path(given)), _pretrained(Path(given), own)
    else:
        config, state = {"vocab_size": vocabulary, "pad_token_id": tokenizer.pad_token_id or 0, **given}, None
    if (size := config.get("vocab_size", vocabulary)) < vocabulary:
        raise ConfigError(
            f"the encoder has a vocabulary of {size}, the tokenizer one of {vocabulary}",
            where=f"config.{own}",
            fix="give the tokenizer that belongs to the encoder, or leave vocab_size out of the encoder's config",
        )
    return config, state


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
            fix="give a folder that transformers' save_pretrained wrote",
        ) from error
    state: Mapping[str, Tensor] = model.state_dict()
    return state


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
            f"the embedding matrix is {matrix.dtype} {list(matrix.shape)}, not floats [{vocabulary}, dimensions]",
            where=f"config.embedding_mat: {path}",
            fix="give a row for every token of the tokenizer",
        )
    return torch.from_numpy(matrix.astype(np.float32))
