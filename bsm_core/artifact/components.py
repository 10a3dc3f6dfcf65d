"""The components that an artifact's config names."""

from __future__ import annotations

from collections.abc import Collection

from bsm_core.artifact.load import Artifact
from bsm_core.artifact.provenance_file import Provenance
from bsm_core.errors import UnknownComponentError
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Named, Registry


def resolve_components(artifact: Artifact, registry: Registry) -> tuple[Component, dict[str, list[Component]]]:
    """Resolve every name in an artifact's config. Nothing is imported.

    Args:
        artifact: The artifact. Its provenance may record which distribution provided a name.
        registry: Registry in which names are resolved.

    Returns:
        The component of the model class, and the components of the steps of each text field, by column.

    Raises:
        UnknownComponentError: No plugin provides a name; the error lists all such names.
        AmbiguousComponentError: Two distributions provide a name.
        RemovedComponentError: A component was removed.
    """
    config = artifact.config
    names: list[tuple[Named, str, str]] = [("model_class", config.model_class, "config.model_class")]
    names += [("step", step.name, f"config.{text.steps_key}") for text in config.text_fields for step in text.steps]
    found: list[Component] = []
    unknown: list[tuple[Named, str]] = []
    errors: list[UnknownComponentError] = []
    for kind, name, where in names:
        try:
            found.append(registry.resolve(kind, name, where=where))
        except UnknownComponentError as error:
            unknown.append((kind, name))
            errors.append(error)
    if errors:
        first, *others = errors
        details = [*first.details, *(f"{error.what} ({error.where})" for error in others)]
        fix = _distributions(artifact.provenance, unknown) or first.fix
        raise type(first)(first.what, where=first.where, details=details, fix=fix)
    model_class, *rest = found
    steps = iter(rest)
    return model_class, {text.column: [next(steps) for _ in text.steps] for text in config.text_fields}


def _distributions(record: Provenance | None, unknown: Collection[tuple[Named, str]]) -> str | None:
    """Return which distributions to install, if the artifact records them."""
    made = [c for c in record.components if (c.kind, c.name) in unknown] if record else []
    wanted = dict.fromkeys(f"{c.distribution}=={c.version}" for c in made)
    return f"the artifact was made with {' and '.join(wanted)}: install that" if wanted else None
