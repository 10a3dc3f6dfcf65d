"""The texts that ``bsm plugins`` prints. Only ``--errors`` imports plugins."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping

from bsm_core.errors import PluginError
from bsm_core.plugins.discovery import WORDS, Component, Provider
from bsm_core.plugins.hook_calls import implementations
from bsm_core.plugins.hookspecs import ComponentKind
from bsm_core.plugins.loading import load_object
from bsm_core.plugins.registry import Registry


def listing(registry: Registry) -> list[dict[str, str]]:
    """Return an entry for each component that metadata name, and for each plugin that is unusable, left out or hidden.

    Returns:
        Sorted dicts with ``name``, ``kind``, ``provider``, ``version``, ``status`` and ``target``.
    """
    entries = [_entry(c.provider, _status(registry, c), c.name, c.kind, c.target) for c in registry.components]
    entries += [_entry(f.provider, f"cannot be used: {f.reason}") for f in registry.failures]
    entries += [_entry(provider, "left out by BSM_PLUGINS") for provider in registry.blocked]
    entries += [_entry(p, f"hidden in {p.location}: another comes first on the path") for p in registry.hidden]
    return sorted(entries, key=lambda e: (e["kind"], e["name"], e["provider"], e["version"]))


def errors_text(registry: Registry, bases: Mapping[ComponentKind, type]) -> str:
    """Import every component; return what cannot be used, with tracebacks, and what plugins register in code.

    Args:
        registry: The plugins.
        bases: Base class that the components of a kind must have.
    """
    errors = [f"{f.provider}: {f.reason}" for f in registry.failures]
    for component, found in loaded_components(registry, bases):
        if isinstance(found, PluginError):
            cause = "".join(traceback.format_exception(found.__cause__)) if found.__cause__ else ""
            errors.append(f"{component.provider}: {found}\n{cause}".rstrip())
    errors += _clashes_in_code(registry)
    return "\n\n".join([*(errors or ["everything that plugins name can be loaded"]), *_registered(registry)])


def loaded_components(registry: Registry, bases: Mapping[ComponentKind, type]) -> Iterator[tuple[Component, object]]:
    """Import every component; yield it with its object or its error. See :func:`errors_text` for the arguments."""
    for component in (*registry.components, *registry.in_code.classes):
        if component.alias_of is not None or component.kind == "plugin":
            continue
        try:
            if component.kind in bases:
                yield component, registry.load(component, bases[component.kind])
            else:
                yield component, load_object(component) if component.kind == "removed" else implementations(component)
        except PluginError as error:
            yield component, error
    yield from registry.in_code.errors.items()


def _clashes_in_code(registry: Registry) -> Iterator[str]:
    for component in registry.in_code.classes:
        for other in registry.others(component, in_code=True):
            name = f"{WORDS[component.kind]} {component.name!r}"
            yield f"{component.provider}: {name}, registered in code, is also provided by {other.provider}"


def _registered(registry: Registry) -> Iterator[str]:
    for plugin in registry.in_code.plugins:
        names = [f"{WORDS[c.kind]} {c.name!r}" for c in registry.in_code.classes if c.registered_by == plugin]
        if plugin not in registry.in_code.errors:
            yield f"{plugin.provider}: plugin {plugin.name!r} registers in code: {', '.join(names) or 'nothing'}"


def _status(registry: Registry, component: Component) -> str:
    if component.kind == "plugin":
        return "registers in code"
    if others := registry.others(component):
        return f"clashes with {', '.join(str(c.provider) for c in others)}"
    if component.alias_of is not None:
        return f"alias of {component.alias_of}"
    return "removed" if component.kind == "removed" else "registered"


def _entry(provider: Provider, status: str, name: str = "-", kind: str = "plugin", target: str = "") -> dict[str, str]:
    where = {"provider": provider.distribution, "version": provider.version}
    return {"name": name, "kind": kind, **where, "status": status, "target": target}
