"""Fake distributions: what installing a plugin leaves on the path, without an installer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from bsm_core.registry import Component, Kind, Provider, Registry, Target

PACKAGES = Path(__file__).parents[1]
"""The folder that has this package, for the path of other processes."""


def write_distribution(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    entry_points: Mapping[str, str],
    version: str = "1.0",
) -> Path:
    """Install a distribution into a folder: its metadata, its entry points for bsm and its modules.

    Args:
        folder: A folder of the path, made where it is not there.
        name: Name of the distribution.
        modules: Source by module name; common indentation is removed.
        entry_points: Target by name of the entry point.
        version: Version of the distribution.

    Returns:
        The ``.dist-info`` folder.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry_point} = {target}\n" for entry_point, target in entry_points.items()]
    (info / "entry_points.txt").write_text("".join(["[bsm]\n", *lines]))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
    return info


def plugin_source(answer: str, hook: str = "bsm_steps") -> str:
    """Source of a plugin module with one hook that answers with an expression."""
    return f"from bsm_core import Alias, Removed, hookimpl\n\n@hookimpl\ndef {hook}():\n    return {answer}\n"


def write_plugin(folder: Path, name: str, answer: str, *, hook: str = "bsm_steps", version: str = "1.0") -> None:
    """Install a distribution with one plugin module, ``<name>_plugin``, whose hook answers with an expression."""
    module = re.sub(r"\W", "_", name) + "_plugin"
    write_distribution(folder, name, {module: plugin_source(answer, hook)}, {"main": module}, version)


def forget_modules(folder: Path) -> None:
    """Drop what was imported from a folder, so that the next test imports its own modules of the same names."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


def run_python(code: str, *path: Path, **environment: str) -> str:
    """Run code in a fresh process.

    Args:
        code: Common indentation is removed.
        path: Folders that come first on the process's path.
        environment: Variables added to this process's own, less ``BSM_PLUGINS``.

    Returns:
        What the process printed, without white space around it.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "BSM_PLUGINS"}
    pythonpath = os.pathsep.join(str(folder) for folder in path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**inherited, "PYTHONPATH": pythonpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def component(kind: Kind, name: str, target: Target, distribution: str = "fake", version: str = "1.0") -> Component:
    """A component as discovery would have found it."""
    return Component(kind, name, target, Provider(distribution, version, "main"))


def step_registry(targets: Mapping[str, Target]) -> Registry:
    """A registry of text steps that was never discovered."""
    return Registry(component("step", name, target) for name, target in targets.items())


def names_of(registry: Registry, distribution: str) -> Iterable[str]:
    """Names of the components of one distribution, sorted."""
    return sorted(c.name for c in registry.components if c.provider.distribution == distribution)
