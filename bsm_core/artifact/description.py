"""Description of an artifact, complete or broken, as ``bsm inspect`` shows it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.features.feature_scaling import FeatureScaling, OneHot
from bsm_core.artifact.features.feature_tables import MISSING_NUMBER, RiskTableValues, read_risk_tables, risk_of_missing
from bsm_core.artifact.files import HYPERPARAMETERS, MODEL_ARTIFACTS, WEIGHTS, find, require_artifact
from bsm_core.artifact.load import Artifact, check_config
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, TextAsset, find_inside
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.artifact.training_distributions import TrainingDistributions
from bsm_core.artifact.untrusted.archives.archive import unpacked
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.errors import BSMError, MissingArtifactFilesError, printable
from bsm_core.plugins.registry import Registry, default_registry

T = TypeVar("T")
_LACKING = f"{MissingArtifactFilesError.__name__}: "
_CHECKED_WITH = {"precision", "device", "versions"}


@dataclass(frozen=True)
class Description:
    """Description of an artifact. What cannot be read is empty or None.

    Attributes:
        path: The artifact's path, as given.
        model_class: Name of the model class in the config.
        compat: ``"original"`` if the artifact has the scores of the original project's scripts.
        tables: Keys of the config about the tables that it scores, such as ``csv_delimiter``, with their values.
        text_fields: For each text field its ``key``, ``column`` and ``steps``, and the folders of its ``tokenizer`` and
            ``text_encoder`` in the artifact, None for a folder that is not there. ``text_encoder`` is left out where
            the model class needs none.
        features: For each feature its ``name`` and its ``kind``; the value of a ``missing`` cell and, for a risk table,
            the number of its ``bins``; the number of ``categories`` of a feature with an input for each; and, where
            features are scaled, the ``scaling`` and the names of its ``inputs`` of the model.
        weights: Number of ``parameters`` (with those of buffers), of ``bytes`` and of ``tensors``, the ``dtypes``, and
            the number of parameters of each top-level module (``parts``).
        embedding_shape: ``[vocabulary, dimensions]``.
        versions: Versions of the libraries that the artifact was trained with.
        self_check: Number of check ``rows``, and the ``precision``, ``device`` and ``versions`` that their
            probabilities were computed with.
        training: Number of training ``rows``, of those of each class (``classes``), of ``features`` whose distribution
            is recorded, and of ``validation_rows`` whose scores are.
        provenance: ``components`` and ``versions`` that made the artifact, as recorded in it.
        files: ``name``, ``bytes`` and ``sha256`` of each file.
        components: For the model class and each step its ``kind``, its ``name``, and ``provider`` or ``problem``.
        warnings: Oddities that do not keep the artifact from loading, one line each.
        problems: Missing and wrong things, one line each; empty for an artifact that loads.
    """

    path: str
    model_class: str | None = None
    compat: str | None = None
    tables: dict[str, Any] = field(default_factory=dict)
    text_fields: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    embedding_shape: list[int] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    self_check: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        return dataclasses.asdict(self)

    def to_text(self) -> str:
        """Return the description as text for people. No name in it can look like several lines, or like a section."""
        sections = [
            ("artifact", [self.path]),
            ("model class", [self.model_class or "unknown"]),
            ("compat", [self.compat] if self.compat else []),
            ("tables", [f"{key}: {value!r}" for key, value in self.tables.items()]),
            ("text fields", [_text_field_line(item) for item in self.text_fields]),
            ("features", [_feature_line(item) for item in self.features]),
            ("weights", _weights_lines(self.weights) if self.weights else []),
            ("embedding", [f"{self.embedding_shape}"] if self.embedding_shape else []),
            ("versions", [f"{name} {version}" for name, version in self.versions.items()]),
            ("self-check", [_self_check_line(self.self_check)] if self.self_check else []),
            ("distributions of training", [_training_line(self.training)] if self.training else []),
            ("made with", [_versions_line(self.provenance["versions"])] if self.provenance else []),
            ("provided by", [_component_line(item, self.provenance) for item in self.components]),
            ("files", [f"{item['sha256'][:12]}  {_size(item['bytes']):>9}  {item['name']}" for item in self.files]),
            ("warnings", self.warnings),
            ("problems", self.problems or ["none"]),
        ]
        return "\n".join("\n  ".join([title, *map(printable, lines)]) for title, lines in sections if lines)


def describe(
    path: Path, registry: Registry | None = None, *, try_out: Callable[[Artifact], object] = lambda artifact: None
) -> Description:
    """Describe an artifact. An error in it becomes one of the description's problems and is not raised.

    Args:
        path: A folder or an archive.
        registry: Where the artifact's components are looked up; the default registry where None.
        try_out: Called with the artifact if no problem was found. An error that it raises becomes a problem.
    """
    try:
        with unpacked(path) as folder:
            description = _describe(str(path), Artifact.at(folder), registry or default_registry(), try_out)
            named = [problem.replace(str(folder), str(path)) for problem in description.problems]
            description = dataclasses.replace(description, problems=named)
        if lacking := [problem for problem in description.problems if problem.startswith(_LACKING)]:
            description.problems[description.problems.index(lacking[0])] = _explained(path, lacking[0])
        return description
    except BSMError as error:
        return Description(str(path), problems=[error.one_line()])


def _explained(path: Path, problem: str) -> str:
    """Return the error about missing files once more: raised where it is known what else an archive holds."""
    try:
        with unpacked(path) as folder:
            require_artifact(folder)
    except BSMError as error:
        return error.one_line()
    return problem


class _Problems(list[str]):
    def guard(self, read: Callable[[], T]) -> T | None:
        """Return what ``read`` returns; if it raises, note the error as a problem and return None."""
        try:
            return read()
        except BSMError as error:
            if (line := error.one_line()) not in self:
                self.append(line)
            return None


def _describe(path: str, artifact: Artifact, registry: Registry, try_out: Callable[[Artifact], object]) -> Description:
    folder, problems = artifact.folder, _Problems()
    problems.guard(lambda: require_artifact(folder))
    is_whole = not problems

    def read(attribute: str, *names: str) -> Any:
        """Return an attribute of the artifact; None if its file is missing, which is a problem already, or broken."""
        return problems.guard(lambda: getattr(artifact, attribute)) if not names or find(folder, names) else None

    hyperparameters = read("hyperparameters", HYPERPARAMETERS) or {}
    model_artifacts = read("model_artifacts", MODEL_ARTIFACTS)
    overriding = model_artifacts["config"] if model_artifacts else {}
    raw = hyperparameters | overriding
    config = problems.guard(lambda: check_config(raw)) if raw else None
    if config:
        vars(artifact).setdefault("config", config)  # one file of the config is enough to read the risk tables
        tables, missing = read("risk_tables"), problems.guard(artifact.missing_tables) if is_whole else None
    else:
        tables, missing = problems.guard(lambda: read_risk_tables(folder)), None
    impute, weights, rows = read("impute"), read("weights", *WEIGHTS), read("check_rows")
    scaling = read("feature_scaling") if config else None
    embedding = read("embedding_mat") if model_artifacts else None
    provenance, distributions = read("provenance"), read("training_distributions")
    model_class = raw["model_class"] if isinstance(raw.get("model_class"), str) else None
    names = artifact.names(registry) if config else ResolvedNames(registry, model_class)
    names.explain(provenance)
    text_fields = _text_fields(folder, config, wanted_keys(names, registry), problems) if config else []
    tokenizers = sorted({item["tokenizer"] for item in text_fields if item["tokenizer"]})
    compat = problems.guard(artifact.undecided_compat) if config and model_artifacts else None
    warnings: list[str] = []
    for name in tokenizers:
        problems.guard(partial(load_tokenizer, folder / name, name, warnings.append))
    description = Description(
        path=path,
        model_class=model_class,
        compat=config.compat if config else None,
        tables={key: value for key, value in raw.items() if key.startswith("csv_")},
        text_fields=text_fields,
        features=_features(config, tables or {}, impute or {}, scaling) if config else [],
        weights=_weights(weights) if weights else {},
        embedding_shape=None if embedding is None else list(embedding.shape),
        versions=artifact.versions if model_artifacts else {},
        self_check={"rows": len(rows.rows), **rows.model_dump(include=_CHECKED_WITH)} if rows else {},
        training=_training(distributions) if distributions else {},
        provenance=provenance.model_dump(include={"components", "versions"}) if provenance else {},
        files=[
            {"name": name, "bytes": (folder / name).stat().st_size, "sha256": digest}
            for name, digest in artifact.hashes.items()
        ],
        components=_components(names, problems),
        warnings=[*_disagreements(hyperparameters, overriding), *(missing or []), *(compat or []), *warnings],
        problems=problems,
    )
    if not problems:
        problems.guard(lambda: try_out(artifact))
    return description


def _disagreements(hyperparameters: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    keys = sorted(key for key in hyperparameters.keys() & config.keys() if hyperparameters[key] != config[key])
    return [f"{HYPERPARAMETERS} and {MODEL_ARTIFACTS} disagree, and the latter counts: {', '.join(keys)}"] * bool(keys)


def wanted_keys(names: ResolvedNames, registry: Registry) -> frozenset[str] | None:
    """Return the config keys of the model class; None if it cannot be loaded, which is reported elsewhere."""
    try:
        loaded: Any = registry.load(names.model_class, object)
    except BSMError:
        return None
    return frozenset(loaded.Config.model_fields) if hasattr(loaded, "Config") else None


def _text_fields(
    folder: Path, config: ArtifactConfig, wanted: Collection[str] | None, problems: _Problems
) -> list[dict[str, Any]]:
    values = config.as_mapping()

    def place(asset: TextAsset, prefix: str) -> str | None:
        found = problems.guard(lambda: find_inside(asset, folder, values, prefix))
        return found.folder.relative_to(folder).as_posix() if found else None

    described = []
    for text_field in config.text_fields:
        prefix = text_field.prefix
        tokenizer = place(TOKENIZER, prefix)
        name = values.get(f"{prefix}tokenizer") or config.tokenizer
        if name and tokenizer is None:
            problems.append(
                f"{text_field.key}: the tokenizer is not in the artifact; {name!r} will be looked for on this machine"
                " and on the Hugging Face hub (`bsm pack` adds it to the artifact)"
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
    config: ArtifactConfig,
    tables: Mapping[str, RiskTableValues],
    impute: Mapping[str, float],
    scaling: FeatureScaling | None,
) -> list[dict[str, Any]]:
    described: list[dict[str, Any]] = []
    if config.compat == "original":
        impute = {}  # -1 replaces missing numbers before they are imputed
    known = scaling.features if scaling else {}
    for name in config.tab_field_list:
        found = known.get(name)
        if isinstance(found, OneHot):
            described.append({"name": name, "kind": "one-hot", "categories": len(found.categories)})
        elif table := tables.get(name):
            missing = risk_of_missing(table["bins"], table["default_bin"])
            described.append({"name": name, "kind": "risk table", "bins": len(table["bins"]), "missing": missing})
        else:
            described.append({"name": name, "kind": "number", "missing": impute.get(name, MISSING_NUMBER)})
        if found:
            described[-1] |= {"scaling": found.kind, "inputs": list(found.input_names(name))}
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


def _components(names: ResolvedNames, problems: _Problems) -> list[dict[str, Any]]:
    described = []
    for (kind, name), found in names.found.items():
        if isinstance(found, BSMError):
            provider, problem = None, found.one_line()
            problems.append(problem)
        else:
            provider, problem = found.origin, None
        described.append({"kind": kind, "name": name, "provider": provider, "problem": problem})
    return described


def _text_field_line(item: Mapping[str, Any]) -> str:
    inside = [
        f"{part}: {item[part] or 'not in the artifact'}" for part in ("tokenizer", "text_encoder") if part in item
    ]
    return f"{item['column']} ({item['key']}): {' > '.join(item['steps'])}; {', '.join(inside)}"


def _feature_line(item: Mapping[str, Any]) -> str:
    if "categories" in item:
        return f"{item['name']}: an input for each of {item['categories']} categories"
    kind = f"risk table of {item['bins']} bins" if "bins" in item else item["kind"]
    scaled = f", scaling: {item['scaling']}" if item.get("scaling", "none") != "none" else ""
    more = ", an input says what is missing" if len(item.get("inputs", ())) > 1 else ""
    return f"{item['name']}: {kind}, missing becomes {item['missing']:g}{scaled}{more}"


def _weights_lines(weights: Mapping[str, Any]) -> list[str]:
    total = (
        f"{weights['parameters']:,} parameters and buffers, {_size(weights['bytes'])}, "
        f"{weights['tensors']} tensors of {', '.join(weights['dtypes'])}"
    )
    return [total, *(f"{name}: {count:,}" for name, count in weights["parts"].items())]


def _self_check_line(item: Mapping[str, Any]) -> str:
    return f"{item['rows']} row(s), {item['precision']} on {item['device']}, {_versions_line(item['versions'])}"


def _training(found: TrainingDistributions) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "classes": found.classes,
        "features": len(found.numbers) + len(found.categories),
        "validation_rows": sum(found.scores[0]) if found.scores else 0,
    }


def _training_line(item: Mapping[str, Any]) -> str:
    classes = ", ".join(f"{rows:,}" for rows in item["classes"])
    scores = f", scores of {item['validation_rows']:,} validation rows" if item["validation_rows"] else ""
    return f"{item['rows']:,} rows ({classes} by class), {item['features']:,} features{scores}"


def _versions_line(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _component_line(item: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """Return a line of what provides a component here and, if that was another when the artifact was made, then."""
    then = {
        f"{made['distribution']}=={made['version']}:{made['object']}"
        for made in recorded.get("components", ())
        if (made["kind"], made["name"]) == (item["kind"], item["name"])
    } - {item["provider"]}
    answer = item["provider"] or "not found, see problems"
    changed = f" (recorded: {', '.join(sorted(then))})" if then else ""
    return f"{item['kind'].replace('_', ' ')} {item['name']}: {answer}{changed}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
