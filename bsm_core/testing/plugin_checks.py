"""What a distribution must do. A fresh process imports it and says what happened; see :mod:`import_probe`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from functools import cached_property
from typing import Any

from bsm_core.plugins.discovery import Component, UnusablePlugin, canonical
from bsm_core.plugins.hookspecs import CONTRACT, GROUPS, PROJECT
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError, Subject
from bsm_core.testing.elsewhere import SECONDS

CHECKS = Checks()
_INSIDE = "do it in the function that needs it, not where the module is imported"


class PluginSubject(Subject):
    """An installed distribution.

    Args:
        distribution: Its name.
    """

    checks = CHECKS

    def __init__(self, distribution: str) -> None:
        super().__init__()
        self.distribution = distribution
        self.label = f"plugin {distribution}"
        self.registry: Registry = default_registry()

    @property
    def components(self) -> list[Component]:
        """What it offers."""
        name = canonical(self.distribution)
        return [c for c in self.registry.components if canonical(c.provider.distribution) == name]

    @property
    def failures(self) -> list[UnusablePlugin]:
        """What cannot be used of it."""
        name = canonical(self.distribution)
        return [f for f in self.registry.failures if canonical(f.provider.distribution) == name]

    @cached_property
    def probe(self) -> dict[str, Any]:
        """What the fresh process says of it."""
        command = [sys.executable, "-m", "bsm_core.testing.import_probe", self.distribution]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
            )
            seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return {"load": [f"a process that imports it does not come to an end in {SECONDS:g} s"]}
        except (IndexError, ValueError):
            said = done.stderr.strip()[-500:]
            return {"load": [f"a process that imports it ends with status {done.returncode}: {said}"]}
        return seen

    def seen(self, what: str) -> None:
        """Fail with what the probe has seen of that kind, if anything."""
        if found := self.probe[what]:
            raise CheckFailedError("; ".join(dict.fromkeys(found)))


@CHECKS.add(
    f'name the groups "{PROJECT}.v{CONTRACT}.steps", "{PROJECT}.v{CONTRACT}.model_classes" and so on: the number is '
    "the version of the contract that the plugin was written for",
    gate=True,
)
def declares_the_contract(subject: PluginSubject) -> None:
    """The names of its entry-point groups say which version of the contract it keeps, and this host speaks it."""
    groups = {entry_point.group for entry_point in _installed(subject.distribution).entry_points}
    if groups.isdisjoint(GROUPS) and subject.failures:
        raise CheckFailedError("; ".join(f.reason for f in subject.failures))


@CHECKS.add("correct these entry points in pyproject.toml, and install it again")
def has_valid_entry_points(subject: PluginSubject) -> None:
    """Every entry point stands in a group that there is, and has a lower_snake name and a value of the right form."""
    if problems := [f.reason for f in subject.failures]:
        raise CheckFailedError("; ".join(problems))
    for component in subject.components:
        if component.alias_of is not None and component.kind in ("step", "model_class"):
            subject.registry.resolve(component.kind, f"{subject.distribution}/{component.name}")


@CHECKS.add("list the module in what the build backend packs, and build the wheel again")
def ships_its_modules(subject: PluginSubject) -> None:
    """It is found as an installed wheel, whose list of files has every module that an entry point names."""
    distribution = _installed(subject.distribution)
    if _is_editable(distribution):
        raise CheckSkippedError("it is installed in editable mode, where a wheel's list of files cannot be seen")
    files = {file.as_posix() for file in distribution.files or ()}
    if not any(file.endswith("/RECORD") for file in files):
        raise CheckFailedError("it has no RECORD: it was not installed from a wheel")
    for component in subject.components:
        path = component.target.partition(":")[0].replace(".", "/")
        binary = any(file.startswith(f"{path}.") and file.endswith((".so", ".pyd")) for file in files)
        if component.alias_of is None and not binary and not {f"{path}.py", f"{path}/__init__.py"} & files:
            raise CheckFailedError(f"{component.name} is {component.target!r}, which the wheel does not hold")


@CHECKS.add("choose another name, one that begins with the distribution's for example")
def clashes_with_nobody(subject: PluginSubject) -> None:
    """Nobody else provides one of its names, and it provides each once."""
    for component in subject.components:
        for other in subject.registry.clashes(component.kind, component.name):
            if other is not component:
                raise CheckFailedError(f"{component.kind} {component.name!r} is also provided by {other.provider}")


@CHECKS.add("repair the import: a component that cannot be loaded fails every artifact that names it", gate=True)
def loads(subject: PluginSubject) -> None:
    """Everything that its entry points name can be imported, and is what it should be."""
    subject.seen("load")


@CHECKS.add("ship neither .pth files nor a sitecustomize that imports it: bsm imports it when an artifact names it")
def is_listed_without_being_imported(subject: PluginSubject) -> None:
    """Listing all plugins imports no module of it, and no torch."""
    subject.seen("imported_by_listing")


@CHECKS.add("register things of other libraries in a way that may happen twice; workers import the module anew")
def loads_twice(subject: PluginSubject) -> None:
    """Importing its modules a second time, in the same process, is harmless."""
    subject.seen("load_again")


@CHECKS.add(
    "implement hooks of bsm_core.plugins.hookspecs with their arguments, or fewer; mark others optionalhook=True"
)
def has_valid_hooks(subject: PluginSubject) -> None:
    """Its guards and observers implement hooks that there are, with arguments that these have."""
    subject.seen("hooks")


@CHECKS.add(f"print nothing, use the logging module; or {_INSIDE}")
def prints_nothing_when_imported(subject: PluginSubject) -> None:
    """Importing it writes neither to standard output nor to standard error."""
    subject.seen("printed")


@CHECKS.add(_INSIDE)
def opens_no_socket_when_imported(subject: PluginSubject) -> None:
    """Importing it opens no socket and looks up no host."""
    subject.seen("sockets")


@CHECKS.add(f"{_INSIDE}: CUDA that is touched cannot be used in forked processes")
def leaves_cuda_alone_when_imported(subject: PluginSubject) -> None:
    """Importing it neither initialises CUDA nor asks for devices."""
    subject.seen("cuda")


@CHECKS.add(f"use a random generator of its own, or {_INSIDE}")
def leaves_random_state_alone_when_imported(subject: PluginSubject) -> None:
    """Importing it neither seeds nor draws from the global generators of random, numpy and torch."""
    subject.seen("random")


@CHECKS.add("use warnings.catch_warnings() around the call that warns")
def leaves_warning_filters_alone_when_imported(subject: PluginSubject) -> None:
    """Importing it does not change which warnings are shown."""
    subject.seen("warnings")


@CHECKS.add("read the environment, and do not write it; take what can be set as a parameter")
def leaves_the_environment_alone_when_imported(subject: PluginSubject) -> None:
    """Importing it changes neither environment variables nor the working folder."""
    subject.seen("environment")


@CHECKS.add(f"{_INSIDE}: every worker imports the module, and would start its own")
def starts_nothing_when_imported(subject: PluginSubject) -> None:
    """Importing it starts neither processes nor threads."""
    subject.seen("started")


def _installed(name: str) -> importlib.metadata.Distribution:
    """The distribution; the one with a list of files where a project folder on the path has metadata as well."""
    found = list(importlib.metadata.distributions(name=name))
    return next((d for d in found if d.read_text("RECORD") is not None), found[0])


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    origin = distribution.read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))
