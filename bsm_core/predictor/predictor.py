"""The Python API: an artifact and the plugins that it names, ready to score rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.check_rows import CheckRows
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.backends.choose import ChosenBackends, choose_backends, restore_backends
from bsm_core.errors import UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.models.micro_batches import settle_threads
from bsm_core.plugins.hooks import Hooks
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.predictor.api_arguments import device_of, naming_arguments
from bsm_core.predictor.embedding_columns import vector_array
from bsm_core.predictor.explaining import Explaining
from bsm_core.predictor.issue_teller import IssueTeller, OnIssue
from bsm_core.predictor.model_building import build_model
from bsm_core.predictor.probability_columns import PREDICTED_CLASS, predicted_classes, probability_names
from bsm_core.predictor.scored_files import kept_names, opened, scored
from bsm_core.preprocess.columns import TableLike, table_columns
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.runtime.memory import DEFAULT_MAX_CELL_MB
from bsm_core.storage.objects import place
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd


class Predictor(Explaining):
    """A model, and the preprocessing that its artifact describes.

    A predictor can be pickled and copied. Several threads can use it at the same time, and each gets the probabilities
    that it would get alone.

    Args:
        model: The model, in evaluation mode.
        preprocessor: The preprocessor that turns rows into batches.
        hooks: The guards and observers to call.
        artifact: The artifact, without its weights.

    Example:
        Score rows in memory::

            predictor = Predictor.from_artifact("model.tar.gz")
            frame = predictor.predict(rows)  # rows: a frame of pandas or polars, or a table of pyarrow
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
        device = device_of(device)
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
        embeds: bool = False,
    ) -> Predictor:
        """Resolve every name in the config of an artifact, then build its model and its pipelines.

        Args:
            artifact: The artifact.
            batch_size, on_bad_row, max_cell_mb: See :meth:`from_artifact`.
            keep: Columns that batches carry unchanged, the id first.
            source: Table of the rows to score; see :class:`bsm_core.preprocess.dataset.Preprocessor`.
            registry: See :meth:`from_artifact`.
            names: The names in the config, if they are resolved already.
            embeds: Whether the batches of windows ask for :attr:`~bsm_core.Batch.vectors`.

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
        model = build_model(artifact, registry.load(names.model_class, ModelBase), batch_size)
        model.component = names.model_class
        model.set_aside = on_bad_row == "null"
        pipelines = text_pipelines(config, artifact.tokenizer, registry, names)
        tables = artifact.impute, artifact.risk_tables, keep, max_cell_mb, source, artifact.feature_scaling
        preprocessor = Preprocessor(config, pipelines, *tables, embeds)
        artifact.release()
        artifact.explanation_background  # noqa: B018 - is read now, because the folder of an archive is temporary
        return cls(model, preprocessor, hooks, artifact)

    def check_batch(self, rows: Sequence[Mapping[str, str | None]]) -> Batch:
        """Return the batch of an artifact's check rows. A check row has the text of a CSV cell by column."""
        columns = {name: pa.array([row[name] for row in rows], pa.large_string()) for name in self.preprocessor.wanted}
        return self.preprocessor.batch(columns, len(rows), dialect=Dialect())[0]

    @property
    def probability_names(self) -> list[str]:
        """Names of the probability columns of the output."""
        return probability_names(self.model.config.num_classes)

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """Name of each class, in the order of the probabilities, as in scikit-learn.

        The names are those of :attr:`bsm_core.ArtifactConfig.classes`; 0, 1 and so on if the artifact has none.
        """
        return np.array(self.preprocessor.config.classes)

    @property
    def feature_names_in_(self) -> npt.NDArray[Any]:
        """Names of the columns that the artifact reads, as in scikit-learn: features, then text fields."""
        return np.array([*self.preprocessor.wanted], dtype=object)

    def predict(
        self, data: TableLike, on_issue: OnIssue | None = None, *, predicted_class: bool = False
    ) -> pd.DataFrame:
        """Score rows.

        Args:
            data: Table with the columns that the artifact names; other columns are ignored. A frame of pandas, pyarrow
                or polars, or of another library that has Arrow's PyCapsule interface; a dict of columns; or a list of
                dicts, one for each row, in which a value that is not there is missing.
            on_issue: Function that is called with each issue, such as a cell that is not a number, in the order of the
                rows. An :class:`bsm_core.Issue` has these attributes: ``row``, the position of the row in ``data``,
                from 0, and not its label in the index of a frame; ``column``, ``""`` if the whole row is at fault;
                ``stage`` and ``reason``, as in the list of ``--row-issues``; ``value``, the text of the cell, or None.
                Without a function, the first issues are logged.
            predicted_class: Whether to add the column ``predicted_class``: the class of :attr:`classes_` with the
                largest probability.

        Returns:
            A frame of float64 probabilities ``[rows, classes]``: one row for each row of ``data``, in the same order,
            with the index of a pandas DataFrame. With ``on_bad_row="null"``, the probabilities of a row for which the
            model class fails are NaN, and its predicted class is missing.

        Raises:
            UsageError: ``data`` is no table, or ``on_issue`` is no function.
            MissingColumnsError: Columns are missing; the error lists all of them.
            DataError: A column that the artifact names occurs more than once.
            ModelFailedError: The model class raises an error, or returns probabilities that are not numbers.
        """
        issues = IssueTeller(on_issue)
        frame = self._frame(data, issues, predicted_class)
        issues.end()
        return frame

    def predict_proba(self, data: TableLike, on_issue: OnIssue | None = None) -> npt.NDArray[np.float64]:
        """Return the class probabilities of rows as an array, float64 ``[rows, classes]``; see :meth:`predict`."""
        issues = IssueTeller(on_issue)
        _, probabilities, _ = self._scored(data, issues)
        issues.end()
        return probabilities

    @cached_property
    def embedding_sizes(self) -> dict[str, int]:
        """Size of each vector of :meth:`embed`, by name. A row of missing values is encoded to find them.

        Raises:
            UsageError, ModelFailedError: See :meth:`bsm_core.ModelBase.vector_sizes`.
        """
        columns, _ = table_columns(
            pa.table({name: pa.nulls(1) for name in self.preprocessor.wanted}), self.preprocessor.wanted
        )
        batch, _ = self.preprocessor.batch(columns, 1)
        with torch.inference_mode(), naming_arguments():
            return self.model.vector_sizes(batch.to(self.model.device))

    def embed(self, data: TableLike, on_issue: OnIssue | None = None) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors from which the model class computes the scores of rows.

        Args:
            data, on_issue: See :meth:`predict`.

        Returns:
            Arrays, float32 ``[rows, size]``: ``"embedding_<column>"`` for each text field, and ``"embedding"``, the
            vector of the whole row. With ``on_bad_row="null"``, the numbers of a row for which the model class fails
            are NaN.

        Raises:
            UsageError: The model class has no embeddings, or see :meth:`predict`.
            BSMError: See :meth:`predict`.
        """
        issues, sizes = IssueTeller(on_issue), self.embedding_sizes
        batch, probabilities, _ = self._scored(data, issues, vectors={})
        issues.end()
        vectors = batch.vectors
        if not vectors:  # there is no row, or all have failed
            vectors = {name: torch.full((len(probabilities), size), torch.nan) for name, size in sizes.items()}
        return {name: vector_array(vectors[name], [*batch.failed]) for name in sizes}

    def predict_batches(
        self, batches: Iterable[TableLike], on_issue: OnIssue | None = None, *, predicted_class: bool = False
    ) -> Iterator[pd.DataFrame]:
        """Score tables one after the other, each when its result is asked for; one table is in memory at a time.

        Args:
            batches: Tables as :meth:`predict` takes them, such as ``pyarrow.parquet.ParquetFile(path).iter_batches()``
                or ``pandas.read_csv(path, chunksize=4096)``.
            on_issue: See :meth:`predict`; ``row`` counts the rows of all tables.
            predicted_class: See :meth:`predict`.

        Returns:
            Iterator over the result of :meth:`predict` for each table, in order.

        Raises:
            UsageError: ``batches`` is one table, or cannot be iterated; or ``on_issue`` is no function.
            BSMError: See :meth:`predict`; raised while iterating.
        """
        if (
            isinstance(batches, Mapping | str | bytes)
            or hasattr(batches, "columns")
            or not isinstance(batches, Iterable)
        ):
            what = f"a {type(batches).__name__} is no iterable of tables"
            raise UsageError(what, fix="pass several tables, such as a list or a generator of frames; or call predict")
        return self._frames(batches, IssueTeller(on_issue), predicted_class)

    def _frames(
        self, batches: Iterable[TableLike], issues: IssueTeller, predicted_class: bool
    ) -> Iterator[pd.DataFrame]:
        for data in batches:
            yield self._frame(data, issues, predicted_class)
        issues.end()

    def score(
        self,
        data: str | Path,
        *,
        id_field: str | None = None,
        keep_columns: str | Sequence[str] = (),
        predicted_class: bool = False,
        window_rows: int = 4096,
        on_bad_line: Literal["fail", "skip"] = "fail",
        on_issue: OnIssue | None = None,
        **csv: Any,
    ) -> Iterator[pa.Table]:
        """Score the rows of files, as ``bsm run`` reads them. One window of rows is in memory at a time.

        Args:
            data: A file, a folder or a pattern of CSV, TSV, JSON lines or Parquet, by path or URL.
            id_field: The id column. None: the tables have no id.
            keep_columns: Names of the columns to copy, as a list or as a text with commas between them; or ``"all"``.
            predicted_class: See :meth:`predict`.
            window_rows: Number of rows of each table but the last one.
            on_bad_line: Whether a line of text that cannot be read is an error, or is left out, which is an issue of
                the row that follows it.
            on_issue: See :meth:`predict`; ``row`` is the position of the row in all files.
            csv: Settings of CSV and TSV, such as ``csv_delimiter=";"``, which replace those of the artifact's config.

        Returns:
            Iterator over tables with the id, the kept columns, the probabilities and the predicted class, with the
            types that a run writes to Parquet. Rows are in order.

        Raises:
            UsageError: An argument cannot be used.
            MissingColumnsError: Columns are missing; the error lists all of them.
            NoInferenceDataError, MixedFormatsError, DataError: The files cannot be read. An error in a row is raised
                while iterating.
        """
        issues = IssueTeller(on_issue)
        source = opened(data, on_bad_line, self.preprocessor.config.as_mapping(), csv)
        return scored(
            source,
            self.preprocessor,
            self._probabilities,
            issues,
            keep=[*([] if id_field is None else [id_field]), *kept_names(keep_columns)],
            window_rows=window_rows,
            predicted_class=predicted_class,
        )

    def _frame(self, data: TableLike, issues: IssueTeller, predicted_class: bool) -> pd.DataFrame:
        import pandas as pd

        _, probabilities, index = self._scored(data, issues)
        frame = pd.DataFrame(probabilities, columns=self.probability_names, index=index)
        if predicted_class:
            names = predicted_classes(probabilities, self.preprocessor.config.classes)
            frame[PREDICTED_CLASS] = names.to_pandas().to_numpy()
        return frame

    def _scored(
        self, data: TableLike, issues: IssueTeller, vectors: dict[str, torch.Tensor] | None = None
    ) -> tuple[Batch, npt.NDArray[np.float64], pd.Index[Any]]:
        settle_threads()
        columns, index = table_columns(data, self.preprocessor.wanted)
        batch, findings = self.preprocessor.batch(columns, len(index))
        batch = replace(batch, vectors=vectors)
        probabilities = self._probabilities(batch)
        issues.add(findings.with_failed_rows(batch.failed), len(index))
        return batch, probabilities, index

    def _probabilities(self, batch: Batch) -> npt.NDArray[np.float64]:
        with torch.inference_mode(), naming_arguments():
            found: npt.NDArray[np.float64] = self.model.predict_step(batch.to(self.model.device)).cpu().numpy()
        return found
