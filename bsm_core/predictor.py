"""The Python API: an artifact and the plugins that it names, ready to score rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import pyarrow as pa
import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.check_rows import CheckRows
from bsm_core.artifact.files import exported
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.artifact.untrusted.state_dicts import check_dtypes
from bsm_core.backends.choose import ChosenBackends, choose_backends, encoders_of, restore_backends
from bsm_core.errors import BSMError, ConfigError, UsageError, short_repr
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.models.bounded_allocations import BoundedAllocations
from bsm_core.models.deferred_init import deferred_initialization
from bsm_core.plugins.hooks import Hooks
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.preprocess.columns import table_columns
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import Issue, IssueWarnings, warn_of_counts
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.runtime.memory import DEFAULT_MAX_CELL_MB
from bsm_core.storage.objects import place
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd


_FREE_VALUES = 1 << 26
"""Values that a model may have beyond twice the artifact's weights, such as buffers that are not saved."""
_ARGUMENTS = ("device", "on_bad_row")
"""Arguments of :meth:`Predictor.from_artifact` that errors advise."""


def probability_names(num_classes: int) -> list[str]:
    """Return the names of the probability columns: ``prob_class_0``, ``prob_class_1``, …"""
    return [f"prob_class_{i}" for i in range(num_classes)]


class Predictor:
    """A model, and the preprocessing that its artifact describes.

    Args:
        model: The model, in evaluation mode.
        preprocessor: The preprocessor that turns rows into batches.
        hooks: The guards and observers to call.
        artifact: The artifact, without its weights.

    Example::

        predictor = Predictor.from_artifact("model.tar.gz")
        frame = predictor.predict(rows)    # rows: a pandas DataFrame or a pyarrow Table
    """

    def __init__(
        self,
        model: ModelBase,
        preprocessor: Preprocessor,
        hooks: Hooks | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        self.artifact = artifact
        self.model = model
        self.preprocessor = preprocessor
        self.hooks = Hooks(Registry([])) if hooks is None else hooks

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        restore_backends(self.model)

    @classmethod
    def from_artifact(
        cls,
        path: str | Path,
        *,
        batch_size: int | None = None,
        device: str = "cpu",
        precision: str = "auto",
        backend: str = "auto",
        on_bad_row: Literal["fail", "null"] = "fail",
        max_cell_mb: int = DEFAULT_MAX_CELL_MB,
        registry: Registry | None = None,
    ) -> Predictor:
        """Load an artifact from a folder or a ``model.tar.gz``, by path or URL.

        Args:
            path: The artifact.
            batch_size: Number of chunks of full length that an encoder processes at once. None: the number in the
                artifact's config.
            device: ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or ``"auto"``: a GPU if there is one, else the
                CPU.
            precision: Precision of the text encoders; the values are those of ``--precision``.
            backend: Backend of the text encoders; the values are those of ``--backend``.
            on_bad_row: Whether a row for which the model class fails is an error, or has probabilities that are NaN.
            max_cell_mb: Length of a text, in millions of bytes, at which it is cut.
            registry: Registry in which names are resolved. None: the registry of the process.

        Raises:
            UsageError: The device, precision or backend does not exist, ``batch_size`` is not a positive integer, or
                ``on_bad_row`` has another value.
            BSMError: Files are missing, corrupt or unsafe; names are unknown; weights do not fit the model.
        """
        device = _device(device)
        with unpacked(place(path)) as folder:
            artifact = Artifact.load(folder)
            predictor = cls.load(
                artifact, batch_size=batch_size, on_bad_row=on_bad_row, max_cell_mb=max_cell_mb, registry=registry
            )
            rows = artifact.check_rows if precision == "int8" or device != "cpu" else None
            predictor.model.to(device)
            predictor.choose_backends(precision, backend, rows)
        return predictor

    def choose_backends(
        self, precision: str, backend: str, rows: CheckRows | None, earlier: Mapping[str, str] | None = None
    ) -> ChosenBackends:
        """Choose the backend of the text encoders. The model must be on its device.

        See :func:`bsm_core.backends.choose.choose_backends`.
        """
        sample = None if rows is None else self.check_batch(rows.rows)
        fp16 = bool(self.preprocessor.config.as_mapping().get("fp16"))
        return choose_backends(
            self.model, precision=precision, backend=backend, sample=sample, fp16=fp16, earlier=earlier
        )

    @classmethod
    def open(cls, folder: Path, *, registry: Registry | None = None) -> Predictor:
        """Open the artifact in a folder and :meth:`load` it."""
        return cls.load(Artifact.load(folder), registry=registry)

    @classmethod
    def load(
        cls,
        artifact: Artifact,
        *,
        batch_size: int | None = None,
        on_bad_row: Literal["fail", "null"] = "fail",
        keep: Sequence[str] = (),
        max_cell_mb: int = DEFAULT_MAX_CELL_MB,
        source: TableSource | None = None,
        registry: Registry | None = None,
        names: ResolvedNames | None = None,
    ) -> Predictor:
        """Resolve every name in the config of an artifact, then build its model and its pipelines.

        Args:
            artifact: The artifact.
            batch_size, on_bad_row, max_cell_mb: See :meth:`from_artifact`.
            keep: Columns that batches carry unchanged, the id first.
            source: Table of the rows to score; see :class:`bsm_core.preprocess.dataset.Preprocessor`.
            registry: See :meth:`from_artifact`.
            names: The names in the config, if they are resolved already.

        Raises:
            HookFailedError: A guard refuses the artifact.
            BSMError: See :meth:`from_artifact`.
        """
        if batch_size is not None and (not isinstance(batch_size, SupportsIndex) or batch_size < 1):
            raise UsageError(f"batch_size={batch_size!r} cannot be used", fix="pass a number of chunks, 1 or more")
        if on_bad_row not in ("fail", "null"):
            raise UsageError(f"on_bad_row={on_bad_row!r} cannot be used", fix="pass 'fail' or 'null'")
        registry = registry or default_registry()
        hooks = Hooks(registry)
        hooks.artifact_loaded(artifact)
        config = artifact.config
        names = names or artifact.names(registry)
        names.require_all(lambda: artifact.provenance)
        model = _build_model(artifact, registry.load(names.model_class, ModelBase), batch_size)
        model.component = names.model_class
        model.set_aside = on_bad_row == "null"
        pipelines = text_pipelines(config, artifact.tokenizer, registry, names)
        preprocessor = Preprocessor(config, pipelines, artifact.impute, artifact.risk_tables, keep, max_cell_mb, source)
        artifact.release()
        return cls(model, preprocessor, hooks, artifact)

    def check_batch(self, rows: Sequence[Mapping[str, str | None]]) -> Batch:
        """Return the batch of an artifact's check rows. A check row has the text of a CSV cell by column."""
        columns = {name: pa.array([row[name] for row in rows], pa.large_string()) for name in self.preprocessor.wanted}
        return self.preprocessor.batch(columns, len(rows), dialect=Dialect())[0]

    @property
    def probability_names(self) -> list[str]:
        """Names of the probability columns of the output."""
        return probability_names(self.model.config.num_classes)

    def predict(self, data: pd.DataFrame | pa.Table, on_issue: Callable[[Issue], object] | None = None) -> pd.DataFrame:
        """Score rows.

        Args:
            data: Table with the columns that the artifact names; other columns are ignored.
            on_issue: Function that is called with each issue, such as a cell that is not a number, in the order of the
                rows. An :class:`~bsm_core.preprocess.findings.Issue` has these attributes: ``row``, the position of the
                row in ``data``, from 0, and not its label in the index of a frame; ``column``, ``""`` if the whole row
                is at fault; ``stage`` and ``reason``, as in the list of ``--row-issues``; ``value``, the text of the
                cell, or None. Without a function, the first issues are logged.

        Returns:
            A frame of float64 probabilities ``[rows, classes]``: one row for each row of ``data``, in the same order
            and with the same index. With ``on_bad_row="null"``, the probabilities of a row for which the model class
            fails are NaN.

        Raises:
            UsageError: ``data`` is neither a pandas DataFrame nor a pyarrow Table, or ``on_issue`` is no function.
            MissingColumnsError: Columns are missing; the error lists all of them.
            DataError: A column that the artifact names occurs more than once.
            ModelFailedError: The model class raises an error, or returns probabilities that are not numbers.
        """
        import pandas as pd

        if on_issue is not None and not callable(on_issue):
            raise UsageError(f"on_issue={short_repr(on_issue)} cannot be used", fix="pass a function of one issue")
        columns, index = table_columns(data, self.preprocessor.wanted)
        batch, findings = self.preprocessor.batch(columns, len(data))
        with torch.inference_mode(), _naming_arguments():
            probabilities = self.model.predict_step(batch.to(self.model.device)).cpu().numpy()
        findings = findings.with_failed_rows(batch.failed)
        if on_issue is None:
            IssueWarnings().add(findings)
            warn_of_counts(findings.counts(), len(data), in_python=True)
        else:
            for issue in findings.issues:
                on_issue(issue)
        return pd.DataFrame(probabilities, columns=self.probability_names, index=index)


@contextmanager
def _naming_arguments() -> Iterator[None]:
    """Let errors that advise flags of ``bsm run`` name the arguments of :meth:`Predictor.from_artifact` instead."""
    try:
        yield
    except BSMError as error:
        error.advice = _pass_arguments
        raise


def _pass_arguments(settings: Sequence[Mapping[str, str]]) -> str:
    known = [each for each in settings if each.keys() <= {*_ARGUMENTS}]
    given = (", ".join(f'{name}="{value}"' for name, value in each.items()) for each in known)
    return f"pass {' or '.join(given)} to Predictor.from_artifact" if known else ""


def _device(name: str) -> str:
    """Return the torch device for a name, and check that the device exists."""
    gpus = torch.cuda.device_count()
    there = ["auto", "cpu", *(["cuda", *(f"cuda:{i}" for i in range(gpus))] if gpus else [])]
    if name not in there:
        raise UsageError(f"there is no device {name!r}", fix=f"use one of {', '.join(map(repr, there))}")
    return ("cuda" if gpus else "cpu") if name == "auto" else name


def _build_model(artifact: Artifact, model_class: type[ModelBase], batch_size: int | None) -> ModelBase:
    values = artifact.model_config(wants=model_class.Config.model_fields)
    if batch_size is not None:
        values["batch_size"] = batch_size
    where = "the artifact's config and text_encoder/config.json"
    fix = "correct the key that the message names, and pack the artifact again"
    with deferred_initialization():
        most = 2 * sum(value.numel() for value in artifact.weights.values()) + _FREE_VALUES
        with building(artifact.config.model_class, where, fix), BoundedAllocations(most):
            model = model_class.from_config(values, where=where)
        state = model.state_dict()
        expected = {name: value.shape for name, value in state.items()}
        weights = artifact.state_dict_for(expected, model.optional_state, _tied(model))
        check_dtypes(weights, state)
        model.load_state_dict(weights, strict=False)  # not strict: state_dict_for has reported all differences at once
    files = exported(artifact.folder)
    for name, encoder in encoders_of(model).items():
        encoder.exported = files.get(name)
    return model.eval()


def _tied(model: ModelBase) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


@contextmanager
def building(model_class: str, where: str, fix: str) -> Iterator[None]:
    """Turn what a model class raises while it is built into a :class:`ConfigError`.

    Args:
        model_class: Name of the model class.
        where: The config from which it is built, for the error.
        fix: Advice for the error.
    """
    try:
        yield
    except BSMError:
        raise
    except Exception as error:
        what = f"model class {model_class!r} cannot be built: {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, fix=fix) from error
