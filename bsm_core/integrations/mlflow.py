"""Artifacts as models of MLflow, which ``mlflow.pyfunc``, ``mlflow models serve`` and Spark can score with.

A model of MLflow is a folder with a file ``MLmodel`` that names this module; MLflow calls its :func:`_load_pyfunc`. So
the folder holds the packed artifact, and no code.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from bsm_core.artifact import Artifact, pack
from bsm_core.errors import UsageError
from bsm_core.predictor import Predictor
from bsm_core.preprocess.columns import TableLike
from bsm_core.runtime.versions import DISTRIBUTION, __version__, installed
from bsm_core.scoring.provenance import components_of
from bsm_core.storage.objects import place

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo

_LONGEST_TAG = 5_000
"""Characters that MLflow keeps of a tag."""
_CONFIG = {"device": "cpu", "precision": "auto", "backend": "auto", "batch_size": None, "on_bad_row": "fail"}
"""Arguments of :meth:`bsm_core.Predictor.from_artifact`, which ``load_model(uri, model_config={...})`` can replace."""


def save_model(
    artifact: str | Path, path: str | Path, *, metadata: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Save an artifact as a model of MLflow, in a new folder.

    The artifact is packed first, so that the model needs nothing from outside, and loaded once.

    Args:
        artifact: The artifact: a folder or a ``model.tar.gz``, by path or URL.
        path: The new folder.
        metadata: Metadata of the model, beside the tags that say what made the artifact.
        options: Further arguments of ``mlflow.pyfunc.save_model``, such as ``input_example``, ``code_paths`` or
            ``pip_requirements``. Without the last one, the requirements are the present versions of bsm, of the
            distributions of the artifact's plugins, and of the libraries.

    Raises:
        UsageError: MLflow is not installed.
        BSMError: The artifact cannot be packed or loaded.
    """
    with _prepared(artifact) as (arguments, tags):
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(str(path), metadata={**tags, **(metadata or {})}, **{**arguments, **options})


def log_model(
    artifact: str | Path,
    name: str = "model",
    *,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> ModelInfo:
    """Log an artifact as a model of MLflow, in the active run or a new one; see :func:`save_model`.

    The model has tags that say what made the artifact: ``bsm.model_class``, ``bsm.files`` (a SHA-256 of all files),
    ``bsm.components`` and, for each library, ``bsm.trained_with.<library>``.

    Args:
        artifact: See :func:`save_model`.
        name: Name of the model.
        metadata: See :func:`save_model`.
        tags: Tags of the model, beside those above.
        options: Further arguments of ``mlflow.pyfunc.log_model``, such as ``registered_model_name``.

    Returns:
        The ``ModelInfo`` of MLflow, whose ``model_uri`` loads the model.

    Raises:
        UsageError: MLflow is not installed.
        BSMError: The artifact cannot be packed or loaded.
    """
    with _prepared(artifact) as (arguments, own):
        import mlflow.pyfunc

        told = {"metadata": {**own, **(metadata or {})}, "tags": {**own, **(tags or {})}}
        logged: ModelInfo = mlflow.pyfunc.log_model(name=name, **told, **{**arguments, **options})
        return logged


class PyFuncPredictor:
    """Model implementation for ``mlflow.pyfunc``.

    Args:
        predictor: The predictor of the artifact.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: TableLike) -> pd.DataFrame:
        """Return the probabilities of rows; see :meth:`bsm_core.Predictor.predict`."""
        return self.predictor.predict(model_input)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PyFuncPredictor:
    """Load a model for MLflow, which looks for a function of this name.

    Args:
        path: The artifact in the folder of the model.
        model_config: Arguments of :meth:`bsm_core.Predictor.from_artifact`.
    """
    return PyFuncPredictor(Predictor.from_artifact(path, **(model_config or {})))


@contextmanager
def _prepared(artifact: str | Path) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Pack an artifact; provide the arguments for MLflow, and the tags of the model."""
    if find_spec("mlflow") is None:
        raise UsageError("bsm_core.integrations.mlflow needs MLflow", fix="pip install 'bsm-core[mlflow]'")
    with tempfile.TemporaryDirectory(prefix="bsm-mlflow-") as work:
        folder = pack(place(artifact), Path(work, "artifact"), safe_only=True)
        predictor = Predictor.open(folder)
        arguments = {
            "loader_module": __name__,
            "data_path": str(folder),
            "signature": signature_of(predictor),
            "pip_requirements": requirements_of(predictor),
            "model_config": _CONFIG,
        }
        yield arguments, tags_of(Artifact.at(folder), predictor)


def signature_of(predictor: Predictor) -> ModelSignature:
    """Return the signature of a model: the columns that it reads, and a float64 column for each class.

    The columns have the type "any": numbers may be integers, floats or text, each with missing values, and MLflow would
    refuse a column of integers where its type says float64.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[Any] = [ColSpec(anything, name) for name in predictor.feature_names_in_]
    outputs: list[Any] = [ColSpec(DataType.double, name) for name in predictor.probability_names]
    return ModelSignature(Schema(inputs), Schema(outputs))


def requirements_of(predictor: Predictor) -> list[str]:
    """Return requirements for pip: the present versions of the artifact's plugins, of bsm and of the libraries."""
    versions = {record.distribution: record.version for record in components_of(predictor)}
    versions |= {name: version for name, version in installed().items() if name != "python"}
    versions[DISTRIBUTION] = __version__
    return sorted(f"{name}=={public}" for name, version in versions.items() if (public := _public(version)))


def tags_of(artifact: Artifact, predictor: Predictor) -> dict[str, str]:
    """Return what made an artifact, as tags of MLflow."""
    tags = {
        "bsm.model_class": artifact.config.model_class,
        "bsm.classes": ", ".join(map(str, artifact.config.classes)),
        "bsm.version": __version__,
        "bsm.files": hashlib.sha256(json.dumps(dict(artifact.hashes), sort_keys=True).encode()).hexdigest(),
    }
    provenance = artifact.provenance
    records, versions = (provenance.components, provenance.versions) if provenance else (components_of(predictor), {})
    named = (f"{record.kind} {record.name} of {record.distribution} {record.version}" for record in records)
    tags["bsm.components"] = "; ".join(dict.fromkeys(named))
    tags |= {f"bsm.trained_with.{name}": version for name, version in versions.items()}
    return {key: value[:_LONGEST_TAG] for key, value in tags.items()}


def _public(version: str) -> str | None:
    """Return a version without its local part, such as ``+cpu``, which no index has; None if it is unknown."""
    try:
        return Version(version).public
    except InvalidVersion:
        return None
