"""What a model and its pipelines are made of: recorded in artifacts and runs, and compared by ``--strict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from bsm_core.artifact import Artifact
from bsm_core.artifact.files import FileHashes, sha256
from bsm_core.artifact.provenance_file import (
    PROVENANCE,
    ComponentRecord,
    Provenance,
    other_files,
    write_provenance,
)
from bsm_core.errors import ProvenanceError
from bsm_core.plugins.discovery import Component
from bsm_core.predictor import Predictor
from bsm_core.runtime.versions import installed

_OF_THE_RUN = frozenset({"batch_size"})
"""Parameters that a run sets, and that no number depends on."""


def record_of(component: Component, name: str, column: str | None = None, **parameters: Any) -> ComponentRecord:
    """One component as records have it.

    Args:
        component: The component.
        name: The name that the config has.
        column: The text column, of a step.
        parameters: ``given`` and ``used``; what is no JSON value is described.
    """
    return ComponentRecord(
        kind=component.kind,
        name=name,
        column=column,
        distribution=component.provider.distribution,
        version=component.provider.version,
        object=component.target,
        source=_source(component),
        **{key: _plain(values) for key, values in parameters.items()},
    )


def components_of(predictor: Predictor) -> list[ComponentRecord]:
    """The model class, then the steps of each text field in order."""
    config, model_class = predictor.model.config, predictor.model.component
    records = []
    if model_class is not None:
        given = config.model_dump(mode="json", include=config.model_fields_set)
        name = predictor.preprocessor.config.model_class
        records.append(record_of(model_class, name, given=given, used=config.model_dump(mode="json")))
    for column, pipeline in predictor.preprocessor.pipelines.items():
        records += [record_of(p.component, p.name, column, given=p.given, used=p.used) for p in pipeline.parts]
    return records


def add_provenance(folder: Path, predictor: Predictor) -> None:
    """Write ``provenance.json``: what makes an artifact here. Call it when all other files are in the folder.

    Args:
        folder: The artifact's folder. An earlier ``provenance.json`` in it is replaced.
        predictor: The artifact's predictor.

    Raises:
        ArtifactError: The record is too large.
    """
    files = other_files(FileHashes(folder))
    write_provenance(folder, Provenance(components=components_of(predictor), versions=installed(), files=files))


def require_same(artifact: Artifact, predictor: Predictor) -> None:
    """An artifact must be made here of what it was made of when it was recorded.

    Raises:
        ProvenanceError: It is not, or recorded nothing; it lists every difference.
        CorruptArtifactError: The record cannot be read.
    """
    then = artifact.provenance
    if then is None:
        raise ProvenanceError(
            "--strict: the artifact does not say what made it",
            where=PROVENANCE,
            fix="`bsm pack MODEL_DIR NEW` records it, where the artifact is known to be right",
        )
    differences = [
        *_components(then.components, components_of(predictor)),
        *_changes("library {}", then.versions, installed()),
        *_changes("file {}", then.files, other_files(artifact.hashes), shown=12),
    ]
    if differences:
        raise ProvenanceError(
            f"--strict: {len(differences)} thing(s) are not what the artifact was made of",
            where=PROVENANCE,
            details=differences,
            fix="install what it names, or bring its files back; without --strict the self-check alone decides",
        )


def _components(then: list[ComponentRecord], now: list[ComponentRecord]) -> Iterator[str]:
    places = [[(c.kind, c.column, c.name) for c in records] for records in (then, now)]
    if places[0] != places[1]:
        yield f"components were {_named(then)}, are {_named(now)}"
        return
    for before, after in zip(then, now, strict=True):
        what = f"{before.kind.replace('_', ' ')} {before.name}" + (f" of {before.column!r}" if before.column else "")
        for key in ("distribution", "version", "object", "source"):
            was, now_is = (str(getattr(record, key))[:80] for record in (before, after))
            if was != now_is:
                yield f"{what}: {key} was {was}, is {now_is}"
        was_used, is_used = ({k: v for k, v in r.used.items() if k not in _OF_THE_RUN} for r in (before, after))
        yield from _changes(f"{what}: parameter {{}}", was_used, is_used, shown=80)


def _changes(what: str, then: Mapping[str, Any], now: Mapping[str, Any], shown: int = 40) -> Iterator[str]:
    for name in {**then, **now}:
        was, now_is = (_printable(side[name])[:shown] if name in side else "not there" for side in (then, now))
        if then.get(name, _printable) != now.get(name, _printable):  # which no record holds: null is a value
            yield f"{what.format(_printable(name))} was {was}, is {now_is}"


def _named(records: list[ComponentRecord]) -> str:
    return ", ".join(record.name for record in records) or "none"


def _printable(value: Any) -> str:
    """A stranger's words, fit for a terminal."""
    return ascii(str(value))[1:-1]


def _plain(values: Any) -> Any:
    """JSON values that every reader of JSON takes: NaN as text, and of lone surrogates question marks."""
    text = json.dumps(to_jsonable_python(_sorted(values), fallback=_described, bytes_mode="base64"), ensure_ascii=False)
    return json.loads(text.encode(errors="replace"), parse_constant=str)


def _source(component: Component) -> str | None:
    """The digest of the file of a component's module, which was imported; an edit need not change its version."""
    module = sys.modules.get(component.target.partition(":")[0])
    file = getattr(module, "__file__", None)
    return sha256(Path(file)) if file and Path(file).is_file() else None


def _sorted(value: Any) -> Any:
    """Sets as lists in an order that is the same in every process."""
    if isinstance(value, set | frozenset):
        return sorted((_sorted(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {key: _sorted(item) for key, item in value.items()}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _described(value: Any) -> str:
    """An object that is no JSON value; of a tokenizer, what tells two apart at a glance."""
    vocabulary = getattr(value, "vocab_size", None)
    return type(value).__name__ + ("" if vocabulary is None else f" of {vocabulary} tokens")
