"""What ``bsm inspect`` shows of an artifact, whole or broken."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from bsm_core.artifact.check_rows import CheckRows, read_check_rows
from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.feature_tables import RiskTable, read_impute, read_risk_tables
from bsm_core.artifact.files import (
    HYPERPARAMETERS,
    IMPUTE,
    MODEL_ARTIFACTS,
    RISK_TABLES,
    WEIGHTS,
    check_complete,
    find,
    list_files,
    sha256,
)
from bsm_core.artifact.load import check_config, disagreements, merged_config, versions
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, Part, find_inside, prefix_of
from bsm_core.artifact.provenance_file import read_provenance
from bsm_core.artifact.untrusted.archive import unpacked
from bsm_core.artifact.untrusted.torch_files import read_embedding, read_model_artifacts, read_weights
from bsm_core.errors import BSMError
from bsm_core.plugins.registry import Named, Registry, default_registry

T = TypeVar("T")


@dataclass(frozen=True)
class Description:
    """An artifact, described.

    Attributes:
        path: What was described.
        model_class: Its name in the config.
        text_fields: Of each: ``key``, ``column``, ``steps``, and where in the artifact its ``tokenizer`` and
            ``text_encoder`` are (None: not in it); the latter only where the model class wants one.
        features: Of each: ``name``, ``kind``, ``missing`` (what a missing value becomes) and, for a risk table, the
            number of its ``bins``.
        weights: ``parameters`` (their number), ``bytes``, ``tensors``, ``dtypes``, ``parts`` (parameters by top-level
            module).
        embedding_shape: ``[vocabulary, dimensions]``.
        versions: What it was trained with.
        self_check: Of its check rows, if it has any: their number (``rows``), and the ``precision``, ``device`` and
            ``versions`` they were made with.
        provenance: What made it, as it recorded: ``components`` and ``versions``.
        files: Of each: ``name``, ``bytes``, ``sha256``.
        components: Of the model class and each step: ``kind``, ``name``, and ``provider`` or ``problem``.
        warnings: What is odd, a line each; the artifact loads all the same.
        problems: What is missing or wrong, a line each; empty for an artifact that loads.
    """

    path: str
    model_class: str | None = None
    text_fields: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    embedding_shape: list[int] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    self_check: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dataclasses.asdict(self)

    def to_text(self) -> str:
        """All of it for people."""
        sections = [
            ("artifact", [self.path]),
            ("model class", [self.model_class or "unknown"]),
            ("text fields", [_text_field_line(item) for item in self.text_fields]),
            ("features", [_feature_line(item) for item in self.features]),
            ("weights", _weights_lines(self.weights)),
            ("embedding", [f"{self.embedding_shape}"] if self.embedding_shape else []),
            ("versions", [f"{name} {version}" for name, version in self.versions.items()]),
            ("self-check", [_self_check_line(self.self_check)] if self.self_check else []),
            ("recorded", _recorded_lines(self.provenance) if self.provenance else []),
            ("provided by", [_component_line(item) for item in self.components]),
            ("files", [f"{item['sha256'][:12]}  {_size(item['bytes']):>9}  {item['name']}" for item in self.files]),
            ("warnings", self.warnings),
            ("problems", self.problems or ["none"]),
        ]
        return "\n".join("\n  ".join([title, *lines]) for title, lines in sections if lines)


def describe(path: Path, registry: Registry | None = None) -> Description:
    """Describe an artifact. What is wrong with it is listed, not raised.

    Args:
        path: A folder or an archive.
        registry: Where its components are looked up; the process's own where None.
    """
    try:
        with unpacked(path) as folder:
            return _describe(str(path), folder, registry or default_registry())
    except BSMError as error:
        return Description(str(path), problems=[error.one_line()])


class _Problems(list[str]):
    def guard(self, read: Callable[[], T]) -> T | None:
        """The result of reading; None and a problem where it raises."""
        try:
            return read()
        except BSMError as error:
            if (line := error.one_line()) not in self:
                self.append(line)
            return None


def _describe(path: str, folder: Path, registry: Registry) -> Description:
    problems = _Problems()
    problems.guard(lambda: check_complete(folder))

    def read(names: tuple[str, ...], reader: Callable[[Path], T]) -> T | None:
        return problems.guard(lambda: reader(folder)) if find(folder, names) else None

    model_artifacts = read((MODEL_ARTIFACTS,), read_model_artifacts) or {}
    raw = read((HYPERPARAMETERS,), lambda folder: merged_config(folder, model_artifacts))
    raw = raw or dict(model_artifacts.get("config") or {})
    differing = read((HYPERPARAMETERS,), lambda folder: disagreements(folder, model_artifacts)) or []
    config = problems.guard(lambda: check_config(raw)) if raw else None
    text_columns = [f.column for f in config.text_fields] if config else []
    tables = read(RISK_TABLES, lambda folder: read_risk_tables(folder, text_columns))
    impute = read(IMPUTE, read_impute)
    embedding = problems.guard(lambda: read_embedding(model_artifacts))
    weights = read(WEIGHTS, read_weights)
    rows = problems.guard(lambda: read_check_rows(folder))
    provenance = problems.guard(lambda: read_provenance(folder))
    model_class = raw.get("model_class")
    return Description(
        path=path,
        model_class=model_class if isinstance(model_class, str) else None,
        text_fields=_text_fields(folder, config, wanted_keys(model_class, registry), problems) if config else [],
        features=_features(config, tables or {}, impute or {}) if config else [],
        weights=_weights(weights) if weights else {},
        embedding_shape=None if embedding is None else list(embedding.shape),
        versions=versions(model_artifacts),
        self_check=_self_check(rows) if rows else {},
        provenance=provenance.model_dump(include={"components", "versions"}) if provenance else {},
        files=[
            {"name": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": sha256(file)}
            for file in list_files(folder)
        ],
        components=_components(model_class, config, registry, problems),
        warnings=[f"{HYPERPARAMETERS} and {MODEL_ARTIFACTS} disagree, and the latter counts: {', '.join(differing)}"]
        if differing
        else [],
        problems=list(problems),
    )


def wanted_keys(model_class: Any, registry: Registry) -> frozenset[str] | None:
    """The config keys of the model class; None where it cannot be loaded, which is told elsewhere."""
    try:
        loaded: Any = registry.load(registry.resolve("model_class", str(model_class)), object)
    except BSMError:
        return None
    return frozenset(loaded.Config.model_fields) if hasattr(loaded, "Config") else None


def _text_fields(
    folder: Path, config: ArtifactConfig, wanted: Collection[str] | None, problems: _Problems
) -> list[dict[str, Any]]:
    values = config.as_mapping()

    def place(part: Part, prefix: str) -> str | None:
        found = problems.guard(lambda: find_inside(part, folder, values, prefix))
        return found.folder.relative_to(folder).as_posix() if found else None

    described = []
    for text_field in config.text_fields:
        prefix = prefix_of(text_field)
        tokenizer = place(TOKENIZER, prefix)
        name = values.get(f"{prefix}tokenizer") or config.tokenizer
        if name and tokenizer is None:
            problems.append(
                f"{text_field.key}: the tokenizer is not in the artifact; {name!r} will be looked for on this machine"
                " and on the hub (`bsm pack` puts it in)"
            )
        item = {
            "key": text_field.key,
            "column": text_field.column,
            "steps": [step.name for step in text_field.steps],
            "tokenizer": tokenizer,
        }
        if wanted is None or {"text_encoder", f"{prefix}text_encoder"} & set(wanted):
            item["text_encoder"] = place(ENCODER, prefix)
        described.append(item)
    return described


def _features(
    config: ArtifactConfig, tables: Mapping[str, RiskTable], impute: Mapping[str, float]
) -> list[dict[str, Any]]:
    described: list[dict[str, Any]] = []
    for name in config.tab_field_list:
        if name in tables:
            table = tables[name]
            missing = next((table["bins"][key] for key in ("nan", "") if key in table["bins"]), table["default_bin"])
            described.append({"name": name, "kind": "risk table", "bins": len(table["bins"]), "missing": missing})
        else:
            described.append({"name": name, "kind": "number", "missing": impute.get(name, -1.0)})
    return described


def _weights(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    parts: Counter[str] = Counter()
    for key, value in weights.items():
        parts[key.partition(".")[0]] += value.numel()
    return {
        "parameters": sum(value.numel() for value in weights.values()),
        "bytes": sum(value.nbytes for value in weights.values()),
        "tensors": len(weights),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()}),
        "parts": dict(sorted(parts.items())),
    }


def _self_check(rows: CheckRows) -> dict[str, Any]:
    return {"rows": len(rows.rows), **rows.model_dump(include={"precision", "device", "versions"})}


def _components(
    model_class: Any, config: ArtifactConfig | None, registry: Registry, problems: _Problems
) -> list[dict[str, Any]]:
    wanted: dict[tuple[Named, str], str] = {}
    if isinstance(model_class, str):
        wanted["model_class", model_class] = "config.model_class"
    for text_field in config.text_fields if config else ():
        for step in text_field.steps:
            wanted.setdefault(("step", step.name), f"config.{text_field.steps_key}")
    described = []
    for (kind, name), where in wanted.items():
        item: dict[str, Any] = {"kind": kind, "name": name, "provider": None, "problem": None}
        try:
            item["provider"] = registry.resolve(kind, name, where=where).origin
        except BSMError as error:
            item["problem"] = error.one_line()
            problems.append(error.one_line())
        described.append(item)
    return described


def _text_field_line(item: Mapping[str, Any]) -> str:
    inside = [
        f"{part}: {item[part] or 'not in the artifact'}" for part in ("tokenizer", "text_encoder") if part in item
    ]
    return f"{item['column']} ({item['key']}): {' > '.join(item['steps'])}; {', '.join(inside)}"


def _feature_line(item: Mapping[str, Any]) -> str:
    kind = f"risk table of {item['bins']} bins" if "bins" in item else item["kind"]
    return f"{item['name']}: {kind}, missing becomes {item['missing']:g}"


def _weights_lines(weights: Mapping[str, Any]) -> list[str]:
    if not weights:
        return []
    total = (
        f"{weights['parameters']:,} parameters, {_size(weights['bytes'])}, "
        f"{weights['tensors']} tensors of {', '.join(weights['dtypes'])}"
    )
    return [total, *(f"{name}: {count:,}" for name, count in weights["parts"].items())]


def _self_check_line(item: Mapping[str, Any]) -> str:
    made_with = ", ".join(f"{name} {version}" for name, version in item["versions"].items())
    return f"{item['rows']} row(s), {item['precision']} on {item['device']}, {made_with}"


def _recorded_lines(recorded: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{item['kind'].replace('_', ' ')} {item['name']}: {item['distribution']}=={item['version']}:{item['object']}"
        for item in recorded["components"]
    ]
    return [*lines, ", ".join(f"{name} {version}" for name, version in recorded["versions"].items())]


def _component_line(item: Mapping[str, Any]) -> str:
    answer = item["provider"] or "not found, see problems"
    return f"{item['kind'].replace('_', ' ')} {item['name']}: {answer}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
