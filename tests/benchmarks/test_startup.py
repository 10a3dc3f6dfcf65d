"""``benchmarks/startup.py`` times functions that it names by module and path; each name must lead to one."""

from __future__ import annotations

import ast
import importlib
from functools import reduce
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks/startup.py"
(WATCHED,) = (
    ast.literal_eval(node.value)
    for node in ast.parse(SOURCE.read_text()).body
    if isinstance(node, ast.Assign) and [target.id for target in node.targets] == ["WATCHED"]
)

pytestmark = pytest.mark.checkout


@pytest.mark.parametrize(("label", "module", "path"), WATCHED, ids=[label.strip() for label, _, _ in WATCHED])
def test_a_watched_function_exists(label, module, path):
    assert callable(reduce(getattr, path.split("."), importlib.import_module(module)))
