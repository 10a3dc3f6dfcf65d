"""Components that plugins register in code, through the hook ``bsm_register``."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from bsm_core.errors import ComponentLoadError, PluginError
from bsm_core.plugins.discovery import WORDS, Component
from bsm_core.plugins.hook_calls import REGISTER, HookCalls
from bsm_core.plugins.hookspecs import Registrar
from bsm_core.plugins.loading import described, place, watched


class InCode(HookCalls):
    """Components registered in code. The plugins are imported when :attr:`classes` or :attr:`errors` is first read.

    Args:
        named: Components that metadata name. Those of the kind ``"plugin"`` register further ones.

    Attributes:
        plugins: Components of the kind ``"plugin"``.
    """

    def __init__(self, named: Iterable[Component]) -> None:
        super().__init__()
        self._named = tuple(dict.fromkeys(named))
        self.plugins = tuple(component for component in self._named if component.kind == "plugin")
        self._errors: dict[Component, PluginError] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Classes made in code cannot be pickled: another process calls the hooks again.
        return InCode, (self._named,)

    @cached_property
    def classes(self) -> dict[Component, type]:
        """Class of each registered component. A plugin that fails registers nothing."""
        registrars = {
            plugin: Registrar({(c.kind, c.name) for c in self._named if c.provider == plugin.provider})
            for plugin in self.plugins
        }
        for plugin in self.plugins:
            try:
                self.add(plugin)
            except PluginError as error:
                self._errors[plugin] = error
        with watched(" and ".join(str(plugin.provider) for plugin in self.components), f"in {REGISTER}"):
            self.call(REGISTER, {"registry": registrars.__getitem__})
        return {
            Component(kind, name, _target(plugin, cls), plugin.provider, plugin.extras, plugin): cls
            for plugin, registrar in registrars.items()
            if plugin not in self._errors
            for (kind, name), cls in registrar.classes.items()
        }

    @property
    def errors(self) -> dict[Component, PluginError]:
        """Error of each plugin that cannot be loaded or whose hook fails."""
        _ = self.classes
        return self._errors

    def failed(self, component: Component, hook: str, error: BaseException) -> None:
        """Record the error of a plugin's hook."""
        self._errors[component] = ComponentLoadError(
            f"plugin {component.name!r} failed in {hook}: {described(error)}",
            where=place(component),
            fix=f"repair or update {component.provider.distribution}, or list the others in BSM_PLUGINS",
        )
        self._errors[component].__cause__ = error

    def load(self, component: Component) -> type:
        """Return the class of a registered component.

        Raises:
            PluginError: The plugin fails, or does not register the component in this process.
        """
        plugin = component.registered_by
        if plugin is not None and plugin in self.errors:
            raise self.errors[plugin]
        if component not in self.classes:
            raise ComponentLoadError(
                f"{WORDS[component.kind]} {component.name!r} is not registered in this process",
                where=place(component),
                fix=f"let {REGISTER} register the same names and classes in every process",
            )
        return self.classes[component]


def _target(plugin: Component, cls: type) -> str:
    """Return ``module:name`` of a class; the module is the plugin's where the class cannot be imported."""
    try:
        importable = operator.attrgetter(cls.__qualname__)(sys.modules[cls.__module__]) is cls
    except (AttributeError, KeyError):
        importable = False  # made by a call of type(), for example, whose __module__ can be "abc"
    return f"{cls.__module__ if importable else plugin.target.partition(':')[0]}:{cls.__qualname__}"
