"""Calling the hooks of guards and observers, through pluggy, so that an error has a name.

Each plugin has a plugin manager of its own: what it raises is its own, and the others are called all the same. A guard
that fails fails the run; an observer that fails is a warning and a count.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pluggy

from bsm_core.errors import BSMError, HookFailedError, nearest
from bsm_core.plugins import hookspecs
from bsm_core.plugins.discovery import WORDS, Component
from bsm_core.plugins.hookspecs import PROJECT, BatchView, Committed
from bsm_core.plugins.loading import load_object, place
from bsm_core.plugins.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from bsm_core.plugins.hookspecs import Committed

log = logging.getLogger("bsm")

SPECS = tuple(name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_"))
"""The hooks that there are."""


def manager_of(component: Component) -> pluggy.PluginManager:
    """A plugin manager with one plugin, whose hooks are valid.

    Raises:
        ComponentLoadError: It cannot be imported.
        HookFailedError: It implements no hook, one that there is not, or one with other arguments.
    """
    plugin = load_object(component)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=component.name)
    except pluggy.PluginValidationError as error:
        raise _invalid(component, " ".join(str(error).split()), "give its hooks arguments that bsm's have") from error
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec() and not all(implementation.optionalhook for implementation in caller.get_hookimpls()):
            near = nearest(caller.name, SPECS)
            fix = f"did you mean {near!r}?" if near else f"the hooks are {', '.join(SPECS)}"
            raise _invalid(component, f"there is no hook {caller.name!r}", fix)
    if not callers:
        raise _invalid(component, "it implements no hook", f"put @hookimpl on one of {', '.join(SPECS)}")
    return manager


def _invalid(component: Component, what: str, fix: str) -> HookFailedError:
    return HookFailedError(
        f"{WORDS[component.kind]} {component.name!r} cannot be used: {what}", where=place(component), fix=fix
    )


@dataclass(frozen=True)
class _Plugin:
    component: Component
    manager: pluggy.PluginManager


def without_hooks(registry: Registry) -> Registry:
    """The same registry, less its guards and observers."""
    components = [c for c in registry.components if c.kind not in ("guard", "observer")]
    failures = [failure for failure in registry.failures if not failure.guard]
    return Registry(components, failures, registry.blocked, registry.hidden)


class Hooks:
    """The guards and observers of a registry, loaded.

    Args:
        registry: The plugins; without guards and observers, hooks cost nothing.

    Raises:
        HookFailedError: A guard cannot be loaded, or not even be read.
    """

    def __init__(self, registry: Registry) -> None:
        for failure in registry.failures:
            if failure.guard:
                names = ", ".join(map(repr, failure.names))
                raise HookFailedError(
                    f"guard {names} of {failure.provider} cannot be used: {failure.reason}",
                    where=failure.provider.location,
                    fix=f"repair or uninstall {failure.provider.distribution}, or leave it out with BSM_PLUGINS",
                )
        self._registry = registry
        self._plugins: list[_Plugin] = []
        self._warned: set[tuple[Component, str]] = set()
        self._failures: Counter[str] = Counter()
        components = [c for c in registry.components if c.kind in ("guard", "observer")]
        self._shared = {name for name, count in Counter(c.name for c in components).items() if count > 1}
        for component in components:
            try:
                self._plugins.append(_Plugin(component, manager_of(component)))
            except BSMError as error:
                self._failed(component, "(loading)", error)

    def __reduce__(self) -> tuple[Any, ...]:
        # Other processes load the plugins again: a plugin's object is never pickled.
        return Hooks, (self._registry,)

    def __bool__(self) -> bool:
        return bool(self._plugins)

    @property
    def components(self) -> list[Component]:
        """Those that are called."""
        return [plugin.component for plugin in self._plugins]

    def artifact_loaded(self, artifact: Any) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_artifact_loaded`.

        Raises:
            HookFailedError: A guard refuses the artifact, or fails.
        """
        self._call("bsm_artifact_loaded", lambda: {"artifact": artifact.detached()})

    def window_start(self, batch: BatchView) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_window_start`."""
        self._call("bsm_window_start", lambda: {"batch": _copied(batch)})

    def window_end(self, batch: BatchView, probabilities: Tensor) -> dict[str, float]:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_window_end`.

        Returns:
            The numbers that plugins gave, as ``plugin:<entry point>:<key>``, and how often observers failed in this
            window, as ``hook:<entry point>``.
        """
        counts: dict[str, float] = {}
        answers = self._call(
            "bsm_window_end", lambda: {"batch": _copied(batch), "probabilities": probabilities.clone()}
        )
        for component, numbers in answers:
            try:
                counts |= _numbers(self._label(component), numbers)
            except Exception as error:  # noqa: BLE001 - a stranger's mapping may raise anything
                self._failed(component, "bsm_window_end", error)
        return counts | self.take_failures()

    def committed(self, committed: Committed, record: Mapping[str, Any]) -> None:
        """Call :func:`~bsm_core.plugins.hookspecs.bsm_committed`."""
        self._call("bsm_committed", lambda: copy.deepcopy({"committed": committed, "record": record}))

    def take_failures(self) -> dict[str, float]:
        """How often observers failed since it was last asked, as ``hook:<entry point>``."""
        failures, self._failures = self._failures, Counter()
        return dict(failures)

    def _call(self, hook: str, arguments: Callable[[], dict[str, Any]]) -> list[tuple[Component, Any]]:
        """What the plugins that implement a hook answer.

        Each is given arguments of its own: what it writes into them changes no prediction, no record, and nothing that
        the others see.
        """
        answers = []
        for plugin in self._plugins:
            caller = getattr(plugin.manager.hook, hook)
            if not caller.get_hookimpls():
                continue
            given = arguments()
            try:
                answers += [(plugin.component, answer) for answer in caller(**given)]
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's plugin may fail in any way
                self._failed(plugin.component, hook, error)
        return answers

    def _label(self, component: Component) -> str:
        """What counts call a plugin: its entry point, with its distribution where another has one of that name."""
        shared = component.name in self._shared
        return f"{component.provider.distribution}/{component.name}" if shared else component.name

    def _failed(self, component: Component, hook: str, error: BaseException) -> None:
        what = f"{WORDS[component.kind]} {component.name!r} failed in {hook}: {_said(error)}"
        if component.kind == "guard":
            raise HookFailedError(
                what,
                where=place(component),
                details=error.details if isinstance(error, BSMError) else (),
                fix=(error.fix if isinstance(error, BSMError) else None)
                or f"see what it refuses, or uninstall {component.provider.distribution}",
            ) from error
        self._failures[f"hook:{self._label(component)}"] += 1
        if (component, hook) not in self._warned:
            self._warned.add((component, hook))
            log.warning("%s (%s); the run goes on", what, place(component))


def _copied(batch: Any) -> Any:
    """The batch with tensors of its own; what travels to the part stays what it is."""
    return replace(copy.deepcopy(replace(batch, window=None)), window=batch.window)


def _said(error: BaseException) -> str:
    if isinstance(error, BSMError):
        return error.what
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - its text is a stranger's as well
        return type(error).__name__


def _numbers(name: str, numbers: Any) -> dict[str, float]:
    """What a plugin counted, by full key.

    Raises:
        TypeError, ValueError: It is no mapping of names to finite numbers.
    """
    if not isinstance(numbers, Mapping):
        raise TypeError(f"it gave a {type(numbers).__name__}, not a mapping of names to numbers")
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in numbers.items()}
    for key, value in plain.items():
        if not isinstance(key, str) or not isinstance(value, int | float):
            raise TypeError(f"it gave {key!r}: {value!r}, not a name and a number")
        if not math.isfinite(float(value)):
            raise ValueError(f"it gave {key!r}: {value!r}, which cannot be summed")
    return {f"plugin:{name}:{key}": value for key, value in plain.items()}
