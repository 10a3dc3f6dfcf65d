"""Importing what a component's entry point leads to, and saying what stands in the way."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from typing import Any

from bsm_core.errors import ComponentLoadError
from bsm_core.plugins.discovery import WORDS, Component, canonical, frozen

log = logging.getLogger("bsm")


def load_object(component: Component) -> Any:
    """Import a component's module and take its object; what the import prints becomes a warning.

    Raises:
        ComponentLoadError: It cannot be imported; the cause is chained.
    """
    module, _, attribute = component.target.partition(":")
    children = set(multiprocessing.active_children())
    try:
        with _printed() as printed:
            loaded = importlib.import_module(module)
            found = getattr(loaded, attribute) if attribute else loaded
    except (Exception, SystemExit) as error:
        raise ComponentLoadError(
            f"{WORDS[component.kind]} {component.name!r} could not be loaded: {type(error).__name__}: {error}",
            where=place(component),
            fix=_cure(component, error),
        ) from error
    if text := " ".join(printed.text.split()):
        log.warning("%s prints when it is imported: %.200s", component.provider, text)
    if started := set(multiprocessing.active_children()) - children:
        names = ", ".join(sorted(process.name for process in started))
        log.warning(
            "%s starts processes when it is imported (%s); in a worker, which may start none, this fails the run",
            component.provider,
            names,
        )
    return found


class _Printed(io.BufferedIOBase):
    """What is printed meanwhile. Who keeps this stream, as a logging handler does, prints to standard error later."""

    def __init__(self) -> None:
        self.text, self.over = "", False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data).decode(errors="replace")
        if self.over:
            sys.stderr.write(text)
        else:
            self.text += text
        return len(data)


@contextlib.contextmanager
def _printed() -> Iterator[_Printed]:
    """Standard output leads elsewhere meanwhile: our own may be JSON."""
    printed = _Printed()
    stream = io.TextIOWrapper(printed, "utf-8", "replace", write_through=True)  # type: ignore[type-var]
    with contextlib.redirect_stdout(stream):
        try:
            yield printed
        finally:
            printed.over = True


def place(component: Component) -> str:
    """Where a component comes from, for errors."""
    return f"{component.target} of {component.provider}"


def _cure(component: Component, error: BaseException) -> str:
    """What to do about a failed import, as exactly as the metadata allow."""
    provider, module = component.provider, component.target.partition(":")[0]
    lacks = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    if lacks and f"{module}.".startswith(f"{lacks}."):
        if frozen():
            return f"freeze the program again with its modules: `pyinstaller --hidden-import {module} ...`"
        return (
            f"its metadata are in {provider.location or 'the path'}, its modules are not: reinstall "
            f"{provider.distribution}, or remove what is left of it"
        )
    if lacks:
        return _bring(lacks, component)
    if isinstance(error, RuntimeError | AssertionError) and multiprocessing.parent_process() is not None:
        return (
            f"tell the authors of {provider.distribution}: what a plugin does when it is imported happens in every "
            "worker process, and these may not start processes; --num-workers 0 and one device do without workers"
        )
    return f"repair or update {provider.distribution}, or install what it needs"


def _bring(module: str, component: Component) -> str:
    """How to install a module that a component needs, as far as names tell: by an extra, or by itself."""
    name, (sure, maybe) = component.provider.distribution, _extras(component, module)
    if sure:
        return f"pip install '{name}[{','.join(sure)}]'"
    perhaps = f" (perhaps one of the extras of {name}: {', '.join(maybe)})" if maybe else ""
    return f"install what provides {module!r}{perhaps}, or update {name}"


def _extras(component: Component, module: str) -> tuple[list[str], list[str]]:
    """The extras of a component's distribution that bring a module, and those that may."""
    from packaging.requirements import InvalidRequirement, Requirement

    if component.extras:
        return list(component.extras), []
    bring: dict[str, list[str]] = {}
    try:
        metadata = importlib.metadata.metadata(component.provider.distribution)
        optional = [Requirement(line) for line in metadata.get_all("Requires-Dist") or [] if "extra" in line]
    except (importlib.metadata.PackageNotFoundError, InvalidRequirement):
        return [], []
    for extra in metadata.get_all("Provides-Extra") or []:
        bring[extra] = [r.name for r in optional if r.marker and r.marker.evaluate({"extra": extra})]
    top = canonical(module.partition(".")[0])
    return [e for e, names in bring.items() if any(top in canonical(n) for n in names)], [e for e in bring if bring[e]]
