"""What the metadata of installed distributions say about plugins. None of a plugin's code runs here."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bsm_core.errors import nearest
from bsm_core.plugins.hookspecs import CONTRACT, GROUPS, PROJECT, Kind
from bsm_core.runtime.versions import DISTRIBUTION, __version__, current_name

WORDS = {
    "step": "text step",
    "model_class": "model class",
    "removed": "tombstone",
    "guard": "guard",
    "observer": "observer",
}
"""What people call the kinds."""
_CONTRACT = re.compile(rf"{PROJECT}\.v(\d+)\.")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OBJECT = re.compile(r"[\w.]+:\w+")
_MODULE = re.compile(r"[\w.]+(:\w+)?")


def canonical(distribution: str) -> str:
    """Return a distribution's name in the normal form of the packaging standards (PEP 503)."""
    return current_name(re.sub(r"[-_.]+", "-", distribution).lower())


@dataclass(frozen=True, order=True)
class Provider:
    """A distribution that is a plugin.

    Attributes:
        distribution: Its name.
        version: Its version.
        location: The folder of the path that it was found in.
    """

    distribution: str
    version: str
    location: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Component:
    """One entry point of one provider.

    Attributes:
        kind: What it is.
        name: The name that configs use.
        target: ``"module:Class"``; or, of a step or model class, another name of the same provider that it stands for.
        provider: Who provides it.
        extras: Extras of the provider that it needs, where its entry point says so.
    """

    kind: Kind
    name: str
    target: str
    provider: Provider
    extras: tuple[str, ...] = ()

    @property
    def alias_of(self) -> str | None:
        """The name that it stands for, if it is but another name."""
        return self.target if self.kind in ("step", "model_class") and ":" not in self.target else None

    @property
    def origin(self) -> str:
        """``distribution==version:module:Class``, as run records name it."""
        return f"{self.provider.distribution}=={self.provider.version}:{self.target}"


@dataclass(frozen=True)
class Failure:
    """A plugin, or an entry point of one, that cannot be used, and why.

    Attributes:
        provider: Whose it is.
        reason: Why, and what to do about it.
        names: Names of the entry points that are lost by it.
        guard: Whether a guard is among them, without which nothing may run.
    """

    provider: Provider
    reason: str
    names: tuple[str, ...] = ()
    guard: bool = False


@dataclass(frozen=True)
class Found:
    """The plugins of the path.

    Attributes:
        components: What they offer, clashes included.
        failures: What cannot be used of them.
        hidden: Distributions that lie on the path a second time, behind the one that counts.
    """

    components: list[Component] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    hidden: list[Provider] = field(default_factory=list)


def find() -> Found:
    """Read the entry points of every distribution on the path.

    This is ``importlib.metadata.entry_points``, but one malformed distribution does not take all others with it. A
    distribution that lies on the path twice counts where it comes first, as its modules do.
    """
    found, first = Found(), dict[str, Provider]()
    path = dict.fromkeys(str(Path(folder).resolve()) for folder in sys.path)  # a folder may be on it twice
    for distribution in importlib.metadata.distributions(path=list(path)):
        try:
            entry_points = [e for e in distribution.entry_points if f"{e.group}.".startswith(f"{PROJECT}.")]
        except Exception as error:  # noqa: BLE001 - importlib raises whatever its parser trips over
            found.failures.append(Failure(_provider(distribution), f"{type(error).__name__}: {error}"))
            continue
        if not entry_points:
            continue
        provider = _provider(distribution)
        other = first.setdefault(canonical(provider.distribution), provider)
        if other is provider and _in_front_of(provider, path):
            found.hidden.append(provider)
        elif other is provider:
            for part in _read(provider, entry_points):
                (found.components if isinstance(part, Component) else found.failures).append(part)  # type: ignore[arg-type]
        elif other.location == provider.location:
            found.failures.append(Failure(provider, f"{other} lies in the same folder: reinstall {other.distribution}"))
        else:
            found.hidden.append(provider)
    if DISTRIBUTION not in first and (reason := lost_its_metadata()):
        found.failures.append(Failure(Provider(DISTRIBUTION, __version__), reason))
    return found


def _in_front_of(provider: Provider, path: Iterable[str]) -> Provider | None:
    """The same distribution where it lies further to the front of the path, without entry points of ours."""
    first = next(iter(importlib.metadata.distributions(name=provider.distribution, path=list(path))), None)
    front = None if first is None else _provider(first)
    return None if front is None or front.location == provider.location else front


def frozen() -> bool:
    """Whether this program was made one file, or folder, that has its own Python."""
    return bool(getattr(sys, "frozen", False))


def lost_its_metadata() -> str | None:
    """What to do where not even the built-ins are found, for want of bsm's own metadata."""
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        if frozen():
            return (
                f"this program was frozen without the metadata of {DISTRIBUTION}: `pyinstaller --copy-metadata "
                f"{DISTRIBUTION} ...`, and the same for each plugin, with `--hidden-import` of the modules that its "
                "entry points name"
            )
        cure = f"pip install {DISTRIBUTION}, or put its dist-info there"
        return f"the metadata of {DISTRIBUTION} are not on the path: {cure}"
    return None


def _provider(distribution: importlib.metadata.Distribution) -> Provider:
    # Name and version are None where the distribution has lost its METADATA, whatever their annotations say.
    location = str(Path(str(distribution.locate_file(""))).resolve())
    return Provider(distribution.name or "unknown", distribution.version or "0", location)


def _read(provider: Provider, entry_points: list[importlib.metadata.EntryPoint]) -> Iterator[Component | Failure]:
    versions = {int(match[1]) for e in entry_points if (match := _CONTRACT.match(e.group))}
    if CONTRACT not in versions:
        names = tuple(sorted({entry_point.name for entry_point in entry_points}))
        reason = _other_contract(provider, versions, entry_points[0].group)
        yield Failure(provider, reason, names, any(map(_is_guard, entry_points)))
        return
    ours = {e.name for e in entry_points if GROUPS.get(e.group) == "guard"}
    for entry_point in entry_points:
        match = _CONTRACT.match(entry_point.group)
        if match and int(match[1]) != CONTRACT and not (_is_guard(entry_point) and entry_point.name not in ours):
            continue  # for other hosts
        problem = _problem(entry_point)
        if problem:
            reason = f"entry point {entry_point.name!r} of {entry_point.group!r}: {problem}"
            yield Failure(provider, reason, (entry_point.name,), _is_guard(entry_point))
        else:
            target = entry_point.value.partition("[")[0].strip()
            kind = GROUPS[entry_point.group]
            yield Component(kind, entry_point.name, target, provider, tuple(entry_point.extras))


def _is_guard(entry_point: importlib.metadata.EntryPoint) -> bool:
    """Whether it is, or was meant to be, a guard."""
    return "guard" in entry_point.group


def _other_contract(provider: Provider, versions: set[int], group: str) -> str:
    name = provider.distribution
    if not versions:
        known = ", ".join(map(repr, GROUPS))
        return f"it declares no version of the plugin contract: {group!r} is none of {known}; update {name}"
    spoken = " and ".join(map(str, sorted(versions)))
    older = DISTRIBUTION if min(versions) > CONTRACT else name
    ours = f"{DISTRIBUTION} {__version__} speaks {CONTRACT}"
    return f"it speaks version {spoken} of the plugin contract, {ours}: update {older}"


def _problem(entry_point: importlib.metadata.EntryPoint) -> str:
    """What is wrong with an entry point; nothing where it is well."""
    if entry_point.group not in GROUPS:
        near = nearest(entry_point.group, GROUPS)
        return "there is no such group" + (f"; did you mean {near!r}?" if near else f"; there are {', '.join(GROUPS)}")
    if not _NAME.fullmatch(entry_point.name):
        return "its name is not lower_snake"
    kind, value = GROUPS[entry_point.group], entry_point.value.partition("[")[0].strip()
    if kind in ("guard", "observer"):
        return "" if _MODULE.fullmatch(value) else f"its value {value!r} is neither 'module' nor 'module:object'"
    if kind == "removed":
        return "" if _OBJECT.fullmatch(value) else f"its value {value!r} is not 'module:object'"
    if _OBJECT.fullmatch(value) or _NAME.fullmatch(value):
        return ""
    return f"its value {value!r} is neither 'module:Class' nor another name"
