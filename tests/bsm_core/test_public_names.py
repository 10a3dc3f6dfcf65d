"""The public names of ``bsm_core`` with their signatures, as they were released.

A change of ``public_names.txt`` is a change of the API. Run this file as a script to write it again.
"""

from __future__ import annotations

import inspect
import io
import json
import pkgutil
import re
import tarfile
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, PositiveInt
from support import training
from support.toy import toy_rows

import bsm_core
from bsm_core import Registry, TextStep
from bsm_core.artifact.config import StepSpec
from bsm_core.plugins.registry import default_registry, replaced
from bsm_core.preprocess.steps import StepContext
from bsm_core.scoring.run_function import run
from bsm_core.testing.toys import component

SNAPSHOT = Path(__file__).with_suffix("").with_name("public_names.txt")
BASES = ("bsm_core", "bsm_plugins")
"""Packages whose methods are listed: those of pydantic and Lightning are not ours."""


DOCUMENTED = re.compile(r"^\.\. auto\w+:: (bsm_core\.\w+\.[\w.]+)", re.MULTILINE)


def public(name: str) -> object:
    return run if name == "run" else getattr(bsm_core, name)  # the module bsm_core.run may have its place


def lines() -> Iterator[str]:
    """The public names, one a line, with signatures; below a class, its own public members.

    After the names of ``bsm_core`` come those of its modules that the documentation of the API has, and the errors. The
    fields of settings and configs are left out: the tables of the documentation list them.
    """
    for name in bsm_core.__all__:
        yield from described(name, public(name))
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


# Examples

WITHOUT = {"__version__", "BuildBackend", "hookimpl"}  # a text, a type, and an object of another library


def example_of(name: str) -> str:
    _, found, block = (inspect.getdoc(public(name)) or "").partition("\nExample:\n")
    about, colons, code = block.partition("::\n\n")
    assert found, f"{name} has no example"
    assert all((colons, about.strip(), code.strip())), f"{name}: a sentence, two colons and code were expected"
    return textwrap.dedent(code)


def test_every_public_name_has_an_example_which_runs(toy_artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open("model.tar.gz", "w:gz") as archive:
        for file in toy_artifact.iterdir():
            archive.add(file, file.name)
    rows = toy_rows(12)
    rows.to_csv("rows.csv", index=False)
    rows[["id"]].assign(churned=[i % 2 for i in range(12)]).to_csv("labels.csv", index=False)
    training.labelled_rows().to_csv("labeled.csv", index=False)
    Path("config.json").write_text(json.dumps({**training.CONFIG, "max_epochs": 1}))
    known = {name: getattr(bsm_core, name) for name in bsm_core.__all__} | {"bsm_core": bsm_core, "rows": rows}
    known |= {"torch": torch, "nn": torch.nn, "Tensor": torch.Tensor, "Path": Path, "PositiveInt": PositiveInt}
    known |= {"StepSpec": StepSpec, "StepContext": StepContext}
    others = [each for each in default_registry().components if each.name != "text_upper"]
    said = io.StringIO()
    with redirect_stdout(said), replaced(Registry([*others, component("step", "text_upper", Upper)])):
        for name in sorted(
            {*bsm_core.__all__} - WITHOUT, key=lambda name: (name != "run", name)
        ):  # others read its output
            space = {**known, "__name__": "example"}
            exec(compile(example_of(name), f"the example of {name}", "exec"), space)
    assert "predictions/inference_predictions.csv 12 0\n" in said.getvalue()


class Upper(TextStep):
    """Stands for the step of a plugin package."""

    def process(self, value: str) -> str:
        return value.upper()


if __name__ == "__main__":
    SNAPSHOT.write_text(text())
