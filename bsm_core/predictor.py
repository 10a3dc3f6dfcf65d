"""The Python API: an artifact and the plugins it names, ready to score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import pyarrow as pa
import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.check_rows import CheckRows, read_check_rows
from bsm_core.artifact.config import ArtifactConfig, TextField
from bsm_core.artifact.files import exported
from bsm_core.artifact.provenance_file import read_provenance
from bsm_core.backends.choose import Tuned, encoders_of, tune
from bsm_core.errors import (
    BSMError,
    ConfigError,
    DataError,
    MissingColumnsError,
    UnknownComponentError,
    UsageError,
    nearest,
)
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.models.deferred_init import deferred_initialization
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.hooks import Hooks
from bsm_core.plugins.registry import Named, Registry, default_registry
from bsm_core.preprocess.dataset import Findings, Preprocessor
from bsm_core.preprocess.features import Column
from bsm_core.preprocess.steps import Pipeline, StepContext, names_used

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("bsm")


def probability_names(num_classes: int) -> list[str]:
    """``prob_class_0``, ``prob_class_1``, …"""
    return [f"prob_class_{i}" for i in range(num_classes)]


class Predictor:
    """A model with the preprocessing its artifact asks for.

    Args:
        model: The model, in evaluation mode.
        preprocessor: Turns rows into batches.
        components: The plugin components in use.
        hooks: The guards and observers to call.
        artifact: The artifact it was made of, without weights, which the model has.

    Example::

        predictor = Predictor.from_artifact("model.tar.gz")
        frame = predictor.predict(rows)    # rows: a pandas DataFrame or a pyarrow Table
    """

    def __init__(
        self,
        model: ModelBase,
        preprocessor: Preprocessor,
        components: Sequence[Component] = (),
        hooks: Hooks | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        self.artifact = artifact
        self.model = model
        self.preprocessor = preprocessor
        self.components = tuple(components)
        self.hooks = Hooks(Registry([])) if hooks is None else hooks

    @classmethod
    def from_artifact(
        cls,
        path: str | Path,
        *,
        batch_size: int | None = None,
        device: str = "cpu",
        precision: str = "auto",
        backend: str = "auto",
        registry: Registry | None = None,
    ) -> Predictor:
        """Load an artifact: a folder, or a ``model.tar.gz``.

        Args:
            path: The artifact.
            batch_size: Chunks of full length the encoder sees at once; the artifact's own where None.
            device: ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or ``"auto"``: a GPU where there is one.
            precision: That of the text encoders, as ``--precision`` has it.
            backend: What computes the text encoders, as ``--backend`` has it.
            registry: Where names are looked up; the process's own where None.

        Raises:
            UsageError: There is no such device, precision or back end, or ``batch_size`` is no number of chunks.
            BSMError: Files are missing, corrupt or unsafe; names are unknown; weights do not fit.
        """
        device = _device(device)
        with unpacked(Path(path)) as folder:
            predictor = cls.load(Artifact.load(folder), batch_size=batch_size, registry=registry)
            rows = read_check_rows(folder) if precision == "int8" or device != "cpu" else None
            predictor.model.to(device)
            predictor.tune(precision, backend, rows)
        return predictor

    def tune(self, precision: str, backend: str, rows: CheckRows | None) -> Tuned:
        """Choose what computes the text encoders, with the model on its device.

        See :func:`bsm_core.backends.choose.tune`.
        """
        sample = None if rows is None else self.check_batch(rows.rows)
        fp16 = bool(self.preprocessor.config.as_mapping().get("fp16"))
        return tune(self.model, precision=precision, backend=backend, sample=sample, fp16=fp16)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        batch_size: int | None = None,
        keep: Sequence[str] = (),
        registry: Registry | None = None,
    ) -> Predictor:
        """Open the artifact in a folder once, for whoever needs it: see :meth:`load`, and :attr:`artifact`."""
        return cls.load(Artifact.load(folder), batch_size=batch_size, keep=keep, registry=registry)

    @classmethod
    def load(
        cls,
        artifact: Artifact,
        *,
        batch_size: int | None = None,
        keep: Sequence[str] = (),
        registry: Registry | None = None,
    ) -> Predictor:
        """Resolve every name of an artifact, then build its pipelines and its model.

        Args:
            artifact: What :meth:`Artifact.load` gave.
            batch_size: As in :meth:`from_artifact`.
            keep: Columns that pass through windows untouched, the id first.
            registry: As in :meth:`from_artifact`.

        Raises:
            HookFailedError: A guard refuses the artifact.
            BSMError: As in :meth:`from_artifact`.
        """
        if batch_size is not None and (not isinstance(batch_size, SupportsIndex) or batch_size < 1):
            raise UsageError(f"batch_size={batch_size!r} cannot be used", fix="give a number of chunks, 1 or more")
        registry = registry or default_registry()
        hooks = Hooks(registry)
        hooks.artifact_loaded(artifact)
        config = artifact.config
        components = _resolved(artifact, registry)
        model = _build_model(artifact, registry.load(components[0], ModelBase), batch_size)
        model.component = components[0]
        pipelines = text_pipelines(config, artifact.tokenizer, registry)
        preprocessor = Preprocessor(config, pipelines, artifact.impute, artifact.risk_tables, keep)
        return cls(model, preprocessor, list(dict.fromkeys(components)), hooks, replace(artifact, weights={}))

    def check_batch(self, rows: Sequence[Mapping[str, str | None]]) -> Batch:
        """The batch of an artifact's check rows, by column the text a CSV file would have."""
        columns = {name: pa.array([row[name] for row in rows], pa.large_string()) for name in self.preprocessor.wanted}
        return self.preprocessor.batch(columns, len(rows))[0]

    @property
    def probability_names(self) -> list[str]:
        """The output's probability columns."""
        return probability_names(self.model.config.num_classes)

    def predict(self, data: pd.DataFrame | pa.Table) -> pd.DataFrame:
        """Score rows.

        Args:
            data: The columns the artifact names; others are ignored.

        Returns:
            A frame of probabilities, float64, one row for each row of ``data``, in order, with its index.

        Raises:
            UsageError: ``data`` is neither.
            MissingColumnsError: Columns are missing; it names all of them.
            DataError: A column that is needed is there more than once.
            ModelFailedError: The model class fails, or gives no numbers.
        """
        import pandas as pd

        columns, index = table_columns(data, self.preprocessor.wanted)
        batch, findings = self.preprocessor.batch(columns, len(data))
        warn_of_texts(findings)
        warn_of_counts(findings.counts())
        with torch.inference_mode():
            probabilities = self.model.predict_step(batch.to(self.model.device)).cpu().numpy()
        return pd.DataFrame(probabilities, columns=self.probability_names, index=index)


def _resolved(artifact: Artifact, registry: Registry) -> list[Component]:
    """The model class and all steps, every name first: a clash or a typo shows before anything loads."""
    config = artifact.config
    names: list[tuple[Named, str, str]] = [("model_class", config.model_class, "config.model_class")]
    names += [("step", step.name, f"config.{t.steps_key}") for t in config.text_fields for step in t.steps]
    found, missing = [], []
    for kind, name, where in names:
        try:
            found.append(registry.resolve(kind, name, where=where))
        except UnknownComponentError as error:
            missing.append((kind, name, error))
    if missing:
        _, _, first = missing[0]
        raise type(first)(
            first.what,
            where=first.where,
            details=[*first.details, *(f"{error.what} ({error.where})" for _, _, error in missing[1:])],
            fix=_made_with(artifact.folder, {(kind, name) for kind, name, _ in missing}) or first.fix,
        )
    return found


def _made_with(folder: Path, missing: Collection[tuple[str, str]]) -> str | None:
    """What to install, where the artifact recorded it."""
    record = read_provenance(folder)
    made = [c for c in record.components if (c.kind, c.name) in missing] if record else []
    wanted = dict.fromkeys(f"{c.distribution}=={c.version}" for c in made)
    return f"the artifact was made with {' and '.join(wanted)}: install that" if wanted else None


def text_pipelines(
    config: ArtifactConfig, tokenizer: Callable[[TextField], Any], registry: Registry | None = None
) -> dict[str, Pipeline]:
    """The checked pipeline of each text field, by column.

    Args:
        config: The artifact's config.
        tokenizer: Gives the tokenizer of a field; asked only where a step uses it.
        registry: Where names are looked up; the process's own where None.
    """
    pipelines = {}
    for text in config.text_fields:
        where = f"config.{text.steps_key}"
        needed = "tokenizer" in names_used(text.steps, registry=registry, where=where)
        context = StepContext(text.column, tokenizer(text) if needed else None, config.as_mapping())
        pipelines[text.column] = Pipeline(text.steps, context, registry=registry, where=where)
    return pipelines


def warn_of_texts(findings: Findings, ids: Sequence[Any] | None = None, limit: int = 10) -> int:
    """Log each row whose text was taken as empty.

    Args:
        findings: What was odd about a window.
        ids: The rows' ids, bytes where they come from CSV; their positions stand in where None.
        limit: How many rows to name at most.

    Returns:
        How many rows were named.
    """
    failures = [(column, failure) for column, found in findings.texts.items() for failure in found]
    for column, failure in failures[:limit]:
        row = failure.row if ids is None else ids[failure.row]
        row = row.decode(errors="backslashreplace") if isinstance(row, bytes) else row
        log.warning(
            "row %r: column %r, step %r: %s; its text is taken as empty", row, column, failure.step, failure.reason
        )
    return min(limit, len(failures))


_COUNTED = {
    "text": "column %r: %d text(s) taken as empty",
    "number": "column %r: %d cell(s) that are no finite number, taken as missing",
    "hook": "observer %r failed %d time(s)",
}


def warn_of_counts(counts: Mapping[str, float]) -> None:
    """Log, once a column or plugin, what went wrong in a run; what plugins count is theirs to tell."""
    for key, count in counts.items():
        kind, _, name = key.partition(":")
        if kind in _COUNTED:
            log.warning(_COUNTED[kind], name, count)


def _device(name: str) -> str:
    """The torch device of that name, which must be there."""
    gpus = torch.cuda.device_count()
    there = ["auto", "cpu", *(["cuda", *(f"cuda:{i}" for i in range(gpus))] if gpus else [])]
    if name not in there:
        raise UsageError(f"no device {name!r}", fix=f"give one of {', '.join(map(repr, there))}")
    return ("cuda" if gpus else "cpu") if name == "auto" else name


def _build_model(artifact: Artifact, model_class: type[ModelBase], batch_size: int | None) -> ModelBase:
    values = artifact.model_config(wants=model_class.Config.model_fields)
    if batch_size is not None:
        values["batch_size"] = batch_size
    where = "the artifact's config and text_encoder/config.json"
    fix = "correct the key it speaks of, and pack the artifact again"
    with deferred_initialization():
        with building(artifact.config.model_class, where, fix):
            model = model_class.from_config(values)
        expected = {name: value.shape for name, value in model.state_dict().items()}
        weights = artifact.state_dict_for(expected, model.optional_state)
        model.load_state_dict(weights, strict=False)  # strictness is state_dict_for's, which lists everything at once
    files = exported(artifact.folder)
    for name, encoder in encoders_of(model).items():
        encoder.exported = files.get(name)
    return model.eval()


@contextmanager
def building(model_class: str, where: str, fix: str) -> Iterator[None]:
    """What a model class raises while it is built is an error of its config."""
    try:
        yield
    except BSMError:
        raise
    except Exception as error:
        what = f"model class {model_class!r} cannot be built: {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, fix=fix) from error


def table_columns(data: pd.DataFrame | pa.Table, wanted: Mapping[str, str]) -> tuple[dict[str, Column], Any]:
    """The wanted columns of a frame or table, and the frame's index.

    Raises:
        UsageError: ``data`` is neither.
        MissingColumnsError: Columns are missing; it names all of them, and who wants each.
        DataError: A wanted column is there more than once.
    """
    import pandas as pd

    if not isinstance(data, pa.Table | pd.DataFrame):
        raise UsageError(f"a {type(data).__name__} is no table", fix="give a pandas DataFrame or a pyarrow Table")
    names: list[Any] = list(data.columns) if isinstance(data, pd.DataFrame) else data.column_names
    missing = [name for name in wanted if name not in names]
    if missing:
        raise MissingColumnsError(
            f"{len(missing)} column(s) missing from the data",
            details=[_missing_line(name, wanted[name], names) for name in missing],
            fix=f"the data has: {', '.join(map(str, names))}",
        )
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise DataError(
            f"columns that are there more than once: {', '.join(map(repr, twice))}",
            fix="a column that is read must have a name of its own",
        )
    if isinstance(data, pd.DataFrame):
        return {name: _from_pandas(data[name]) for name in wanted}, data.index
    return {name: data.column(name) for name in wanted}, None


def _missing_line(name: str, wants: str, names: Sequence[Any]) -> str:
    near = nearest(name, [n for n in names if isinstance(n, str)])
    return f"{name!r}, wanted by {wants}" + (f"; nearest: {near!r}" if near else "")


def _from_pandas(series: Any) -> Column:
    """An Arrow array; a column that mixes types stays a list of Python objects."""
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # the last of half a surrogate pair
        return list(series)
