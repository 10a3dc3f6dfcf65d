"""The public names of ``bsm_core`` with their signatures, as they were released.

A change of ``public_names.txt`` is a change of the API. Run this file as a script to write it again.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import bsm_core
from bsm_core.scoring.run_function import run

SNAPSHOT = Path(__file__).with_suffix("").with_name("public_names.txt")
BASES = ("bsm_core", "bsm_plugins")
"""Packages whose methods are listed: those of pydantic and Lightning are not ours."""


DOCUMENTED = re.compile(r"^\.\. auto\w+:: (bsm_core\.\w+\.[\w.]+)", re.MULTILINE)


def lines() -> Iterator[str]:
    """The public names, one a line, with signatures; below a class, its own public members.

    After the names of ``bsm_core`` come those of its modules that the documentation of the API has, and the errors. The
    fields of settings and configs are left out: the tables of the documentation list them.
    """
    for name in bsm_core.__all__:
        # The module bsm_core.run may have the place of the function.
        yield from described(name, run if name == "run" else getattr(bsm_core, name))
    pages = (Path(__file__).parents[2] / "docs" / name for name in ("api.md", "mlflow.md"))
    for name in sorted({name for page in pages for name in DOCUMENTED.findall(page.read_text())}):
        yield from described(name, pkgutil.resolve_name(name))
    for name, value in sorted(vars(bsm_core.errors).items()):
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == "bsm_core.errors":
            bases = ", ".join(base.__name__ for base in value.__bases__)
            yield f"class bsm_core.errors.{name}({bases}), exit code {getattr(value, 'exit_code', None)}"


def described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        own = any("__init__" in vars(base) for base in ours(value))
        yield f"class {name}{signature(value) if own else ''}"
        yield from members(value)
    else:
        yield f"{name}{signature(value)}" if inspect.isfunction(value) else name


def members(cls: type) -> Iterator[str]:
    named = {name: inspect.getattr_static(cls, name) for base in ours(cls) for name in vars(base)}
    theirs = set(dir(BaseModel)) if issubclass(cls, BaseModel) else set[str]()
    named = {name: value for name, value in named.items() if not name.startswith("_") and name not in theirs}
    for name, value in sorted(named.items()):
        function = getattr(value, "__func__", value)
        yield f"    {name}{signature(function) if inspect.isfunction(function) else ''}"


def ours(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith(BASES)]


def signature(value: object) -> str:
    try:
        found = str(inspect.signature(value))  # type: ignore[arg-type]
    except ValueError:
        return ""
    return re.sub(r" at 0x[0-9a-f]+", "", found).replace("'", "")


def text() -> str:
    return "\n".join(lines()) + "\n"


def test_names_and_signatures_are_those_that_were_released():
    assert text().splitlines() == SNAPSHOT.read_text().splitlines()


if __name__ == "__main__":
    SNAPSHOT.write_text(text())
