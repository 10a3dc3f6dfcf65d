"""The registry of component names: who provides a name, and the import of a component that an artifact asks for.

Discovery never raises: a plugin that cannot be used becomes an :class:`UnusablePlugin`. Resolution raises: a name that
is unknown, ambiguous, removed or broken has an error class of its own. :meth:`Registry.load` imports a component.
If no entry point has a name, :meth:`Registry.resolve` imports the plugins that register components in code.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bsm_core.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    RemovedComponentError,
    UnknownComponentError,
    UnknownModelClassError,
    UnknownStepError,
    nearest,
)
from bsm_core.plugins.discovery import (
    WORDS,
    Component,
    Provider,
    UnusablePlugin,
    canonical,
    find,
    frozen,
    lost_its_metadata,
)
from bsm_core.plugins.hookspecs import ComponentKind, Removed
from bsm_core.plugins.hookspecs import Named as Named
from bsm_core.plugins.in_code import InCode
from bsm_core.plugins.loading import load_object, place
from bsm_core.runtime.versions import DISTRIBUTION

T = TypeVar("T")


class Registry:
    """All components of the installed plugins.

    Args:
        components: Components that metadata name, including several of one name.
        failures: Plugins and entry points that cannot be used.
        blocked: Providers that ``BSM_PLUGINS`` leaves out.
        left_out: Components of these providers.
        hidden: Later copies of a distribution on ``sys.path``; the first copy is used.

    Attributes:
        in_code: Components that plugins register in code.

    Example:
        Print which distribution provides each text step::

            registry = Registry.discover()
            for name in registry.names("step"):
                print(name, registry.resolve("step", name).provider)
    """

    def __init__(
        self,
        components: Iterable[Component],
        failures: Iterable[UnusablePlugin] = (),
        blocked: Iterable[Provider] = (),
        hidden: Iterable[Provider] = (),
        left_out: Iterable[Component] = (),
    ) -> None:
        self.components = tuple(components)
        self.failures = tuple(failures)
        self.blocked = tuple(blocked)
        self.hidden = tuple(hidden)
        self.left_out = tuple(left_out)
        self.in_code = InCode(self.components)

    @classmethod
    def discover(cls, allowed: frozenset[str] | None = None) -> Registry:
        """Read the metadata of every installed plugin, without importing any plugin.

        Args:
            allowed: Canonical names of the distributions to load besides this project's own; None for all.
        """
        found = find()
        if allowed is None:
            return cls(found.components, found.failures, (), found.hidden)
        providers = {*(c.provider for c in found.components), *(f.provider for f in found.failures)}
        blocked = {p for p in providers if canonical(p.distribution) not in {DISTRIBUTION, *allowed}}
        missing = sorted(allowed - {canonical(provider.distribution) for provider in providers})
        reason = "BSM_PLUGINS names it, but no installed distribution of that name has a plugin"
        failures = [f for f in found.failures if f.provider not in blocked]
        failures += [UnusablePlugin(Provider(name, "(not found)"), reason) for name in missing]
        components = [c for c in found.components if c.provider not in blocked]
        left_out = [c for c in found.components if c.provider in blocked]
        return cls(components, failures, sorted(blocked), found.hidden, left_out)

    def names(self, kind: ComponentKind) -> list[str]:
        """Return all names of a kind that metadata have, sorted."""
        return sorted({c.name for c in self.components if c.kind == kind})

    @property
    def providers(self) -> set[Provider]:
        """Distributions of all plugins, of those that cannot be used or are left out too."""
        return {*self.blocked, *(c.provider for c in self.components), *(f.provider for f in self.failures)}

    def clashes(self, kind: ComponentKind, name: str, *, in_code: bool = False) -> tuple[Component, ...]:
        """Return every component of a name if several have it, in metadata and, if ``in_code``, in code."""
        found = _named((*self.components, *(self.in_code.classes if in_code else ())), kind, name)
        return tuple(found) if len(found) > 1 else ()

    def others(self, component: Component, *, in_code: bool = False) -> list[Component]:
        """Return the components that have the name of a component as well; see :meth:`clashes`."""
        return [c for c in self.clashes(component.kind, component.name, in_code=in_code) if c is not component]

    def resolve(self, kind: Named, name: str, *, where: str | None = None) -> Component:
        """Find a component by its name, without importing the component.

        Plugins that register components in code are imported where metadata do not have the name.

        Args:
            kind: ``"step"`` or ``"model_class"``.
            name: ``name``, or ``distribution/name`` to choose one of two providers.
            where: Config key that contains the name, for the error message.

        Raises:
            UnknownComponentError: No plugin provides the name.
            AmbiguousComponentError: Two distributions provide it.
            RemovedComponentError: The name was removed.
            ComponentLoadError: The name is an alias of a name that its distribution does not provide.
        """
        component = self._one(kind, name, where)
        if component is None:
            raise self._unknown(kind, name, where)
        if component.alias_of is None:
            return component
        distribution = component.provider.distribution
        target = self._one(kind, f"{distribution}/{component.alias_of}", where)
        if target is None or target.alias_of is not None:
            raise ComponentLoadError(
                f"{WORDS[kind]} {component.name!r} stands for {component.alias_of!r}, which "
                f"{distribution} does not provide",
                where=where,
                fix=f"report this to the authors of {distribution}, or update it",
            )
        return target

    def load(self, component: Component, base: type[T]) -> type[T]:
        """Import a component's class.

        Args:
            component: Component that :meth:`resolve` returned.
            base: Class that the component must be a subclass of.

        Raises:
            ComponentLoadError: The import fails (the cause is chained), or the class is not a subclass of ``base``.
        """
        loaded: Any = load_object(component) if component.registered_by is None else self.in_code.load(component)
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise ComponentLoadError(
                f"{WORDS[component.kind]} {component.name!r} is not a subclass of {base.__name__}",
                where=place(component),
                fix=f"derive it from {base.__name__}, or report this to the authors of "
                f"{component.provider.distribution}",
            )
        return loaded

    def _one(self, kind: Named, name: str, where: str | None) -> Component | None:
        """Return the only component of that name; None where there is none."""
        found = _named(self.components, kind, name) or _named(self.in_code.classes, kind, name)
        if len(found) > 1:
            raise self._ambiguous(kind, found, where)
        if found:
            return found[0]
        for component in _named(self.components, "removed", name):
            note, distribution = load_object(component), component.provider.distribution
            note = note if isinstance(note, Removed) else Removed("")
            when = f" in version {note.since}" if note.since else ""
            other = f"use another {WORDS[kind]}, or an older {distribution}"
            raise RemovedComponentError(
                f"{WORDS[kind]} {component.name!r} was removed from {distribution}{when}",
                where=where,
                fix=f"use {note.instead!r} instead" if note.instead else other,
            )
        return None

    def _ambiguous(self, kind: Named, found: list[Component], where: str | None) -> AmbiguousComponentError:
        name, choices = found[0].name, sorted({f"{c.provider.distribution}/{c.name}" for c in found})
        return AmbiguousComponentError(
            f"{WORDS[kind]} {name!r} has {len(found)} providers",
            where=where,
            details=[f"{c.provider.distribution}/{name}  from {place(c)}" for c in found],
            fix=f"name one of them, {choices[0]!r} for example; or list all plugins but one in BSM_PLUGINS"
            if len(choices) > 1
            else f"update {found[0].provider.distribution}, which provides the name twice",
        )

    def _unknown(self, kind: Named, name: str, where: str | None) -> UnknownComponentError:
        known = sorted({*self.names(kind), *(c.name for c in self.in_code.classes if c.kind == kind)})
        details = [f"registered: {', '.join(known) or 'none'}"]
        lost = lost_its_metadata()
        details += [f"cannot be used: {f.provider}: {f.reason}" for f in self.failures if f.reason != lost]
        details += [f"cannot be used: {plugin.provider}: {e.what}" for plugin, e in self.in_code.errors.items()]
        if self.blocked:
            details.append(f"left out by BSM_PLUGINS: {', '.join(map(str, self.blocked))}")
        fix = lost or self._fix(kind, name, known)
        unknown = UnknownStepError if kind == "step" else UnknownModelClassError
        return unknown(f"no {WORDS[kind]} {name!r}", where=where, details=details, fix=fix)

    def admitting(self, distributions: Iterable[str]) -> str:
        """Return advice to let ``BSM_PLUGINS`` admit those of some distributions that it leaves out; "" if none is."""
        wanted = [p.distribution for p in self.blocked if any(p.is_named(name) for name in distributions)]
        names = ",".join(dict.fromkeys(wanted))
        return f"add {names} to the variable BSM_PLUGINS, which leaves it out" if wanted else ""

    def _fix(self, kind: Named, name: str, known: list[str]) -> str:
        """Return how to make an unknown name known."""
        if admitted := self.admitting(c.provider.distribution for c in _named(self.left_out, kind, name)):
            return admitted
        name = name.rpartition("/")[2]
        if would := [str(failure.provider) for failure in self.failures if name in failure.names]:
            return f"{' and '.join(would)} would provide it, but cannot be used: see above"
        if near := nearest(name, known):
            return f"did you mean {near!r}?"
        if might := [str(plugin.provider) for plugin in self.in_code.errors]:
            return f"{' and '.join(might)} might provide it, but cannot be used: see above"
        if frozen():
            return "freeze the program again with the metadata of the package that provides it (--copy-metadata)"
        also = ", or let BSM_PLUGINS admit one that it leaves out" if self.blocked else ""
        return f"install the package that provides it{also}"


def _named(components: Iterable[Component], kind: ComponentKind, name: str) -> list[Component]:
    """Return the components of that kind and name, ``name`` or ``distribution/name``."""
    distribution, _, bare = name.rpartition("/")
    return [
        component
        for component in components
        if (component.kind, component.name) == (kind, bare)
        and (not distribution or component.provider.is_named(distribution))
    ]


@functools.cache
def default_registry() -> Registry:
    """Return the process's registry, limited by the environment variable ``BSM_PLUGINS`` where it is set.

    ``BSM_PLUGINS`` is a comma-separated list of distributions to load besides this project's own; an empty value means
    this project's own alone. The variable keeps out plugins that nobody expects; it is not a sandbox.
    """
    if _replaced:
        return _replaced[-1]
    value = os.environ.get("BSM_PLUGINS")
    allowed = None if value is None else frozenset(canonical(n.strip()) for n in value.split(",") if n.strip())
    return Registry.discover(allowed)


@contextmanager
def replaced(registry: Registry) -> Iterator[None]:
    """Use another registry as the process's own inside the context; for tests."""
    _replaced.append(registry)
    default_registry.cache_clear()
    try:
        yield
    finally:
        _replaced.pop()
        default_registry.cache_clear()


_replaced: list[Registry] = []
