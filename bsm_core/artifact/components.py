"""The components that an artifact's config names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.provenance_file import read_provenance
from bsm_core.errors import UnknownComponentError
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Named, Registry


@dataclass(frozen=True)
class ArtifactComponents:
    """The components that an artifact's config names.

    Attributes:
        model_class: Component of the model class.
        steps: Components of the steps of each text field, by column.
    """

    model_class: Component
    steps: Mapping[str, Sequence[Component]]

    @property
    def distinct(self) -> list[Component]:
        """The model class and the steps, each component once."""
        return list(dict.fromkeys([self.model_class, *chain.from_iterable(self.steps.values())]))

    @classmethod
    def resolve(cls, config: ArtifactConfig, folder: Path, registry: Registry) -> ArtifactComponents:
        """Resolve all names of a config. Nothing is imported.

        Args:
            config: The artifact's config.
            folder: Folder of the artifact. Its ``provenance.json`` may record which distribution provided a name.
            registry: Registry in which names are resolved.

        Raises:
            UnknownComponentError: No plugin provides a name; the error lists all such names.
            AmbiguousComponentError: Two distributions provide a name.
            RemovedComponentError: A component was removed.
        """
        names: list[tuple[Named, str, str]] = [("model_class", config.model_class, "config.model_class")]
        names += [("step", step.name, f"config.{t.steps_key}") for t in config.text_fields for step in t.steps]
        found: list[Component] = []
        missing: list[tuple[Named, str]] = []
        errors: list[UnknownComponentError] = []
        for kind, name, where in names:
            try:
                found.append(registry.resolve(kind, name, where=where))
            except UnknownComponentError as error:
                missing.append((kind, name))
                errors.append(error)
        if errors:
            first, *others = errors
            raise type(first)(
                first.what,
                where=first.where,
                details=[*first.details, *(f"{error.what} ({error.where})" for error in others)],
                fix=_fix(folder, missing) or first.fix,
            )
        model_class, steps = found[0], iter(found[1:])
        return cls(model_class, {text.column: [next(steps) for _ in text.steps] for text in config.text_fields})


def _fix(folder: Path, missing: Collection[tuple[Named, str]]) -> str | None:
    """Return which distributions to install, if the artifact records them."""
    record = read_provenance(folder)
    made = [c for c in record.components if (c.kind, c.name) in missing] if record else []
    wanted = dict.fromkeys(f"{c.distribution}=={c.version}" for c in made)
    return f"the artifact was made with {' and '.join(wanted)}: install that" if wanted else None
