"""Calls of the guards and observers that see a run: a guard's error fails the run, an observer's is a warning."""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bsm_core.errors import BSMError, HookFailedError
from bsm_core.plugins.discovery import WORDS, Component
from bsm_core.plugins.hook_calls import Accept, Arguments, HookCalls
from bsm_core.plugins.hookspecs import BatchView, Committed
from bsm_core.plugins.loading import described, place
from bsm_core.plugins.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("bsm")


def without_hooks(registry: Registry) -> Registry:
    """Return the registry without its guards and observers; components registered in code are shared."""
    other = copy.copy(registry)
    other.components = tuple(c for c in registry.components if c.kind not in ("guard", "observer"))
    other.failures = tuple(failure for failure in registry.failures if not failure.guard)
    return other


class Hooks(HookCalls):
    """The guards and observers of a registry, loaded.

    Args:
        registry: The plugins. Without guards and observers, calls return at once.

    Raises:
        HookFailedError: A guard cannot be loaded, or its entry point is invalid.
    """

    def __init__(self, registry: Registry) -> None:
        for failure in registry.failures:
            if failure.guard:
                names = ", ".join(map(repr, failure.names))
                raise HookFailedError(
                    f"guard {names} of {failure.provider} cannot be used: {failure.reason}",
                    where=failure.provider.location,
                    fix=f"repair or uninstall {failure.provider.distribution}, or list the others in BSM_PLUGINS",
                )
        super().__init__()
        self._registry = registry
        self._warned: set[tuple[Component, str]] = set()
        self._failures: Counter[str] = Counter()
        self._refusal: HookFailedError | None = None
        components = [c for c in registry.components if c.kind in ("guard", "observer")]
        self._shared = {name for name, count in Counter(c.name for c in components).items() if count > 1}
        for component in components:
            try:
                self.add(component)
            except BSMError as error:
                self.failed(component, "(loading)", error)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process imports the plugins again: the objects of a plugin are never pickled.
        return Hooks, (self._registry,)

    def artifact_loaded(self, artifact: Any) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_artifact_loaded`.

        Raises:
            HookFailedError: A guard refuses the artifact, or fails.
        """
        if self.components:
            artifact.detached()  # here, a file that cannot be read is the artifact's fault, not a plugin's
        self.call("bsm_artifact_loaded", {"artifact": lambda _: artifact.detached()})

    def window_start(self, batch: BatchView) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_window_start`."""
        self.call("bsm_window_start", {"batch": lambda _: _batch_copy(batch)})

    def window_end(self, batch: BatchView, probabilities: Tensor) -> dict[str, float]:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_window_end`.

        Returns:
            The numbers that plugins returned, by ``plugin:<entry point>:<key>``, and the number of failures of each
            observer in this window, by ``hook:<entry point>``.
        """
        arguments = {"batch": lambda _: _batch_copy(batch), "probabilities": lambda _: probabilities.clone()}
        counts: dict[str, float] = {}
        for numbers in self.call("bsm_window_end", arguments, _Numbers):
            counts |= {f"plugin:{self._label(numbers.component)}:{key}": value for key, value in numbers.items()}
        return counts | self.take_failures()

    def committed(self, committed: Committed, record: Mapping[str, Any]) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_committed`."""
        arguments = {"committed": lambda _: copy.deepcopy(committed), "record": lambda _: copy.deepcopy(record)}
        self.call("bsm_committed", arguments)

    def has(self, hook: str) -> bool:
        """Return whether a guard or an observer implements a hook."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def take_failures(self) -> dict[str, float]:
        """Return the number of failures of each observer since the last call, by ``hook:<entry point>``."""
        failures, self._failures = self._failures, Counter()
        return dict(failures)

    def call(self, hook: str, arguments: Arguments, accept: Accept | None = None) -> list[Any]:
        """Call a hook of all plugins.

        Raises:
            HookFailedError: A guard refuses or fails, even where a wrapper of another plugin catches the error.
        """
        self._refusal = None
        results = super().call(hook, arguments, accept)
        if self._refusal is not None:  # a wrapper of another plugin caught the guard's error
            raise self._refusal
        return results

    def _label(self, component: Component) -> str:
        """Return a plugin's name in counts: its entry point, with the distribution where two plugins share the name."""
        shared = component.name in self._shared
        return f"{component.provider.distribution}/{component.name}" if shared else component.name

    def failed(self, component: Component, hook: str, error: BaseException) -> None:
        """Raise the error of a guard as a HookFailedError; count the error of an observer, and warn once."""
        what = f"{WORDS[component.kind]} {component.name!r} failed in {hook}: {described(error)}"
        if component.kind == "guard":
            fix, details = (error.fix, error.details) if isinstance(error, BSMError) else (None, ())
            fix = fix or f"find out why the guard refuses, or uninstall {component.provider.distribution}"
            self._refusal = HookFailedError(what, where=place(component), fix=fix, details=details)
            raise self._refusal from error
        self._failures[f"hook:{self._label(component)}"] += 1
        if (component, hook) not in self._warned:
            self._warned.add((component, hook))
            log.warning("%s (%s); the run goes on", what, place(component))


class _Numbers(dict[str, Any]):
    """Finite numbers that one plugin's hook returned, as Python numbers, with the plugin that they are counted for.

    Numbers that passed through a wrapper stay with their plugin.

    Args:
        component: The plugin that returns the numbers.
        numbers: Mapping of names to numbers.

    Raises:
        TypeError: The result is no mapping, a key is not a string, or a value is not a number.
        ValueError: A number is infinite or NaN, which cannot be summed.
    """

    component: Component

    def __init__(self, component: Component, numbers: Any) -> None:
        if not isinstance(numbers, Mapping):
            raise TypeError(f"the result is a {type(numbers).__name__}, not a mapping of names to numbers")
        super().__init__({key: value.item() if hasattr(value, "item") else value for key, value in numbers.items()})
        self.component = numbers.component if isinstance(numbers, _Numbers) else component
        for key, value in self.items():
            if not isinstance(key, str) or not isinstance(value, int | float):
                raise TypeError(f"the result has {key!r}: {value!r}, which is not a name and a number")
            if not math.isfinite(float(value)):
                raise ValueError(f"the result has {key!r}: {value!r}, which cannot be summed")


def _batch_copy(batch: Any) -> Any:
    """Return the batch with tensors of its own; the window is shared, because its columns cannot be changed."""
    return replace(copy.deepcopy(replace(batch, window=None)), window=batch.window)
