"""Base class of the model classes.

A model class is a :class:`~lightning.pytorch.LightningModule` whose ``forward`` turns a batch into logits, in three
parts: texts become vectors, these and the features become one vector, and this one becomes logits. The base class has
what all classes share: prediction, loss, optimizer and learning rate schedule.
"""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from bsm_core.errors import BSMError, ConfigError, ModelFailedError, UsageError
from bsm_core.models.bad_rows import NOT_FINITE, bad_rows, large_numbers, score_good_rows
from bsm_core.models.batch import EMBEDDING, Batch, embedding_name
from bsm_core.models.encoder import Encoder
from bsm_core.models.micro_batches import TokenBudget
from bsm_core.models.model_config import ModelConfig
from bsm_core.plugins.discovery import Component
from bsm_core.runtime.validation import validated

log = logging.getLogger("bsm")

_ROWS_NAMED = 10
"""Largest number of rows that an error names."""
_LEAVE_EMPTY = {"on_bad_row": "null"}
_ALONE = threading.Lock()
"""Lock that a model holds while it predicts, if one of its encoders changes settings of the process."""


class ModelBase(pl.LightningModule):
    """Base class of all model classes: ``forward(batch) -> logits [rows, num_classes]``.

    A class overrides :meth:`encode_texts` (if it reads text), :meth:`fuse_rows` and :meth:`classify_rows`, of which
    ``forward`` is composed. A class that has no such parts overrides ``forward`` instead: it scores rows as any other,
    and has no embeddings.

    Attributes:
        Config: Config keys of the class, a subclass of :class:`ModelConfig`.
        optional_state: State dict keys that an artifact may lack.
        example_config: Config keys with which :mod:`bsm_core.testing` builds the model, in addition to its own.
        proposed_config: Config keys with which ``bsm init`` proposes the class for a table with the columns that its
            ``Config`` reads; None: the class is not proposed.
        token_budget: Tokens that an encoder processes at once: ``batch_size`` chunks of ``max_sen_len`` tokens.
        component: Plugin component that the artifact names, for errors; None for a model that was built without an
            artifact.
        set_aside: Whether a row for which the class fails is set aside, with probabilities that are NaN; else it is an
            error.

    Example:
        Write a linear model on three features::

            class Linear(ModelBase):
                def __init__(self, config: ModelConfig) -> None:
                    super().__init__(config)
                    self.layer = nn.Linear(3, config.num_classes)

                def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
                    return features

                def classify_rows(self, fused: Tensor) -> Tensor:
                    return self.layer(fused)
    """

    Config: ClassVar[type[ModelConfig]] = ModelConfig
    optional_state: ClassVar[Collection[str]] = ("class_weights_tensor", "loss_op.weight")
    example_config: ClassVar[Mapping[str, Any]] = {}
    proposed_config: ClassVar[Mapping[str, Any] | None] = None
    class_weights_tensor: Tensor
    component: Component | None = None
    set_aside: bool = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        weights = torch.tensor(config.class_weights or [1.0] * config.num_classes)
        self.register_buffer("class_weights_tensor", weights)
        self.loss_op = nn.CrossEntropyLoss(weight=weights.clone())
        self.token_budget = TokenBudget(config.batch_size * config.max_sen_len)

    @classmethod
    def from_config(cls, values: Mapping[str, Any], *, where: str = "config") -> Self:
        """Build the model with new weights from an artifact's config.

        Args:
            values: Config keys; a key whose value is None counts as missing.
            where: Name of the config in errors.

        Raises:
            ConfigError: Keys are missing or have wrong values; the error names all of them.
        """
        return cls(validated(cls.Config, {k: v for k, v in values.items() if v is not None}, where=where))

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits, float ``[rows, num_classes]``. A row's logits must not depend on the other rows."""
        texts = self.encode_texts(batch)
        fused = self.fuse_rows(texts, batch.features)
        if batch.vectors is not None:
            batch.vectors.update({embedding_name(column): vectors for column, vectors in texts.items()})
            batch.vectors[EMBEDDING] = fused
        return self.classify_rows(fused)

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the vectors of each text field by column, float ``[rows, size]``; none for a class without text."""
        return {}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return one vector for each row, float ``[rows, size]``.

        The result depends on the arguments alone: the method is called again with other vectors and other features.

        Args:
            texts: Vectors of :meth:`encode_texts`.
            features: Features as in :class:`Batch`, float32 ``[rows, inputs]``.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither a method forward nor a method fuse_rows")

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return the logits, float ``[rows, num_classes]``, of vectors of :meth:`fuse_rows`."""
        raise NotImplementedError(f"{type(self).__name__} has neither a method forward nor a method classify_rows")

    @classmethod
    def why_no_embeddings(cls) -> str:
        """Return why the class has no embeddings; an empty text if ``forward`` is composed of its parts."""
        parts = [name for name in ("fuse_rows", "classify_rows") if getattr(cls, name) is getattr(ModelBase, name)]
        if parts:
            return f"it has {' and '.join(f'no method {part}' for part in parts)} of its own"
        return "" if cls.forward is ModelBase.forward else "it has a method forward of its own"

    def vector_sizes(self, batch: Batch) -> dict[str, int]:
        """Return the size of each vector that a batch can ask for, by name. See :attr:`Batch.vectors`.

        Args:
            batch: Any batch with rows.

        Raises:
            UsageError: The class overrides ``forward`` instead of its parts.
            ModelFailedError: The class fails.
        """
        if why := self.why_no_embeddings():
            name = self.component.name if self.component else type(self).__name__
            raise UsageError(
                f"model class {name!r} has no embeddings: {why}",
                fix="do not ask for embeddings, or write encode_texts, fuse_rows and classify_rows instead of forward",
            )
        asking, rows = replace(batch, vectors={}), batch.rows
        with self._named_in_errors(), self._alone():
            self(asking)
        vectors = asking.vectors or {}
        if odd := [
            key for key, found in vectors.items() if found.ndim != 2 or len(found) != rows or not found.shape[1]
        ]:
            shapes = ", ".join(f"{key!r} is {list(vectors[key].shape)}" for key in odd)
            raise self._failure(
                f"returned vectors of a wrong shape: {shapes}", fix=f"return [rows, size]; rows: {rows}"
            )
        return {key: found.shape[1] for key, found in vectors.items()}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the device without waiting for the copy; Lightning's own method waits for it."""
        return batch.to(device, non_blocking=True)

    def predict_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> Tensor:
        """Return class probabilities, float64 ``[rows, num_classes]``.

        The logits are divided by the config's ``calibration_temperature``. With two classes, the first probability is
        one minus the second.

        Raises:
            ModelFailedError: ``forward`` raises or returns something other than logits of that shape, or probabilities
                are NaN or infinite. With :attr:`set_aside`, rows at fault have probabilities that are NaN instead, and
                ``batch.failed`` has the reasons.
        """
        if batch.rows == 0:
            return torch.empty(0, self.config.num_classes, dtype=torch.float64)
        failed: dict[int, str] = {}
        if self.set_aside:
            probabilities, failed = score_good_rows(self._probabilities, batch, self.config.num_classes)
        else:
            probabilities = self._probabilities_or_rows(batch)
        self._check_finite(probabilities, batch, known=failed)
        batch.failed.update(failed)
        return probabilities

    def _probabilities(self, batch: Batch) -> Tensor:
        """Return class probabilities, finite or not."""
        with self._named_in_errors(), self._alone():
            logits = self._checked_logits(self(batch), batch.rows)
            probabilities = (logits.double() / self.config.calibration_temperature).softmax(dim=-1)
            if self.config.num_classes == 2:
                probabilities[:, 0] = 1 - probabilities[:, 1]
        return probabilities

    def _alone(self) -> AbstractContextManager[Any]:
        encoders = (module for module in self.modules() if isinstance(module, Encoder))
        return _ALONE if any(encoder.backend.alone for encoder in encoders) else nullcontext()

    def _probabilities_or_rows(self, batch: Batch) -> Tensor:
        """Return class probabilities. If the class fails, the error names the rows for which it fails alone."""
        try:
            return self._probabilities(batch)
        except ModelFailedError as error:
            if error.__cause__ is None:  # logits of a wrong shape
                raise
            bad = [row for row, _ in islice(bad_rows(self._probabilities, batch), _ROWS_NAMED + 1)]
            if bad and len(bad) < batch.rows and bad != list(range(_ROWS_NAMED + 1)):  # else most likely all rows
                error.details = (*error.details, *_rows_named(batch, bad))
                error.settings = (_LEAVE_EMPTY,)
            raise

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        try:
            yield
        except (BSMError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - the code of a plugin may raise anything
            # As a cause, StopIteration would pass through contextlib and end Lightning's epoch.
            cause = None if isinstance(error, StopIteration) else error
            raise self._failure(
                f"failed: {type(error).__name__}: {error}",
                details=_own_line(error, self),
                fix="correct the model class, or the artifact if it does not match the class",
            ) from cause

    def _checked_logits(self, logits: Any, rows: int) -> Tensor:
        expected = [rows, self.config.num_classes]
        if isinstance(logits, Tensor) and logits.is_floating_point() and list(logits.shape) == expected:
            return logits
        returned = f"a {type(logits).__name__}"
        if isinstance(logits, Tensor):
            returned = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}"
        raise self._failure(
            f"returned {returned} as logits, expected floats {expected}",
            fix="forward must return [rows, num_classes], one row of logits for each row of the batch",
        )

    def _check_finite(self, probabilities: Tensor, batch: Batch, known: Collection[int] = ()) -> None:
        """Check that probabilities are finite, but for those of the rows in ``known``."""
        bad = (~probabilities.isfinite()).any(dim=1).nonzero().flatten().tolist()
        if bad := [row for row in bad if row not in known]:
            raise self._failure(
                f"returned {NOT_FINITE} for {len(bad)} of {batch.rows} rows",
                details=_rows_named(batch, bad),
                fix="look for very large numbers in these rows, and for weights that are NaN or infinite",
                settings=[_LEAVE_EMPTY],
            )

    def _failure(self, what: str, **advice: Any) -> ModelFailedError:
        cls, component = type(self), self.component
        name = component.name if component else cls.__name__
        where = f"{component.target} of {component.provider}" if component else f"{cls.__module__}:{cls.__qualname__}"
        return ModelFailedError(f"model class {name!r} {what}", where=where, **advice)

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load pretrained weights into one module of the model, before training.

        A model class with such a module overrides this method.

        Args:
            key: Config key of the module: ``"text_encoder"``, ``"primary_text_encoder"``,
                ``"secondary_text_encoder"``, or ``"embedding_mat"``.
            state: State dict of the transformers model, or of the embedding matrix: ``"weight"``, float
                ``[vocabulary, dimensions]``.

        Raises:
            ConfigError: The class has no such module, or the weights do not fit it.
        """
        raise ConfigError(
            f"model class {type(self).__name__} takes no pretrained weights",
            where=f"config.{key}",
            fix="leave the key out, or override load_pretrained in the model class",
        )

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that are trained at ``encoder_lr``: those that :meth:`load_pretrained` can load."""
        return ()

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the cross entropy with the class weights.

        Raises:
            ModelFailedError: ``forward`` raises, or returns something other than logits.
        """
        with self._named_in_errors():
            loss: Tensor = self.loss_op(self._checked_logits(self(batch), batch.rows), batch.labels)
        self.log("train_loss", loss, batch_size=batch.rows)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return class probabilities, as :meth:`predict_step` does; the training job computes the metrics."""
        return self.predict_step(batch)

    def configure_optimizers(self) -> Any:
        """Return AdamW without weight decay on biases and norms.

        ``run_scheduler`` adds linear warm-up and linear decay of the learning rates. Pretrained modules are trained at
        ``encoder_lr``, all others at ``lr`` (discriminative fine-tuning: Howard and Ruder, 2018, arXiv:1801.06146).
        """
        config, encoders = self.config, set(map(id, self.encoder_parameters()))
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in filter(lambda p: p.requires_grad, self.parameters()):
            lr = config.encoder_lr if config.encoder_lr and id(parameter) in encoders else config.lr
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
        options = [{"params": found, "lr": lr, "weight_decay": decay} for (lr, decay), found in groups.items()]
        optimizer = torch.optim.AdamW(options, eps=config.adam_epsilon)
        if not config.run_scheduler:
            return optimizer
        from transformers import get_linear_schedule_with_warmup

        steps = int(self.trainer.estimated_stepping_batches)
        if config.warmup_steps >= steps:
            told = "warmup_steps=%d, but the training has %d steps: the learning rate never reaches lr=%g"
            log.warning(told, config.warmup_steps, steps, config.lr)
        schedule = get_linear_schedule_with_warmup(optimizer, config.warmup_steps, steps)  # type: ignore[no-untyped-call]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _rows_named(batch: Batch, bad: Sequence[int]) -> list[str]:
    """Return lines of an error: the first rows at fault, and large numbers in them."""
    first = bad[:_ROWS_NAMED]
    names = [*map(repr, batch.names(first))]
    notes = [
        f"row {name}{numbers}" for name, row in zip(names, first, strict=True) if (numbers := large_numbers(batch, row))
    ]
    return [f"rows: {', '.join([*names, '...'] if len(bad) > len(first) else names)}", *notes]


def _own_line(error: Exception, model: ModelBase) -> list[str]:
    """Name the last line of the model class's own file in the traceback."""
    cls, names = type(model), ("forward", "encode_texts", "fuse_rows", "classify_rows")
    written = [getattr(cls, name) for name in names if getattr(cls, name) is not getattr(ModelBase, name)]
    files = {code.co_filename for each in written if (code := getattr(inspect.unwrap(each), "__code__", None))}
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return [f"line {own[-1].lineno} of {Path(own[-1].filename).name}, in {own[-1].name}"] if own else []
