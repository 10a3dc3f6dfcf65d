"""What ``bsm plugins`` prints. Only ``--errors`` imports what a plugin targets."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

from bsm_core.errors import ComponentLoadError
from bsm_core.hookspecs import Alias, Removed
from bsm_core.registry import Component, Kind, Provider, Registry


def listing(registry: Registry) -> list[dict[str, str]]:
    """One entry a component, a plugin that could not be read, or one that is left out; sorted and JSON-able.

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
            "target": c.target if isinstance(c.target, str) else "",
        }
        for c in registry.components
    ]
    entries += [_plugin_entry(f.provider, f"failed: {f.reason}") for f in registry.failures]
    entries += [_plugin_entry(provider, "left out by BSM_PLUGINS") for provider in registry.blocked]
    return sorted(entries, key=lambda e: (e["kind"], e["name"], e["provider"]))


def listing_text(registry: Registry) -> str:
    """The listing as a table for people."""
    head = ("name", "kind", "provider", "version", "status")
    rows = [head, *(tuple(entry[key] for key in head) for entry in listing(registry))]
    text = _table(rows)
    if registry.failures:
        text += f"\n\n{len(registry.failures)} plugin(s) could not be loaded: bsm plugins --errors"
    return text


def errors_text(registry: Registry, bases: Mapping[Kind, type]) -> str:
    """Why plugins, or classes they name, cannot be loaded, with tracebacks. This imports every class.

    Args:
        registry: The plugins.
        bases: The class that those of each kind must be subclasses of.
    """
    errors = [f"{f.provider}: {f.reason}\n{f.traceback}".rstrip() for f in registry.failures]
    for component in registry.components:
        if isinstance(component.target, str):
            try:
                registry.load(component, bases[component.kind])
            except ComponentLoadError as error:
                cause = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
                errors.append(f"{component.provider}: {error.what}\n{cause}".rstrip())
    return "\n\n".join(errors) or "no plugin failed to load, nor any class that one names"


def _status(registry: Registry, component: Component) -> str:
    others = [c for c in registry.clashes(component.kind, component.name) if c is not component]
    if others:
        return f"clashes with {', '.join(str(c.provider) for c in others)}"
    if isinstance(component.target, Alias):
        return f"alias of {component.target.of}"
    if isinstance(component.target, Removed):
        return f"removed in {component.target.since}"
    return "registered"


def _plugin_entry(provider: Provider, status: str) -> dict[str, str]:
    place = {"provider": provider.distribution, "version": provider.version}
    return {"name": "-", "kind": "plugin", **place, "status": status, "target": ""}


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
