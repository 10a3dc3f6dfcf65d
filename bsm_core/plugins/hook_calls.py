"""Calls of plugin hooks through one pluggy manager. An error is reported with the name of its plugin."""

from __future__ import annotations

import copy
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pluggy

from bsm_core.errors import HookFailedError, nearest
from bsm_core.plugins import hookspecs
from bsm_core.plugins.discovery import WORDS, Component
from bsm_core.plugins.hookspecs import PROJECT, hookimpl
from bsm_core.plugins.loading import load_object, place

SPECS = tuple(name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_"))
"""Names of all hooks."""
REGISTER = "bsm_register"
RUN_HOOKS = tuple(name for name in SPECS if name != REGISTER)
"""Names of the hooks that see a run, which guards and observers implement."""

Arguments = Mapping[str, Callable[[Component], Any]]
"""For each argument of a hook, a function that returns the value for one plugin."""
_Wrapper = Generator[None, Any, Any]
Accept = Callable[[Component, Any], Any]
"""Function that checks one result of a component's hook and returns the object that goes into the list of results."""


def implementations(component: Component) -> list[tuple[str, pluggy.HookImpl]]:
    """Import a plugin and return its hook implementations, checked against the hook specifications.

    Args:
        component: A guard, an observer, or a plugin that registers components in code.

    Returns:
        Name of the hook and implementation: of the run hooks for guards and observers, else of ``bsm_register``.

    Raises:
        ComponentLoadError: The plugin cannot be imported.
        HookFailedError: The plugin implements none of these hooks, or a hook that does not exist, or an
            implementation has an unknown parameter.
    """
    plugin = load_object(component)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=component.name)
    except Exception as error:  # PluginValidationError, or an error of an unusual plugin object
        fix = "use only arguments of the hook's specification, and make every wrapper a generator function"
        raise _invalid(component, " ".join(str(error).split()), fix) from error
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec() and not all(implementation.optionalhook for implementation in caller.get_hookimpls()):
            near = nearest(caller.name, SPECS)
            fix = f"did you mean {near!r}?" if near else f"the hooks are {', '.join(SPECS)}"
            raise _invalid(component, f"there is no hook {caller.name!r}", fix)
    hooks = (REGISTER,) if component.kind == "plugin" else RUN_HOOKS
    found = [(c.name, implementation) for c in callers if c.name in hooks for implementation in c.get_hookimpls()]
    if not found:
        what = f"it does not implement {REGISTER}" if component.kind == "plugin" else "it implements no hook"
        raise _invalid(component, what, f"mark a function with @hookimpl and name it {' or '.join(hooks)}")
    return found


def _invalid(component: Component, what: str, fix: str) -> HookFailedError:
    return HookFailedError(
        f"{WORDS[component.kind]} {component.name!r} cannot be used: {what}", where=place(component), fix=fix
    )


class HookCalls(ABC):
    """One pluggy manager for all plugins, in which each implementation receives its own copies of the arguments.

    pluggy decides the order of the calls (last registered first, ``tryfirst``, ``trylast``, wrappers around all
    others). Each implementation is registered as a function without parameters that creates the arguments, calls the
    implementation, and reports an error to :meth:`failed`. Where that method returns, the call goes on without the
    implementation's result.

    Attributes:
        components: The plugins that were added.
    """

    def __init__(self) -> None:
        self.components: list[Component] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._arguments: Arguments = {}
        self._accept: Accept | None = None

    @abstractmethod
    def failed(self, component: Component, hook: str, error: BaseException) -> None:
        """Handle the error of a component's hook; may raise."""

    def add(self, component: Component) -> None:
        """Import a plugin and register its hooks; errors are those of :func:`implementations`."""
        adapter = types.ModuleType(component.name)
        for number, (hook, implementation) in enumerate(implementations(component)):
            wraps = implementation.wrapper or implementation.hookwrapper
            call = (self._wrapper if wraps else self._function)(component, hook, implementation)
            order = {"tryfirst": implementation.tryfirst, "trylast": implementation.trylast}
            setattr(adapter, f"{hook}_{number}", hookimpl(call, specname=hook, wrapper=wraps, **order))
        self._manager.register(adapter, name=f"{len(self.components)} {component.origin}")
        self.components.append(component)

    def call(self, hook: str, arguments: Arguments, accept: Accept | None = None) -> list[Any]:
        """Call a hook of all plugins.

        Args:
            hook: Name of the hook.
            arguments: Functions that return the values. Every implementation gets values of its own, so that no
                plugin can change what another one sees.
            accept: Checks each result that is not None; without it, results are dropped.

        Returns:
            The accepted results in the order of the calls, as wrappers changed them.
        """
        self._arguments, self._accept = arguments, accept
        try:
            # pluggy warns about arguments that are missing in a call; the functions that it calls here take none.
            return list(getattr(self._manager.hook, hook)(**arguments))
        finally:
            self._arguments, self._accept = {}, None  # the arguments hold a window's tensors

    def _function(self, component: Component, hook: str, implementation: pluggy.HookImpl) -> Callable[[], Any]:
        def call() -> Any:
            try:
                result = self._start(component, implementation)
                return None if self._accept is None or result is None else self._accept(component, result)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code may raise any error
                self.failed(component, hook, error)
                return None

        return call

    def _wrapper(self, component: Component, hook: str, implementation: pluggy.HookImpl) -> Callable[[], _Wrapper]:
        def call() -> _Wrapper:
            try:
                wrapper = self._start(component, implementation)
                if next(wrapper, self) is self:
                    raise RuntimeError("the wrapper does not yield")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code may raise any error
                self.failed(component, hook, error)
                wrapper = None
            if wrapper is None:
                return (yield)
            results, raised = [], None
            try:
                results = yield
            except Exception as error:  # noqa: BLE001 - the wrapper decides what becomes of the error
                raised = error  # an interrupt is not for plugins to catch: it ends the run
            outcome = pluggy.Result(None if raised else copy.deepcopy(results), raised)
            try:
                changed = _finish(wrapper, outcome, old_style=implementation.hookwrapper)
                return [] if self._accept is None else [self._accept(component, item) for item in changed]
            except (Exception, SystemExit) as error:
                if error is raised:
                    raise
                self.failed(component, hook, error)
            if raised is not None:
                raise raised
            return results

        return call

    def _start(self, component: Component, implementation: pluggy.HookImpl) -> Any:
        arguments = [self._arguments[name](component) for name in implementation.argnames]
        names = [name for name in implementation.kwargnames if name in self._arguments]
        return implementation.function(*arguments, **{name: self._arguments[name](component) for name in names})


def _finish(wrapper: _Wrapper, outcome: pluggy.Result[Any], *, old_style: bool) -> Any:
    """Resume a wrapper of pluggy after its ``yield`` and return the result of the call as the wrapper changed it."""
    try:
        if old_style:
            wrapper.send(outcome)
        elif outcome.exception is not None:
            wrapper.throw(outcome.exception)
        else:
            wrapper.send(outcome.get_result())
    except StopIteration as end:
        return outcome.get_result() if old_style else end.value
    wrapper.close()
    raise RuntimeError("the wrapper yields twice")
