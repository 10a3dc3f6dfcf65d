"""Records of the components, libraries and files that make a model, and their comparison by ``--strict``."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from bsm_core.artifact import Artifact
from bsm_core.artifact.files import sha256
from bsm_core.artifact.provenance_file import PROVENANCE, ComponentRecord, other_files, write_provenance
from bsm_core.artifact.untrusted.archives.layout import is_read
from bsm_core.errors import ArtifactError, ProvenanceError
from bsm_core.plugins.discovery import Component
from bsm_core.predictor import Predictor
from bsm_core.runtime.versions import DISTRIBUTION, installed
from bsm_core.storage.temporary import is_temporary

_OF_THE_RUN = frozenset({"batch_size"})
"""Parameters that a run sets and that do not change the probabilities."""
_ORIGIN = {"distribution", "version", "object", "source"}
"""Fields of a component's record that tell where it came from."""


def record_of(component: Component, name: str, column: str | None = None, **parameters: Any) -> ComponentRecord:
    """Return the record of one component.

    Args:
        component: The component.
        name: Name in the config.
        column: Text column, of a step.
        parameters: ``given`` and ``used``. A value that JSON cannot hold is replaced by a description.
    """
    return ComponentRecord(
        kind=component.kind,
        name=name,
        column=column,
        distribution=component.provider.distribution,
        version=component.provider.version,
        object=component.target,
        source=source_hash(component),
        **{key: _plain(values) for key, values in parameters.items()},
    )


def components_of(predictor: Predictor) -> list[ComponentRecord]:
    """Return the records of the model class and of the steps of each text field, in order."""
    config, model_class = predictor.model.config, predictor.model.component
    records = []
    if model_class is not None:
        given = config.model_dump(mode="json", include=config.model_fields_set)
        name = predictor.preprocessor.config.model_class
        records.append(record_of(model_class, name, given=given, used=config.model_dump(mode="json")))
    for column, pipeline in predictor.preprocessor.pipelines.items():
        records += [record_of(p.component, p.name, column, given=p.given, used=p.used) for p in pipeline.steps]
    return records


def add_provenance(folder: Path, predictor: Predictor) -> None:
    """Write ``provenance.json``: what makes an artifact here. Call it when all other files are in the folder.

    Args:
        folder: The artifact's folder. An earlier ``provenance.json`` in it is replaced.
        predictor: The artifact's predictor.

    Raises:
        ArtifactError: The record is too large.
    """
    write_provenance(folder, components_of(predictor), installed())


def require_same(artifact: Artifact, predictor: Predictor) -> None:
    """Check that the components, libraries and files are those that the artifact's record names.

    Raises:
        ProvenanceError: There are differences, and the error lists all of them; or the artifact has no record.
        CorruptArtifactError: The record cannot be read.
    """
    then = artifact.provenance
    if then is None:
        raise ProvenanceError(
            "--strict: the artifact has no record of what made it",
            where=PROVENANCE,
            fix="make one with `bsm pack MODEL_DIR NEW`, on a machine where the artifact is known to work",
        )
    differences = [
        *_components(then.components, components_of(predictor)),
        *changes("library", then.versions, installed()),
        *changes("file", _expected(then.files, artifact), other_files(artifact.hashes), shown=12),
    ]
    if differences:
        raise ProvenanceError(
            f"--strict: {len(differences)} thing(s) differ from those that made the artifact",
            where=PROVENANCE,
            details=differences,
            fix="install these versions and restore these files, or run without --strict, with the self-check alone",
        )


def other_packages(artifact: Artifact, predictor: Predictor) -> list[str]:
    """Return a line for each component of a plugin package whose version is not the one that made the artifact.

    Empty where the artifact has no record, or none that can be read.
    """
    try:
        then = artifact.provenance
    except ArtifactError:
        return []
    now = {(each.kind, each.column, each.name): each for each in components_of(predictor)}
    found = []
    for before in then.components if then else ():
        after = now.get((before.kind, before.column, before.name))
        if after is None or after.distribution == before.distribution == DISTRIBUTION:
            continue
        if (before.distribution, before.version) != (after.distribution, after.version):
            made_by = f"{_printable(before.distribution)} {_printable(before.version)}"
            what = f"{before.kind.replace('_', ' ')} {_printable(before.name)}"
            found.append(f"{what}: {made_by} made the artifact, {after.distribution} {after.version} is installed")
    return found


def _components(then: list[ComponentRecord], now: list[ComponentRecord]) -> Iterator[str]:
    places = [[(c.kind, c.column, c.name) for c in records] for records in (then, now)]
    if places[0] != places[1]:
        yield f"components were {_named(then)}, are {_named(now)}"
        return
    for before, after in zip(then, now, strict=True):
        what = f"{before.kind.replace('_', ' ')} {before.name}" + (f" of {before.column!r}" if before.column else "")
        origin, origin_now = (record.model_dump(include=_ORIGIN) for record in (before, after))
        yield from changes(f"{what}:", origin, origin_now, shown=80)
        used, used_now = ({k: v for k, v in r.used.items() if k not in _OF_THE_RUN} for r in (before, after))
        yield from changes(f"{what}: parameter", used, used_now, shown=80)


def changes(what: str, then: Mapping[str, Any], now: Mapping[str, Any], shown: int = 40) -> Iterator[str]:
    """Yield a line for each difference between two records, in which everything but printable ASCII is escaped."""
    for name in {**then, **now}:
        was, now_is = (_printable(side[name])[:shown] if name in side else "not there" for side in (then, now))
        if then.get(name, _printable) != now.get(name, _printable):  # no record holds a function; None is a value
            yield f"{what} {_printable(name)} was {was}, is {now_is}"


def _named(records: list[ComponentRecord]) -> str:
    return ", ".join(record.name for record in records) or "none"


def _printable(value: Any) -> str:
    """Return a text of a record, which may come from anyone, with everything but printable ASCII escaped."""
    return ascii(str(value))[1:-1]


def _plain(values: Any) -> Any:
    """Return values that every reader of JSON accepts: NaN as text, and a question mark for a lone surrogate."""
    text = json.dumps(to_jsonable_python(_sorted(values), fallback=_described, bytes_mode="base64"), ensure_ascii=False)
    return json.loads(text.encode(errors="replace"), parse_constant=str)


def source_hash(component: Component) -> str | None:
    """Return the SHA-256 of the file of a component's module, since an edit may leave the version as it is.

    The module is found, not imported. None if it has no file.
    """
    try:
        spec = importlib.util.find_spec(component.target.partition(":")[0])
    except (ImportError, ValueError):
        return None
    file = Path(spec.origin) if spec and spec.origin else None
    return sha256(file) if file and file.is_file() else None


def _sorted(value: Any) -> Any:
    """Return a value with sets as lists, in an order that is the same in every process."""
    if isinstance(value, set | frozenset):
        return sorted((_sorted(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {key: _sorted(item) for key, item in value.items()}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _described(value: Any) -> str:
    """Return a short description of an object that JSON cannot hold: its type and, of a tokenizer, its size."""
    vocabulary = getattr(value, "vocab_size", None)
    return type(value).__name__ + ("" if vocabulary is None else f" of {vocabulary} tokens")


def _expected(files: Mapping[str, str], artifact: Artifact) -> dict[str, str]:
    """Return the recorded files that must be there: of an archive, only those that are read are extracted."""
    extracted = is_temporary(artifact.folder)
    return {name: digest for name, digest in files.items() if is_read(name) or not extracted}
