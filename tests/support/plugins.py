"""Fake distributions: the files that an installed plugin has on the path, written without an installer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import python

from bsm_core.errors import ComponentLoadError
from bsm_core.plugins.discovery import Component, Provider
from bsm_core.plugins.hookspecs import CONTRACT, PROJECT, ComponentKind
from bsm_core.plugins.loading import load_object
from bsm_core.plugins.registry import Registry, default_registry

PACKAGES = Path(__file__).parents[1]
"""Folder of the package ``support``, for the path of other processes."""


def write_distribution(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
    version: str = "1.0",
    metadata: str = "",
) -> Path:
    """Install a distribution into a folder, as from a wheel: metadata, entry points, the list of its files, modules.

    Args:
        folder: A folder of the path, made where it is not there.
        name: Name of the distribution.
        modules: Source by module name; common indentation is removed.
        entry_points: By group, the value of each entry point; ``"steps"`` is short for ``"bsm.v1.steps"``.
        version: Version of the distribution.
        metadata: Further lines of METADATA.

    Returns:
        The ``.dist-info`` folder.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
    lines = []
    for group, values in entry_points.items():
        lines += [f"[{group if '.' in group or group == PROJECT else f'{PROJECT}.v{CONTRACT}.{group}'}]"]
        lines += [f"{entry_point} = {value}" for entry_point, value in values.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    files = [f"{info.name}/{file}" for file in ("METADATA", "entry_points.txt", "RECORD")]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, *(f"{module}.py" for module in modules)]))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
    return info


def write_plugin(folder: Path, name: str, steps: Mapping[str, str], *, version: str = "1.0") -> None:
    """Install a distribution that names text steps and has no module of its own."""
    write_distribution(folder, name, {}, {"steps": steps}, version)


@contextmanager
def on_path(folder: Path) -> Iterator[Path]:
    """Put a folder of fake distributions first on this process's path inside the context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delenv("BSM_PLUGINS", raising=False)
        default_registry.cache_clear()
        yield folder
    forget_modules(folder)
    default_registry.cache_clear()


def forget_modules(folder: Path) -> None:
    """Remove the modules of a folder from ``sys.modules``, so that the next test imports its own of the same names."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


def run_python(code: str, *path: Path, preloaded: bool = False, before: Sequence[str] = (), **environment: str) -> str:
    """Run code in a fresh process.

    Args:
        code: Common indentation is removed.
        path: Folders that come first on the process's path.
        preloaded: Whether the process may have imported torch and the other libraries already, which saves seconds.
        before: Start of the command, before the interpreter; not with ``preloaded``.
        environment: Variables added to this process's own, less ``BSM_PLUGINS``.

    Returns:
        Output of the process, without white space around it.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "BSM_PLUGINS"}
    variables = {**inherited, "PYTHONPATH": os.pathsep.join(str(folder) for folder in path), **environment}
    arguments = ["-c", textwrap.dedent(code)]
    if preloaded:
        done = python(*arguments, env=variables)
    else:
        command = [*before, sys.executable, *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def component(
    kind: ComponentKind, name: str, target: str, distribution: str = "fake", version: str = "1.0"
) -> Component:
    """Return a component as discovery finds it."""
    return Component(kind, name, target, Provider(distribution, version))


def step_registry(targets: Mapping[str, str]) -> Registry:
    """Return a registry of text steps, without discovery."""
    return Registry(component("step", name, target) for name, target in targets.items())


def names_of(registry: Registry, distribution: str) -> Iterable[str]:
    """Return the names of the components of one distribution, sorted."""
    return sorted(c.name for c in registry.components if c.provider.distribution == distribution)


def refused_in_worker(found: Component) -> str:
    """Return the error of a component that cannot be loaded in this process; to be called in other processes."""
    try:
        return f"loaded {load_object(found)}"
    except ComponentLoadError as error:
        return str(error)
