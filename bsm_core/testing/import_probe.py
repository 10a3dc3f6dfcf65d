"""Import of a plugin in a fresh process, and a record of its side effects.

The plugin's modules are imported twice. The first import also imports the plugin's dependencies; output, sockets,
processes and threads are recorded. Then the plugin's own modules are removed from ``sys.modules`` and imported again.
The second import runs only the plugin's own code, so a change of random state, warning filters or the environment, or a
call that initializes CUDA, comes from the plugin itself.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from bsm_core.errors import HookFailedError, PluginError
from bsm_core.plugins.hookspecs import ComponentKind, Removed
from bsm_core.plugins.in_code import InCode
from bsm_core.plugins.listing import listing, loaded_components
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.steps import TextStep
from bsm_core.testing.audit import SOCKETS, audited

_PROCESSES = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system")
_SEED = 20_261_125
_ACCELERATORS = {
    "torch.cuda": ("is_available", "device_count", "init", "_lazy_init"),
    "torch.accelerator": ("is_available", "device_count", "current_accelerator", "current_device_index"),
}


def side_effects(distribution: str) -> dict[str, list[str]]:
    """Import a plugin in this process, which must be a fresh one, and return its side effects by kind."""
    probe = _Probe(distribution)
    with mock.patch.dict(os.environ), contextlib.chdir(Path.cwd()):
        probe.first_import()
    for name in probe.own_modules():
        del sys.modules[name]
    importlib.invalidate_caches()
    probe.second_import()
    return probe.seen


class _Probe:
    """Record of the side effects of one plugin."""

    def __init__(self, distribution: str) -> None:
        self.seen = defaultdict[str, list[str]](list)
        everything = Registry.discover()
        listing(everything)
        own = [c for c in everything.components if c.provider.is_named(distribution)]
        self.registry = Registry(own)
        self.components = [c for c in own if c.alias_of is None]
        self.modules = list(dict.fromkeys(c.target.partition(":")[0] for c in self.components))
        self.packages = {module.partition(".")[0] for module in self.modules}
        self.seen["imported_by_listing"] += sorted({*self.own_modules(), *({"torch"} & set(sys.modules))})

    def own_modules(self) -> list[str]:
        """Return the names of the plugin's modules that are imported."""
        return [name for name in sys.modules if name.partition(".")[0] in self.packages]

    def first_import(self) -> None:
        """Import all modules of the plugin and register its components in code, then check every component."""
        with self.recorded():
            for module in self.modules:
                with contextlib.suppress(Exception, SystemExit):  # each component's error is recorded below
                    importlib.import_module(module)
            registered = list(self.registry.in_code.classes)
        bases: dict[ComponentKind, type] = {"step": TextStep}
        if any(component.kind == "model_class" for component in (*self.components, *registered)):
            from bsm_core.models.base import ModelBase  # imports torch

            bases["model_class"] = ModelBase
        for component, found in loaded_components(self.registry, bases):
            if isinstance(found, PluginError):
                self.seen["hooks" if isinstance(found, HookFailedError) else "load"].append(found.one_line())
            elif component.kind == "removed" and not isinstance(found, Removed):
                self.seen["load"].append(f"{component.target} is a {type(found).__name__}, not a bsm_core.Removed")

    def second_import(self) -> None:
        """Import the plugin's own modules again, and compare the state of the process before and after."""
        _set_unusual_state()
        before = _state()
        with self.recorded(), self.cuda_recorded():
            for module in self.modules:
                try:
                    importlib.import_module(module)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise any error
                    self.seen["load_again"].append(f"{module}: {type(error).__name__}: {error}")
            errors = InCode(self.registry.in_code.plugins).errors.values()
            self.seen["load_again"] += [e.one_line() for e in errors if not isinstance(e, HookFailedError)]
        after = _state()
        for kind, subject in {**before, **after}:
            if before.get((kind, subject)) != after.get((kind, subject)):
                self.seen[kind].append(f"{subject} changed")

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record output, sockets, processes and threads inside the context."""
        threads = set(threading.enumerate())
        with audited(self.note), _printed() as printed:
            yield
        if printed:
            self.seen["printed"].append(" ".join(printed)[:200])
        self.seen["started"] += [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
        self.seen["started"] += [f"process {child.name}" for child in multiprocessing.active_children()]

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record an audit event."""
        if event in (*SOCKETS, *_PROCESSES):
            self.seen["sockets" if event in SOCKETS else "started"].append(f"{event}{ascii(arguments)[:100]}")

    @contextlib.contextmanager
    def cuda_recorded(self) -> Iterator[None]:
        """Record calls that initialize an accelerator or ask for one."""
        with contextlib.ExitStack() as stack:
            spies = {
                f"{name}.{function}()": stack.enter_context(mock.patch.object(module, function, wraps=called))
                for name, functions in _ACCELERATORS.items()
                for function in functions
                if (module := sys.modules.get(name)) and (called := getattr(module, function, None))
            }
            yield
        self.seen["cuda"] += [call for call, spy in spies.items() if spy.called]


def _state() -> dict[tuple[str, str], Any]:
    """Return the state that an import must not change, by kind and subject, for the libraries that are imported."""
    state: dict[tuple[str, str], Any] = {
        ("random", "the state of random"): random.getstate(),
        ("warnings", "warnings.filters"): list(warnings.filters),
        ("environment", "the working folder"): str(Path.cwd()),
        **{("environment", f"the variable {name}"): value for name, value in os.environ.items()},
    }
    if numpy := sys.modules.get("numpy"):
        state["random", "the state of numpy.random"] = str(numpy.random.get_state())
    if torch := sys.modules.get("torch"):
        state["random", "the state of torch"] = torch.get_rng_state().tolist()
    return state


def _set_unusual_state() -> None:
    """Set a state that no plugin would choose, so that a plugin that sets its own state changes it in any case."""
    warnings.filters[:] = []  # type: ignore[index]
    random.seed(_SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(_SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(_SEED)


@contextlib.contextmanager
def _printed() -> Iterator[list[str]]:
    """Yield a list that holds, after the context, the words that Python or a C library printed in it."""
    words: list[str] = []
    text = io.StringIO()
    with tempfile.TemporaryFile() as output:
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in kept:
            os.dup2(output.fileno(), descriptor)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield words
        for descriptor, file in kept.items():
            os.dup2(file, descriptor)
        output.seek(0)
        words += (text.getvalue() + output.read().decode(errors="replace")).split()
