"""Checks of a distribution. A fresh process imports the plugin and reports its side effects."""

from __future__ import annotations

import importlib.metadata
import json
from functools import cached_property

from bsm_core.plugins.discovery import Component
from bsm_core.plugins.hookspecs import CONTRACT, GROUPS, PROJECT
from bsm_core.plugins.registry import default_registry
from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError, Subject
from bsm_core.testing.elsewhere import ElsewhereError, elsewhere
from bsm_core.testing.import_probe import side_effects

CHECKS = Checks()
_INSIDE = "move the code from the top level of the module into the function that needs it"


class PluginSubject(Subject):
    """An installed distribution.

    Args:
        distribution: Name of the distribution.

    Attributes:
        components: Components that the distribution's entry points name.
        failures: Entry points of the distribution that cannot be used.
    """

    checks = CHECKS

    def __init__(self, distribution: str) -> None:
        super().__init__()
        self.distribution = distribution
        self.label = f"plugin {distribution}"
        self.registry = default_registry()
        self.components = [c for c in self.registry.components if c.provider.is_named(distribution)]
        self.failures = [f for f in self.registry.failures if f.provider.is_named(distribution)]

    @property
    def in_code(self) -> list[Component]:
        """Components that the distribution registers in code."""
        return [c for c in self.registry.in_code.classes if c.registered_by in self.components]

    @cached_property
    def side_effects(self) -> dict[str, list[str]]:
        """Side effects of the import, by kind."""
        try:
            effects: dict[str, list[str]] = elsewhere(side_effects, self.distribution, fresh=True)
        except ElsewhereError as error:
            return {"load": [f"importing it in a fresh process fails: {error}"]}
        return effects

    def require_none(self, kind: str) -> None:
        """Fail the check where the import has side effects of that kind."""
        if found := self.side_effects[kind]:
            raise CheckFailedError("; ".join(dict.fromkeys(found)))


@CHECKS.add(
    f'name the groups "{PROJECT}.v{CONTRACT}.steps", "{PROJECT}.v{CONTRACT}.model_classes" and so on: the number is '
    "the version of the contract that the plugin was written for",
    gate=True,
)
def declares_the_contract(subject: PluginSubject) -> None:
    """The names of the entry-point groups contain the contract version that this bsm implements."""
    groups = {entry_point.group for entry_point in _installed(subject.distribution).entry_points}
    if groups.isdisjoint(GROUPS) and subject.failures:
        raise CheckFailedError("; ".join(f.reason for f in subject.failures))


@CHECKS.add("correct these entry points in pyproject.toml, and install it again")
def has_valid_entry_points(subject: PluginSubject) -> None:
    """Every entry point has an existing group, a lower_snake name and a value of the right form."""
    if problems := [f.reason for f in subject.failures]:
        raise CheckFailedError("; ".join(problems))
    for component in subject.components:
        if component.alias_of is not None and component.kind in ("step", "model_class"):
            subject.registry.resolve(component.kind, f"{subject.distribution}/{component.name}")


@CHECKS.add("add the module to the files that the build backend packs, and build the wheel again")
def ships_its_modules(subject: PluginSubject) -> None:
    """The distribution is an installed wheel, whose list of files has every module that an entry point names."""
    distribution = _installed(subject.distribution)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise CheckSkippedError(
            "it is installed in editable mode, so the files of its wheel are unknown; pip install --force-reinstall "
            "--no-deps WHEEL installs them"
        )
    files = {file.as_posix() for file in distribution.files or ()}
    if not any(file.endswith("/RECORD") for file in files):
        raise CheckFailedError("it has no RECORD: it was not installed from a wheel")
    for component in subject.components:
        path = component.target.partition(":")[0].replace(".", "/")
        binary = any(file.startswith(f"{path}.") and file.endswith((".so", ".pyd")) for file in files)
        if component.alias_of is None and not binary and not {f"{path}.py", f"{path}/__init__.py"} & files:
            raise CheckFailedError(
                f"{component.name} is {component.target!r}, a module that the wheel does not contain"
            )


@CHECKS.add("choose another name, for example one that begins with the name of the distribution")
def clashes_with_nobody(subject: PluginSubject) -> None:
    """No other distribution provides one of the plugin's names, and the plugin provides each name once."""
    for component in (*subject.components, *subject.in_code):
        for other in subject.registry.others(component, in_code=True):
            raise CheckFailedError(f"{component.kind} {component.name!r} is also provided by {other.provider}")


@CHECKS.add("repair what the error names: an artifact that names the component cannot be loaded without it", gate=True)
def loads(subject: PluginSubject) -> None:
    """Every component that the plugin names or registers can be imported, and is an object of its kind."""
    subject.require_none("load")


@CHECKS.add("ship no .pth file and no sitecustomize module that imports the plugin: bsm imports it when needed")
def is_listed_without_being_imported(subject: PluginSubject) -> None:
    """Listing all plugins imports neither the plugin's modules nor torch."""
    subject.require_none("imported_by_listing")


@CHECKS.add("allow registrations in other libraries to happen twice: every worker imports the module again")
def loads_twice(subject: PluginSubject) -> None:
    """Importing the plugin's modules a second time, in the same process, raises no error."""
    subject.require_none("load_again")


@CHECKS.add(
    "implement hooks of bsm_core.plugins.hookspecs with all or some of their arguments; mark others optionalhook=True"
)
def has_valid_hooks(subject: PluginSubject) -> None:
    """Entry points of guards, observers and plugins implement existing hooks, with arguments of these hooks."""
    subject.require_none("hooks")


@CHECKS.add(f"use the logging module; or {_INSIDE}")
def prints_nothing_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin writes neither to standard output nor to standard error."""
    subject.require_none("printed")


@CHECKS.add(_INSIDE)
def opens_no_socket_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin opens no socket and looks up no host."""
    subject.require_none("sockets")


@CHECKS.add(f"{_INSIDE}: forked processes cannot use CUDA after the parent has initialized it")
def leaves_cuda_alone_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin neither initializes CUDA nor looks for devices."""
    subject.require_none("cuda")


@CHECKS.add(f"use a separate random generator, or {_INSIDE}")
def leaves_random_state_alone_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin neither seeds nor uses the global generators of random, numpy and torch."""
    subject.require_none("random")


@CHECKS.add("use warnings.catch_warnings() around the call that warns")
def leaves_warning_filters_alone_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin does not change the warning filters."""
    subject.require_none("warnings")


@CHECKS.add("read environment variables, but do not set them; use parameters of the component for its options")
def leaves_the_environment_alone_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin changes neither environment variables nor the working folder."""
    subject.require_none("environment")


@CHECKS.add(f"{_INSIDE}: every worker process imports the module, and would start its own")
def starts_nothing_when_imported(subject: PluginSubject) -> None:
    """Importing the plugin starts neither processes nor threads."""
    subject.require_none("started")


def _installed(name: str) -> importlib.metadata.Distribution:
    """Return the distribution; of several on the path, the one with a list of files."""
    found = list(importlib.metadata.distributions(name=name))
    return next((d for d in found if d.read_text("RECORD") is not None), found[0])
