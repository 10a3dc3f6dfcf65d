"""``benchmarks/startup.py`` times functions that it names by module and path; each name must lead to one."""

from __future__ import annotations

import ast
import importlib
from functools import reduce
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks/startup.py"


@pytest.mark.checkout
def test_the_watched_functions_exist():
    (watched,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.Assign) and [target.id for target in node.targets] == ["WATCHED"]
    )
    for _, module, path in watched:
        assert callable(reduce(getattr, path.split("."), importlib.import_module(module))), path
