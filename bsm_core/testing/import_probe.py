"""``python -m bsm_core.testing.import_probe NAME``: import a plugin in this fresh process, and say what it did.

Its modules are imported twice. The first time brings in what they need, and counts for what is printed, opened and
started. Then its own modules are forgotten, and the second import, with nothing left to bring in, is what shows whether
the plugin itself changes random state, warning filters or the environment.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bsm_core.errors import BSMError
from bsm_core.plugins.discovery import Component, canonical
from bsm_core.plugins.hookspecs import Removed
from bsm_core.plugins.listing import listing
from bsm_core.plugins.loading import load_object
from bsm_core.plugins.registry import Registry

_EVENTS = {
    "socket.__new__": "sockets",
    "socket.connect": "sockets",
    "socket.getaddrinfo": "sockets",
    "subprocess.Popen": "started",
    "os.fork": "started",
    "os.posix_spawn": "started",
    "os.system": "started",
}
_SEED = 20_261_125
_ACCELERATORS = {
    "torch.cuda": ("is_available", "device_count", "init", "_lazy_init"),
    "torch.accelerator": ("is_available", "device_count", "current_accelerator", "current_device_index"),
}


class Probe:
    """What was seen, by kind of thing.

    Args:
        distribution: The plugin's name.
    """

    def __init__(self, distribution: str) -> None:
        names = ("imported_by_listing", "load", "load_again", "hooks", "printed", "sockets", "cuda", "random")
        self.seen: dict[str, list[str]] = {name: [] for name in (*names, "warnings", "environment", "started")}
        self.watching = False
        self.registry = Registry.discover()
        listing(self.registry)
        own = [c for c in self.registry.components if canonical(c.provider.distribution) == canonical(distribution)]
        self.components = [c for c in own if c.alias_of is None]
        self.modules = list(dict.fromkeys(c.target.partition(":")[0] for c in self.components))
        self.tops = {module.partition(".")[0] for module in self.modules}
        self.seen["imported_by_listing"] += sorted({*self.own_modules(), *({"torch"} & set(sys.modules))})

    def own_modules(self) -> list[str]:
        """The plugin's modules that are imported."""
        return [name for name in sys.modules if name.partition(".")[0] in self.tops]

    def run(self) -> None:
        """Import the plugin twice, and look."""
        sys.addaudithook(self.audit)
        environment, folder = dict(os.environ), Path.cwd()
        self.first()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        for name in self.own_modules():
            del sys.modules[name]
        importlib.invalidate_caches()
        self.second()

    def first(self) -> None:
        """Everything that it names is imported, and then looked at."""
        with self.observed():
            for module in self.modules:
                with contextlib.suppress(Exception, SystemExit):  # load says what it was
                    importlib.import_module(module)
        for component in self.components:
            if self.load(component) is not None and component.kind in ("guard", "observer"):
                self.check_hooks(component)

    def load(self, component: Component) -> Any:
        """What a component names, which must be what it should be; None where it is not."""
        try:
            if component.kind == "step":
                from bsm_core.preprocess.steps import TextStep

                return self.registry.load(component, TextStep)
            if component.kind == "model_class":
                from bsm_core.models.base import ModelBase

                return self.registry.load(component, ModelBase)
            found = load_object(component)
        except BSMError as error:
            self.seen["load"].append(error.one_line())
            return None
        if component.kind == "removed" and not isinstance(found, Removed):
            self.seen["load"].append(f"{component.target} is a {type(found).__name__}, not a bsm_core.Removed")
        return found

    def check_hooks(self, component: Component) -> None:
        """Its hooks must be those that there are."""
        from bsm_core.plugins.hook_calls import implementations

        try:
            implementations(component)
        except BSMError as error:
            self.seen["hooks"].append(error.one_line())

    def second(self) -> None:
        """Only what the modules themselves do is left to be seen."""
        unsettle()
        before = self.state()
        with self.observed(), self.cuda_watched():
            for module in self.modules:
                try:
                    importlib.import_module(module)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is what was asked
                    self.seen["load_again"].append(f"{module}: {type(error).__name__}: {error}")
        for what, value in self.state().items():
            kind = what.partition(" ")[0]
            if value != before[what]:
                self.seen[kind].append(_difference(what.partition(" ")[2], before[what], value))

    def state(self) -> dict[str, Any]:
        """What an import must leave alone, as far as the libraries that it is about are there."""
        state: dict[str, Any] = {
            "random the state of random": random.getstate(),
            "warnings warnings.filters": list(warnings.filters),
            "environment os.environ": dict(os.environ),
            "environment the working folder": str(Path.cwd()),
        }
        if "numpy" in sys.modules:
            import numpy as np

            state["random the state of numpy.random"] = str(np.random.get_state())
        if "torch" in sys.modules:
            import torch

            state["random the state of torch"] = torch.get_rng_state().tolist()
        return state

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """What is printed, opened and started meanwhile is noted."""
        threads = set(threading.enumerate())
        self.watching = True
        try:
            with _printed() as printed:
                yield
        finally:
            self.watching = False
        if printed:
            self.seen["printed"].append(" ".join(printed)[:200])
        self.seen["started"] += [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
        if "multiprocessing" in sys.modules:
            import multiprocessing

            self.seen["started"] += [f"process {child.name}" for child in multiprocessing.active_children()]

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event of the interpreter."""
        if self.watching and event in _EVENTS:
            self.seen[_EVENTS[event]].append(f"{event}{ascii(arguments)[:100]}")

    @contextlib.contextmanager
    def cuda_watched(self) -> Iterator[None]:
        """Calls that lead to an accelerator are noted; only the plugin itself is left to make them."""
        real = [
            (name, module, function, getattr(module, function))
            for name, functions in _ACCELERATORS.items()
            if (module := sys.modules.get(name)) is not None
            for function in functions
            if hasattr(module, function)
        ]
        for name, module, function, called in real:
            setattr(module, function, self.noting(f"{name}.{function}", called))
        try:
            yield
        finally:
            for _, module, function, called in real:
                setattr(module, function, called)

    def noting(self, name: str, function: Any) -> Any:
        """The function, and a note of each call."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.seen["cuda"].append(f"{name}()")
            return function(*args, **kwargs)

        return noted


@contextlib.contextmanager
def _printed() -> Iterator[list[str]]:
    """The words that are printed meanwhile, by Python or below it."""
    words: list[str] = []
    text, kept = io.StringIO(), [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as below:
        try:
            os.dup2(below.fileno(), 1)
            os.dup2(below.fileno(), 2)
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield words
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            below.seek(0)
            words += (text.getvalue() + below.read().decode(errors="replace")).split()


def unsettle() -> None:
    """Bring what the first import may have set already into a state in which nobody would leave it."""
    warnings.filters[:] = []  # type: ignore[index]
    random.seed(_SEED)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(_SEED)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(_SEED)


def _difference(what: str, before: Any, after: Any) -> str:
    if isinstance(before, dict):
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return f"{what} changed: {', '.join(changed)}"
    return f"{what} changed"


def main() -> None:
    """Print what was seen, as JSON, on the last line."""
    output = os.fdopen(os.dup(1), "w")
    probe = Probe(sys.argv[1])
    probe.run()
    print("\n" + json.dumps(probe.seen), file=output, flush=True)
    os._exit(0)  # whatever it has started must not keep this process


if __name__ == "__main__":
    main()
