"""Importing the object that a component's entry point names, with an error that says how to repair a failed import."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import multiprocessing
import operator
import sys
from collections.abc import Iterator
from typing import Any

from bsm_core.errors import BSMError, ComponentLoadError
from bsm_core.plugins.discovery import WORDS, Component, canonical, frozen

log = logging.getLogger("bsm")


def load_object(component: Component) -> Any:
    """Import a component's module and return the object that its target names.

    Raises:
        ComponentLoadError: The import fails; the cause is chained.
    """
    module, _, attribute = component.target.partition(":")
    try:
        with watched(str(component.provider), "when it is imported"):
            loaded = importlib.import_module(module)
            return operator.attrgetter(attribute)(loaded) if attribute else loaded
    except (Exception, SystemExit) as error:
        raise ComponentLoadError(
            f"{WORDS[component.kind]} {component.name!r} could not be loaded: {described(error)}",
            where=place(component),
            fix=_fix(component, error),
        ) from error


@contextlib.contextmanager
def watched(who: str, when: str) -> Iterator[None]:
    """Log a warning about text that plugin code prints, and about processes that it starts.

    Standard output is redirected inside the context, because the output of a command may be JSON.

    Args:
        who: Subject of the warning: the distribution.
        when: Rest of the warning, ``"when it is imported"`` for example.
    """
    children, printed = set(multiprocessing.active_children()), _Printed()
    stream = io.TextIOWrapper(printed, "utf-8", "replace", write_through=True)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        printed.over = True
    if text := " ".join(printed.getvalue().decode(errors="replace").split()):
        log.warning("%s prints %s: %.200s", who, when, text)
    if started := set(multiprocessing.active_children()) - children:
        names = ", ".join(sorted(process.name for process in started))
        log.warning("%s starts processes %s (%s); worker processes cannot, and fail the run", who, when, names)


class _Printed(io.BytesIO):
    """Stream that collects text, and writes to standard error once it is over, for plugins that keep the stream."""

    over = False

    def write(self, data: Any) -> int:
        return sys.stderr.write(bytes(data).decode(errors="replace")) if self.over else super().write(data)


def place(component: Component) -> str:
    """Return where a component comes from, for errors."""
    return f"{component.target} of {component.provider}"


def described(error: BaseException) -> str:
    """Return the type and text of an error that plugin code raised, whose text may raise as well."""
    if isinstance(error, BSMError):
        return error.what
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the __str__ of a plugin's error may raise any error
        return type(error).__name__


def _fix(component: Component, error: BaseException) -> str:
    """Return how to repair a failed import, as exactly as the metadata allow."""
    provider, module = component.provider, component.target.partition(":")[0]
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    if missing and f"{module}.".startswith(f"{missing}."):
        if frozen():
            return f"freeze the program again with its modules: `pyinstaller --hidden-import {module} ...`"
        return (
            f"its metadata are in {provider.location or 'the path'}, its modules are not: reinstall "
            f"{provider.distribution}, or delete its metadata"
        )
    if missing:
        return _how_to_install(missing, component)
    if isinstance(error, RuntimeError | AssertionError) and multiprocessing.parent_process() is not None:
        return (
            f"report this to the authors of {provider.distribution}: every worker process imports the plugin, and "
            "worker processes may not start processes; --num-workers 0 with one device needs no worker processes"
        )
    return f"repair or update {provider.distribution}, or install the packages that it needs"


def _how_to_install(module: str, component: Component) -> str:
    """Return how to install a module that a component needs: through an extra where one is known, or by itself."""
    name, top = component.provider.distribution, canonical(module.partition(".")[0])
    installs = _extras(name)
    sure = component.extras or [extra for extra, names in installs.items() if any(top in n for n in names)]
    if sure:
        return f"pip install '{name}[{','.join(sure)}]'"
    maybe = ", ".join(extra for extra, names in installs.items() if names)
    perhaps = f" (perhaps one of the extras of {name}: {maybe})" if maybe else ""
    return f"install the package that provides {module!r}{perhaps}, or update {name}"


def _extras(distribution: str) -> dict[str, list[str]]:
    """Return the packages that each extra of a distribution installs; empty where the metadata cannot be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        metadata = importlib.metadata.metadata(distribution)
        optional = [Requirement(line) for line in metadata.get_all("Requires-Dist") or [] if "extra" in line]
    except (importlib.metadata.PackageNotFoundError, InvalidRequirement):
        return {}
    return {
        extra: [canonical(r.name) for r in optional if r.marker and r.marker.evaluate({"extra": extra})]
        for extra in metadata.get_all("Provides-Extra") or []
    }
