"""``bsm plugins new``: write a package with a new plugin, whose tests pass at once."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal

from bsm_core.errors import UsageError
from bsm_core.plugins.discovery import canonical
from bsm_core.plugins.hookspecs import CONTRACT, NAME
from bsm_core.plugins.registry import Registry
from bsm_core.storage.objects import ObjectPath

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # packaging standards, PEP 508
_TAKEN = ("conftest", "setup", "bsm_core")
_FIX = "choose a name such as 'acme-shout': letters, digits and hyphens, of which the first is a letter"


Kind = Literal["step", "model", "guard", "observer"]


def new_plugin(kind: Kind, name: str, folder: Path | None, registry: Registry) -> list[Path]:
    """Write a package with one text step, model class, guard or observer and a test of it.

    Args:
        kind: What the package holds.
        name: Name of the distribution, ``"acme-shout"``; its module and its component are named ``acme_shout``.
        folder: Folder to create for the package; None for a folder with the distribution's name.
        registry: The installed plugins, whose names are taken.

    Returns:
        The written files, sorted by name.

    Raises:
        UsageError: The folder exists or cannot be written, the name is invalid, or an installed plugin or module has
            the name.
    """
    values = _values(name)
    _require_free(values["component"], registry)
    folder = Path(name) if folder is None else folder
    if isinstance(folder, ObjectPath):
        raise UsageError("a package cannot be written to an object store", where=str(folder), fix="name a folder here")
    templates = resources.files("bsm_core.plugins") / "templates" / kind
    try:
        folder.mkdir(parents=True)
        written = []
        for template in sorted(templates.iterdir(), key=lambda file: file.name):
            path = folder / template.name.removesuffix(".in").replace("module", values["module"])
            path.write_text(Template(template.read_text("utf-8")).substitute(values), "utf-8")
            written.append(path)
    except FileExistsError:
        raise UsageError(f"{folder} exists already", fix="name a new folder with --output") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", fix="name another with --output") from error
    return written


def _values(name: str) -> Mapping[str, str]:
    """Return the values of the templates' placeholders."""
    module = canonical(name).replace("-", "_")
    if not (_DISTRIBUTION.fullmatch(name) and NAME.fullmatch(module)):
        raise UsageError(f"{name!r} cannot be the name of a plugin", fix=_FIX)
    if module in _TAKEN or module.startswith("test_") or module.endswith("_test"):
        reason = "pytest, pip or bsm gives a module of that name another meaning"
        raise UsageError(f"{name!r} cannot be the name of a plugin: {reason}", fix=_FIX)
    if keyword.iskeyword(module):
        raise UsageError(f"{name!r} cannot be the name of a plugin: {module!r} is a keyword of Python", fix=_FIX)
    return {
        "distribution": name,
        "module": module,
        "component": module,
        "variable": module.upper(),
        "class_name": "".join(word.capitalize() for word in module.split("_")),
        "contract": str(CONTRACT),
    }


def _require_free(name: str, registry: Registry) -> None:
    """Check that no installed plugin and no installed module has the name."""
    for component in registry.components:
        if component.name == name:
            raise UsageError(f"{name!r} is taken: {component.provider} provides it", fix="choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"{name!r} is taken: a module of that name is installed", fix="choose another name")
