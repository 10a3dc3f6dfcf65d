"""Discovery of plugins and resolution of names to classes.

Discovery is soft: a broken distribution becomes a :class:`Failure` and never an exception. Resolution is hard: a name
that is unknown, ambiguous, removed or broken raises an error of its own kind. Nothing a plugin targets is imported
before :meth:`Registry.load`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pluggy

from bsm_core import hookspecs
from bsm_core.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    RemovedComponentError,
    UnknownComponentError,
    UnknownModelClassError,
    UnknownStepError,
    nearest,
)
from bsm_core.hookspecs import PROJECT, Alias, Removed, Target

Kind = Literal["step", "model_class"]
HOOKS: Mapping[Kind, str] = {"step": "bsm_steps", "model_class": "bsm_model_classes"}
_UNKNOWN: Mapping[Kind, type[UnknownComponentError]] = {
    "step": UnknownStepError,
    "model_class": UnknownModelClassError,
}
_WORDS: Mapping[Kind, str] = {"step": "text step", "model_class": "model class"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[\w.]+:\w+")
T = TypeVar("T")


def canonical(distribution: str) -> str:
    """A distribution's name in the normal form of the packaging standards (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass(frozen=True, order=True)
class Provider:
    """A distribution and the entry point through which it was found."""

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Component:
    """One name of one provider."""

    kind: Kind
    name: str
    target: Target
    provider: Provider

    @property
    def origin(self) -> str:
        """``distribution==version:module:Class``, as run records name it."""
        return f"{self.provider.distribution}=={self.provider.version}:{self.target}"


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be read, and why."""

    provider: Provider
    reason: str
    traceback: str = ""


class Registry:
    """All components of the plugins that were found.

    Args:
        components: What the plugins offer, clashes included.
        failures: Plugins that could not be read.
        blocked: Providers that ``BSM_PLUGINS`` leaves out; they were not imported.
    """

    def __init__(
        self,
        components: Iterable[Component],
        failures: Iterable[Failure] = (),
        blocked: Iterable[Provider] = (),
    ) -> None:
        self.components = tuple(components)
        self.failures = tuple(failures)
        self.blocked = tuple(blocked)
        self._by_name: dict[tuple[Kind, str], list[Component]] = {}
        for component in self.components:
            self._by_name.setdefault((component.kind, component.name), []).append(component)

    @classmethod
    def discover(cls, allowed: frozenset[str] | None = None) -> Registry:
        """Read every plugin of the environment.

        Args:
            allowed: Canonical names of distributions to load beside the built-ins; None loads all.
        """
        components: list[Component] = []
        blocked: list[Provider] = []
        plugins, failures = _plugins()
        for provider, entry_point in plugins:
            if allowed is not None and canonical(provider.distribution) not in {PROJECT, *allowed}:
                blocked.append(provider)
                continue
            try:
                components += _components(entry_point.load(), provider)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's plugin may fail in any way
                failures.append(_failure(provider, error))
        for name in sorted(set(allowed or ()) - {canonical(provider.distribution) for provider, _ in plugins}):
            reason = "BSM_PLUGINS names it, but no installed distribution of that name has a plugin"
            failures.append(Failure(Provider(name, "(not found)", ""), reason))
        return cls(components, failures, blocked)

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind that can be asked for, sorted."""
        return sorted({c.name for c in self.components if c.kind == kind and not isinstance(c.target, Removed)})

    def clashes(self, kind: Kind, name: str) -> tuple[Component, ...]:
        """Every component of that name when there are several, else nothing."""
        found = self._by_name.get((kind, name), [])
        return tuple(found) if len(found) > 1 else ()

    def resolve(self, kind: Kind, name: str, *, where: str | None = None) -> Component:
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
        distribution, _, bare = name.rpartition("/")
        found = self._by_name.get((kind, bare), [])
        if distribution:
            found = [c for c in found if canonical(c.provider.distribution) == canonical(distribution)]
        if not found:
            raise self._unknown(kind, name, where)
        if len(found) > 1:
            raise self._ambiguous(kind, bare, found, where)
        component = found[0]
        if isinstance(component.target, Removed):
            tombstone = component.target
            raise RemovedComponentError(
                f"{_WORDS[kind]} {bare!r} was removed from {component.provider.distribution} "
                f"in version {tombstone.since}",
                where=where,
                fix=f"use {tombstone.instead!r} instead" if tombstone.instead else None,
            )
        if isinstance(component.target, Alias):
            return self.resolve(kind, f"{component.provider.distribution}/{component.target.of}", where=where)
        return component

    def load(self, component: Component, base: type[T]) -> type[T]:
        """Import a component's class.

        Args:
            component: What :meth:`resolve` gave.
            base: The class it must be a subclass of.

        Raises:
            ComponentLoadError: It cannot be imported, or is not a subclass of ``base``; the cause is chained.
        """
        module, _, attribute = str(component.target).partition(":")
        where = f"{component.target} of {component.provider}"
        try:
            loaded: Any = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise ComponentLoadError(
                f"{_WORDS[component.kind]} {component.name!r} could not be loaded: {type(error).__name__}: {error}",
                where=where,
                fix=f"repair or update {component.provider.distribution}, or install what it needs",
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise ComponentLoadError(
                f"{_WORDS[component.kind]} {component.name!r} is not a subclass of {base.__name__}",
                where=where,
                fix=f"tell the authors of {component.provider.distribution}, or update it",
            )
        return loaded

    def _ambiguous(self, kind: Kind, name: str, found: list[Component], where: str | None) -> AmbiguousComponentError:
        choices = sorted({f"{c.provider.distribution}/{name}" for c in found})
        return AmbiguousComponentError(
            f"{_WORDS[kind]} {name!r} has {len(found)} providers",
            where=where,
            details=[
                f"{c.provider.distribution}/{name}  from {c.provider}, entry point {c.provider.entry_point!r}"
                for c in found
            ],
            fix=f"name one of them, {choices[0]!r} for example, or uninstall the other"
            if len(choices) > 1
            else f"uninstall or update {found[0].provider.distribution}, which provides it twice",
        )

    def _unknown(self, kind: Kind, name: str, where: str | None) -> UnknownComponentError:
        names = self.names(kind)
        details = [f"registered: {', '.join(names) or 'none'}"]
        details += [f"could not load: {f.provider}: {f.reason}    (bsm plugins --errors)" for f in self.failures]
        if self.blocked:
            details.append(f"left out by BSM_PLUGINS: {', '.join(str(p) for p in self.blocked)}")
        near = nearest(name.rpartition("/")[2], names)
        return _UNKNOWN[kind](
            f"no {_WORDS[kind]} {name!r}",
            where=where,
            details=details,
            fix=f"did you mean {near!r}?" if near else "install the package that provides it",
        )


@functools.cache
def default_registry() -> Registry:
    """The process's registry, limited by the environment variable ``BSM_PLUGINS`` where it is set.

    ``BSM_PLUGINS`` is a comma-separated allow-list of distributions; the built-ins are always loaded, so an empty
    value means the built-ins alone. It saves start-up time and surprises; it is not a sandbox.
    """
    value = os.environ.get("BSM_PLUGINS")
    if value is None:
        return Registry.discover()
    return Registry.discover(frozenset(canonical(n.strip()) for n in value.split(",") if n.strip()))


def _plugins() -> tuple[list[tuple[Provider, importlib.metadata.EntryPoint]], list[Failure]]:
    """The plugins of the path, unread, and the distributions whose list of entry points is not readable.

    A distribution that lies on the path twice counts where it comes first, as its modules do. This is
    ``importlib.metadata.entry_points``, but one malformed distribution does not take all others with it.
    """
    plugins, failures, seen = [], [], set()
    for distribution in importlib.metadata.distributions():
        try:
            entry_points = distribution.entry_points.select(group=PROJECT)
        except Exception as error:  # noqa: BLE001 - importlib raises whatever its parser trips over
            failures.append(_failure(_provider(distribution, ""), error))
            continue
        if not entry_points or (name := canonical(_provider(distribution, "").distribution)) in seen:
            continue
        seen.add(name)
        plugins += [(_provider(distribution, entry_point.name), entry_point) for entry_point in entry_points]
    return plugins, failures


def _provider(distribution: importlib.metadata.Distribution, entry_point: str) -> Provider:
    # Both are None where the distribution has lost its METADATA, whatever their annotations say.
    return Provider(distribution.name or "unknown", distribution.version or "0", entry_point)


def _components(plugin: Any, provider: Provider) -> list[Component]:
    """Call a plugin's hooks, through pluggy, and check what they answer."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=f"{provider.distribution}:{provider.entry_point}")
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise ValueError(f"it implements no hook; put @hookimpl on {' or '.join(HOOKS.values())}")
    components = []
    for caller in callers:
        components += _answers(caller, provider)
    targets = {(c.kind, c.name): c.target for c in components}
    for c in components:
        if isinstance(c.target, Alias) and isinstance(targets.get((c.kind, c.target.of), c.target), Alias):
            raise ValueError(f"{HOOKS[c.kind]}: {c.name!r} is an alias of {c.target.of!r}, which is no component of it")
    return components


def _answers(caller: pluggy.HookCaller, provider: Provider) -> list[Component]:
    kind = next((kind for kind, hook in HOOKS.items() if hook == caller.name), None)
    if kind is None and all(implementation.optionalhook for implementation in caller.get_hookimpls()):
        return []
    if kind is None:
        near = nearest(caller.name, HOOKS.values())
        hint = f"did you mean {near!r}?" if near else f"the hooks are {', '.join(HOOKS.values())}"
        raise ValueError(f"unknown hook {caller.name!r}; {hint}")
    answer = next(iter(caller()), None)  # one plugin, one answer; pluggy leaves None out
    if not isinstance(answer, Mapping):
        raise TypeError(f"{caller.name} gave a {type(answer).__name__}, not a mapping of names to targets")
    return [_component(kind, name, target, provider) for name, target in answer.items()]


def _component(kind: Kind, name: object, target: object, provider: Provider) -> Component:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"{HOOKS[kind]}: name {name!r} is not lower_snake")
    if isinstance(target, str) and not _TARGET.fullmatch(target):
        raise ValueError(f"{HOOKS[kind]}: target {target!r} of {name!r} is not 'module:Class'")
    if not isinstance(target, str | Alias | Removed):
        raise TypeError(f"{HOOKS[kind]}: target of {name!r} is a {type(target).__name__}, not 'module:Class'")
    return Component(kind, name, target, provider)


def _failure(provider: Provider, error: BaseException) -> Failure:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(provider, reason, "".join(traceback.format_exception(error)))
