"""What ``bsm plugins`` prints. Only ``--errors`` imports what a plugin names."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from bsm_core.errors import PluginError
from bsm_core.plugins.discovery import Component, Provider
from bsm_core.plugins.hooks import manager_of
from bsm_core.plugins.hookspecs import Kind
from bsm_core.plugins.loading import load_object
from bsm_core.plugins.registry import Registry


def listing(registry: Registry) -> list[dict[str, str]]:
    """One entry a component, an unusable plugin, and one that is left out or hidden; sorted and JSON-able.

    Returns:
        Dicts with ``name``, ``kind``, ``provider``, ``version``, ``status`` and ``target``.
    """
    entries = [
        {
            "name": c.name,
            "kind": c.kind,
            "provider": c.provider.distribution,
            "version": c.provider.version,
            "status": _status(registry, c),
            "target": c.target,
        }
        for c in registry.components
    ]
    entries += [_plugin_entry(f.provider, f"cannot be used: {f.reason}") for f in registry.failures]
    entries += [_plugin_entry(provider, "left out by BSM_PLUGINS") for provider in registry.blocked]
    entries += [_plugin_entry(p, f"hidden in {p.location}: another comes first on the path") for p in registry.hidden]
    return sorted(entries, key=lambda e: (e["kind"], e["name"], e["provider"], e["version"]))


def listing_text(registry: Registry) -> str:
    """The listing as a table for people."""
    head = ("name", "kind", "provider", "version", "status")
    rows = [head, *(tuple(entry[key] for key in head) for entry in listing(registry))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def errors_text(registry: Registry, bases: Mapping[Kind, type]) -> str:
    """Why plugins, or what they name, cannot be used, with tracebacks. This imports everything.

    Args:
        registry: The plugins.
        bases: The class that those of each kind must be subclasses of, where there is one.
    """
    errors = [f"{f.provider}: {f.reason}" for f in registry.failures]
    for component in registry.components:
        if component.alias_of is not None:
            continue
        try:
            if component.kind in bases:
                registry.load(component, bases[component.kind])
            else:
                load_object(component)
            if component.kind in ("guard", "observer"):
                manager_of(component)
        except PluginError as error:
            cause = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
            errors.append(f"{component.provider}: {error}\n{cause}".rstrip())
    return "\n\n".join(errors) or "everything that plugins name can be loaded"


def _status(registry: Registry, component: Component) -> str:
    others = [c for c in registry.clashes(component.kind, component.name) if c is not component]
    if others:
        return f"clashes with {', '.join(str(c.provider) for c in others)}"
    if component.alias_of is not None:
        return f"alias of {component.alias_of}"
    return "removed" if component.kind == "removed" else "registered"


def _plugin_entry(provider: Provider, status: str) -> dict[str, str]:
    place = {"provider": provider.distribution, "version": provider.version}
    return {"name": "-", "kind": "plugin", **place, "status": status, "target": ""}
