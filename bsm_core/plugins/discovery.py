"""Discovery of plugins from the metadata of installed distributions. No code of a plugin runs here."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bsm_core.errors import nearest
from bsm_core.plugins.hookspecs import CONTRACT, GROUPS, NAME, PROJECT, ComponentKind
from bsm_core.runtime.versions import DISTRIBUTION, __version__, current_name

WORDS = {
    "step": "text step",
    "model_class": "model class",
    "removed": "removed name",
    "guard": "guard",
    "observer": "observer",
    "plugin": "plugin",
}
"""Name of each component kind in messages."""
_CONTRACT = re.compile(rf"{PROJECT}\.v(\d+)\.")
_OBJECT = re.compile(r"[\w.]+:\w+")
_MODULE = re.compile(r"[\w.]+(:\w+)?")


def canonical(distribution: str) -> str:
    """Return a distribution's name in the normal form of the packaging standards (PEP 503)."""
    return current_name(re.sub(r"[-_.]+", "-", distribution).lower())


@dataclass(frozen=True, order=True)
class Provider:
    """An installed distribution that is a plugin.

    Attributes:
        distribution: Name of the distribution.
        version: Version of the distribution.
        location: Folder of ``sys.path`` that holds the distribution's metadata.
    """

    distribution: str
    version: str
    location: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    def is_named(self, distribution: str) -> bool:
        """Return whether the provider is the distribution of that name, in any spelling."""
        return canonical(self.distribution) == canonical(distribution)


@dataclass(frozen=True)
class Component:
    """One component of one plugin.

    Attributes:
        kind: Kind of the component.
        name: Name that configs use.
        target: ``"module:Class"`` or, for hooks, ``"module"``. For an alias: the name that the alias stands for.
        provider: Distribution that provides the component.
        extras: Extras of the distribution that the component needs, from its entry point.
        registered_by: Component of the kind ``"plugin"`` whose ``bsm_register`` registers this one; None where an
            entry point names this one.
    """

    kind: ComponentKind
    name: str
    target: str
    provider: Provider
    extras: tuple[str, ...] = ()
    registered_by: Component | None = None

    @property
    def alias_of(self) -> str | None:
        """Name in the same distribution that an alias stands for; None for other components."""
        return self.target if self.kind in ("step", "model_class") and ":" not in self.target else None

    @property
    def origin(self) -> str:
        """Distribution, version and object as run records show them: ``distribution==version:module:Class``."""
        return f"{self.provider.distribution}=={self.provider.version}:{self.target}"


@dataclass(frozen=True)
class UnusablePlugin:
    """A plugin, or one of its entry points, that cannot be used.

    Attributes:
        provider: The distribution.
        reason: Reason, and how to repair it.
        names: Names of the entry points that cannot be used.
        guard: Whether one of the entry points is a guard; without its guards, no run may start.
    """

    provider: Provider
    reason: str
    names: tuple[str, ...] = ()
    guard: bool = False


@dataclass(frozen=True)
class Discovered:
    """Plugins found on ``sys.path``.

    Attributes:
        components: All components, including several of one name.
        failures: Plugins and entry points that cannot be used.
        hidden: Later copies of a distribution on ``sys.path``; the first copy is used.
    """

    components: list[Component] = field(default_factory=list)
    failures: list[UnusablePlugin] = field(default_factory=list)
    hidden: list[Provider] = field(default_factory=list)


def find() -> Discovered:
    """Read the entry points of every distribution on ``sys.path``.

    Unlike ``importlib.metadata.entry_points``, one malformed distribution does not hide all others. Where ``sys.path``
    holds a distribution twice, the first one counts, as for its modules.
    """
    found, first = Discovered(), dict[str, Provider]()
    path = dict.fromkeys(str(Path(folder).resolve()) for folder in sys.path)  # a folder may be on the path twice
    for distribution in importlib.metadata.distributions(path=list(path)):
        try:
            entry_points = [e for e in distribution.entry_points if f"{e.group}.".startswith(f"{PROJECT}.")]
        except Exception as error:  # noqa: BLE001 - the parser of importlib.metadata raises errors of any type
            found.failures.append(UnusablePlugin(_provider(distribution), f"{type(error).__name__}: {error}"))
            continue
        if not entry_points:
            continue
        provider = _provider(distribution)
        other = first.setdefault(canonical(provider.distribution), provider)
        if other is not provider and other.location == provider.location:
            reason = f"{other} is installed in the same folder: reinstall {other.distribution}"
            found.failures.append(UnusablePlugin(provider, reason))
        elif other is not provider or _shadowed(provider, path):
            found.hidden.append(provider)
        else:
            _read(found, provider, entry_points)
    if DISTRIBUTION not in first and (lost := lost_its_metadata()):
        found.failures.append(UnusablePlugin(Provider(DISTRIBUTION, __version__), lost))
    return found


def _shadowed(provider: Provider, path: Iterable[str]) -> bool:
    """Return whether the distribution comes earlier on the path as well, there without entry points of bsm."""
    first = next(iter(importlib.metadata.distributions(name=provider.distribution, path=list(path))), None)
    return first is not None and _provider(first).location != provider.location


def frozen() -> bool:
    """Return whether this program was frozen into a single file or folder, as PyInstaller does."""
    return bool(getattr(sys, "frozen", False))


def lost_its_metadata() -> str | None:
    """Return how to repair an installation of bsm without metadata, where no built-in component can be found.

    None where the metadata are present.
    """
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        if frozen():
            return (
                f"this program was frozen without the metadata of {DISTRIBUTION}: `pyinstaller --copy-metadata "
                f"{DISTRIBUTION} ...`, and the same for each plugin, with `--hidden-import` of the modules that its "
                "entry points name"
            )
        fix = f"pip install {DISTRIBUTION}, or copy its dist-info folder there"
        return f"the metadata of {DISTRIBUTION} are not on the path: {fix}"
    return None


def _provider(distribution: importlib.metadata.Distribution) -> Provider:
    location = str(Path(str(distribution.locate_file(""))).resolve())
    # Despite their annotations, name and version are None where a distribution has no METADATA file. The package
    # importlib_metadata, which finds distributions too once a library has imported it, raises an error instead.
    name = version = None
    with suppress(importlib.metadata.PackageNotFoundError, FileNotFoundError):
        name, version = distribution.name, distribution.version
    return Provider(name or "unknown", version or "0", location)


def _read(found: Discovered, provider: Provider, entry_points: list[importlib.metadata.EntryPoint]) -> None:
    """Add the components and the failures of one distribution."""
    versions = {int(match[1]) for e in entry_points if (match := _CONTRACT.match(e.group))}
    if CONTRACT not in versions:
        names = tuple(sorted({entry_point.name for entry_point in entry_points}))
        reason = _other_contract(provider, versions, entry_points[0].group)
        found.failures.append(UnusablePlugin(provider, reason, names, any(map(_is_guard, entry_points))))
        return
    guards = {e.name for e in entry_points if GROUPS.get(e.group) == "guard"}
    for entry_point in entry_points:
        match = _CONTRACT.match(entry_point.group)
        if match and int(match[1]) != CONTRACT and not (_is_guard(entry_point) and entry_point.name not in guards):
            continue  # an entry point for hosts of another contract version
        problem = _problem(entry_point)
        if problem:
            reason = f"entry point {entry_point.name!r} of {entry_point.group!r}: {problem}"
            found.failures.append(UnusablePlugin(provider, reason, (entry_point.name,), _is_guard(entry_point)))
        else:
            kind, target, extras = GROUPS[entry_point.group], _target(entry_point), tuple(entry_point.extras)
            found.components.append(Component(kind, entry_point.name, target, provider, extras))


def _target(entry_point: importlib.metadata.EntryPoint) -> str:
    return entry_point.value.partition("[")[0].strip()


def _is_guard(entry_point: importlib.metadata.EntryPoint) -> bool:
    # A misspelled group such as "bsm.v1.guard" counts: a guard that is not found must fail the run.
    return "guard" in entry_point.group


def _other_contract(provider: Provider, versions: set[int], group: str) -> str:
    name = provider.distribution
    if not versions:
        known = ", ".join(map(repr, GROUPS))
        return f"it declares no version of the plugin contract: {group!r} is none of {known}; update {name}"
    spoken = " and ".join(map(str, sorted(versions)))
    older = DISTRIBUTION if min(versions) > CONTRACT else name
    ours = f"{DISTRIBUTION} {__version__} implements version {CONTRACT}"
    return f"it implements version {spoken} of the plugin contract, {ours}: update {older}"


def _problem(entry_point: importlib.metadata.EntryPoint) -> str:
    """Return what is wrong with an entry point; an empty string where it is valid."""
    if entry_point.group not in GROUPS:
        near = nearest(entry_point.group, GROUPS)
        return "there is no such group" + (f"; did you mean {near!r}?" if near else f"; use one of {', '.join(GROUPS)}")
    if not NAME.fullmatch(entry_point.name):
        return "its name is not lower_snake"
    kind, value = GROUPS[entry_point.group], _target(entry_point)
    if kind in ("guard", "observer", "plugin"):
        return "" if _MODULE.fullmatch(value) else f"its value {value!r} is neither 'module' nor 'module:object'"
    if kind == "removed":
        return "" if _OBJECT.fullmatch(value) else f"its value {value!r} is not 'module:object'"
    if _OBJECT.fullmatch(value) or NAME.fullmatch(value):
        return ""
    return f"its value {value!r} is neither 'module:Class' nor another name"
