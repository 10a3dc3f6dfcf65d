"""Names in a config, resolved: the components of the model class and of the text steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from bsm_core.artifact.config import TextField
from bsm_core.artifact.provenance_file import Provenance
from bsm_core.errors import PluginError, UnknownComponentError
from bsm_core.plugins.discovery import Component, Provider
from bsm_core.plugins.registry import Named, Registry


class ResolvedNames:
    """Components of the names in a config. Each name is resolved once, and no component is imported.

    Args:
        registry: Registry in which names are resolved.
        model_class: Name of the model class; None to resolve steps only.
        text_fields: Text fields whose steps are resolved.

    Attributes:
        found: By kind and name, in the order of the config: the component, or the error of a name that has none.
    """

    def __init__(self, registry: Registry, model_class: str | None, text_fields: Iterable[TextField] = ()) -> None:
        self.found: dict[tuple[Named, str], Component | PluginError] = {}
        self._registry, self._model_class = registry, model_class
        if model_class is not None:
            self._resolve("model_class", model_class, "config.model_class")
        self.add_steps(text_fields)

    def add_steps(self, text_fields: Iterable[TextField]) -> None:
        """Resolve the names of the steps of further text fields."""
        for text in text_fields:
            for step in text.steps:
                self._resolve("step", step.name, f"config.{text.steps_key}")

    @property
    def model_class(self) -> Component:
        """Component of the model class; the error of its name is raised."""
        return self._component("model_class", str(self._model_class))

    def steps(self, text: TextField) -> list[Component]:
        """Return the components of the steps of a text field; the error of a name is raised."""
        return [self._component("step", step.name) for step in text.steps]

    def require_all(self, record: Callable[[], Provenance | None] = lambda: None) -> None:
        """Check that every name has a component.

        Args:
            record: Called if names are unknown. Returns the record of what made the artifact, from which the error
                takes the distributions that provided them.

        Raises:
            UnknownComponentError: No plugin provides a name; the error lists all such names.
            AmbiguousComponentError: Two distributions provide a name.
            RemovedComponentError: A component was removed.
            ComponentLoadError: A name is an alias of a name that its distribution does not provide.
        """
        errors = {key: found for key, found in self.found.items() if isinstance(found, PluginError)}
        for error in errors.values():
            if not isinstance(error, UnknownComponentError):
                raise error
        if errors:
            first, *others = errors.values()
            details = [*first.details, *(f"{error.what} ({error.where})" for error in others)]
            fix = self._fix(errors, record()) or first.fix
            raise type(first)(first.what, where=first.where, details=details, fix=fix)

    def explain(self, made: Provenance | None) -> None:
        """Let the error of each unknown name advise what the artifact was made with, as :meth:`require_all` does."""
        for key, error in self.found.items():
            if isinstance(error, UnknownComponentError):
                error.fix = self._fix([key], made) or error.fix

    def _fix(self, unknown: Collection[tuple[str, str]], made: Provenance | None) -> str:
        """Return how to get the distributions that provided some names when the artifact was made; "" if unknown."""
        made_with = [c for c in made.components if (c.kind, c.name) in unknown] if made else []
        admitted = self._registry.admitting(c.distribution for c in made_with)
        missing = [c for c in made_with if Provider(c.distribution, c.version) not in self._registry.providers]
        wanted = " and ".join(dict.fromkeys(f"{c.distribution}=={c.version}" for c in missing))
        return admitted or (f"the artifact was made with {wanted}: install that" if wanted else "")

    def _resolve(self, kind: Named, name: str, where: str) -> None:
        if (kind, name) not in self.found:
            try:
                self.found[kind, name] = self._registry.resolve(kind, name, where=where)
            except PluginError as error:
                self.found[kind, name] = error

    def _component(self, kind: Named, name: str) -> Component:
        found = self.found[kind, name]
        if isinstance(found, PluginError):
            raise found
        return found
