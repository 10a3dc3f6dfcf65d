"""From names to classes: who provides a name, and importing it when an artifact asks for it.

Discovery is soft: what is broken becomes a :class:`Failure` and never an exception. Resolution is hard: a name that is
unknown, ambiguous, removed or broken raises an error of its own kind. Nothing is imported before :meth:`Registry.load`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from bsm_core.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    RemovedComponentError,
    UnknownComponentError,
    UnknownModelClassError,
    UnknownStepError,
    nearest,
)
from bsm_core.plugins.discovery import WORDS, Component, Failure, Provider, canonical, find, frozen, lost_its_metadata
from bsm_core.plugins.hookspecs import Kind, Removed
from bsm_core.plugins.loading import load_object, place
from bsm_core.runtime.versions import DISTRIBUTION

Named = Literal["step", "model_class"]
"""The kinds that a config names."""
_UNKNOWN: Mapping[Named, type[UnknownComponentError]] = {
    "step": UnknownStepError,
    "model_class": UnknownModelClassError,
}
T = TypeVar("T")


class Registry:
    """All components of the plugins that were found.

    Args:
        components: What the plugins offer, clashes included.
        failures: What cannot be used of them.
        blocked: Providers that ``BSM_PLUGINS`` leaves out.
        hidden: Distributions that lie on the path a second time.
    """

    def __init__(
        self,
        components: Iterable[Component],
        failures: Iterable[Failure] = (),
        blocked: Iterable[Provider] = (),
        hidden: Iterable[Provider] = (),
    ) -> None:
        self.components = tuple(components)
        self.failures = tuple(failures)
        self.blocked = tuple(blocked)
        self.hidden = tuple(hidden)
        self._by_name: dict[tuple[Kind, str], list[Component]] = {}
        for component in self.components:
            self._by_name.setdefault((component.kind, component.name), []).append(component)

    @classmethod
    def discover(cls, allowed: frozenset[str] | None = None) -> Registry:
        """Read the metadata of every plugin of the environment; none is imported.

        Args:
            allowed: Canonical names of distributions to admit beside the built-ins; None admits all.
        """
        found = find()
        if allowed is None:
            return cls(found.components, found.failures, (), found.hidden)
        admitted = {DISTRIBUTION, *allowed}
        plugins = [c.provider for c in found.components] + [f.provider for f in found.failures]
        providers = {provider: canonical(provider.distribution) for provider in plugins}
        reason = "BSM_PLUGINS names it, but no installed distribution of that name has a plugin"
        missing = [Failure(Provider(name, "(not found)"), reason) for name in sorted(allowed - set(providers.values()))]
        return cls(
            [c for c in found.components if providers[c.provider] in admitted],
            [*(f for f in found.failures if providers[f.provider] in admitted), *missing],
            sorted(provider for provider, name in providers.items() if name not in admitted),
            found.hidden,
        )

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, sorted."""
        return sorted({c.name for c in self.components if c.kind == kind})

    def clashes(self, kind: Kind, name: str) -> tuple[Component, ...]:
        """Every component of that name when there are several, else nothing."""
        found = self._by_name.get((kind, name), [])
        return tuple(found) if len(found) > 1 else ()

    def resolve(self, kind: Named, name: str, *, where: str | None = None) -> Component:
        """Find a component by its name, without importing it.

        Args:
            kind: ``"step"`` or ``"model_class"``.
            name: ``name``, or ``distribution/name`` to pick one of two providers.
            where: The config key that asks, for the error.

        Raises:
            UnknownComponentError: Nobody provides the name.
            AmbiguousComponentError: Two distributions provide it.
            RemovedComponentError: It was removed.
        """
        found = self._find(kind, name)
        if not found:
            for tombstone in self._find("removed", name):
                raise self._removed(kind, tombstone, where)
            raise self._unknown(kind, name, where)
        if len(found) > 1:
            raise self._ambiguous(kind, found, where)
        component = found[0]
        if component.alias_of is None:
            return component
        whole = f"{component.provider.distribution}/{component.alias_of}"
        target = self._find(kind, whole)
        if not target:
            for tombstone in self._find("removed", whole):
                raise self._removed(kind, tombstone, where)
        if len(target) != 1 or target[0].alias_of is not None:
            raise ComponentLoadError(
                f"{WORDS[kind]} {component.name!r} stands for {component.alias_of!r}, which "
                f"{component.provider.distribution} does not provide",
                where=where,
                fix=f"tell the authors of {component.provider.distribution}, or update it",
            )
        return target[0]

    def load(self, component: Component, base: type[T]) -> type[T]:
        """Import a component's class.

        Args:
            component: What :meth:`resolve` gave.
            base: The class it must be a subclass of.

        Raises:
            ComponentLoadError: It cannot be imported, or is not a subclass of ``base``; the cause is chained.
        """
        loaded: Any = load_object(component)
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise ComponentLoadError(
                f"{WORDS[component.kind]} {component.name!r} is not a subclass of {base.__name__}",
                where=place(component),
                fix=f"derive it from {base.__name__}, or tell the authors of {component.provider.distribution}",
            )
        return loaded

    def _find(self, kind: Kind, name: str) -> list[Component]:
        distribution, _, bare = name.rpartition("/")
        found = self._by_name.get((kind, bare), [])
        if distribution:
            found = [c for c in found if canonical(c.provider.distribution) == canonical(distribution)]
        return found

    def _removed(self, kind: Named, component: Component, where: str | None) -> RemovedComponentError:
        tombstone = load_object(component)
        since, instead = (tombstone.since, tombstone.instead) if isinstance(tombstone, Removed) else ("", "")
        distribution, when = component.provider.distribution, f" in version {since}" if since else ""
        return RemovedComponentError(
            f"{WORDS[kind]} {component.name!r} was removed from {distribution}{when}",
            where=where,
            fix=f"use {instead!r} instead" if instead else f"use another {WORDS[kind]}, or an older {distribution}",
        )

    def _ambiguous(self, kind: Named, found: list[Component], where: str | None) -> AmbiguousComponentError:
        name, choices = found[0].name, sorted({f"{c.provider.distribution}/{c.name}" for c in found})
        return AmbiguousComponentError(
            f"{WORDS[kind]} {name!r} has {len(found)} providers",
            where=where,
            details=[f"{c.provider.distribution}/{name}  from {place(c)}" for c in found],
            fix=f"name one of them, {choices[0]!r} for example; or leave one out with BSM_PLUGINS"
            if len(choices) > 1
            else f"update {found[0].provider.distribution}, which provides it twice",
        )

    def _unknown(self, kind: Named, name: str, where: str | None) -> UnknownComponentError:
        details = [f"registered: {', '.join(self.names(kind)) or 'none'}"]
        lost = lost_its_metadata()
        details += [f"cannot be used: {f.provider}: {f.reason}" for f in self.failures if f.reason != lost]
        if self.blocked:
            details.append(f"left out by BSM_PLUGINS: {', '.join(map(str, self.blocked))}")
        fix = lost or self._cure(kind, name.rpartition("/")[2])
        return _UNKNOWN[kind](f"no {WORDS[kind]} {name!r}", where=where, details=details, fix=fix)

    def _cure(self, kind: Named, name: str) -> str:
        """What to do about a name that nobody provides."""
        if would := [str(failure.provider) for failure in self.failures if name in failure.names]:
            return f"{' and '.join(would)} would provide it, but cannot be used: see above"
        if near := nearest(name, self.names(kind)):
            return f"did you mean {near!r}?"
        if frozen():
            return "freeze the program again with the metadata of the package that provides it (--copy-metadata)"
        beside = ", or let BSM_PLUGINS admit one that it leaves out" if self.blocked else ""
        return f"install the package that provides it{beside}"


@functools.cache
def default_registry() -> Registry:
    """The process's registry, limited by the environment variable ``BSM_PLUGINS`` where it is set.

    ``BSM_PLUGINS`` is a comma-separated allow-list of distributions; the built-ins are always there, so an empty value
    means the built-ins alone. It saves surprises; it is not a sandbox.
    """
    if _replaced:
        return _replaced[-1]
    value = os.environ.get("BSM_PLUGINS")
    if value is None:
        return Registry.discover()
    return Registry.discover(frozenset(canonical(n.strip()) for n in value.split(",") if n.strip()))


@contextmanager
def replaced(registry: Registry) -> Iterator[None]:
    """Another registry is the process's own meanwhile; for tests."""
    _replaced.append(registry)
    default_registry.cache_clear()
    try:
        yield
    finally:
        _replaced.pop()
        default_registry.cache_clear()


_replaced: list[Registry] = []
