"""The plugin contract: its hooks are those the registry calls, and the plugins in its docstrings work."""

from __future__ import annotations

import inspect
import re
import textwrap

from support.plugins import run_python, write_distribution

from bsm_core import hookspecs
from bsm_core.hookspecs import PROJECT
from bsm_core.registry import HOOKS

SPECS = {name: f for name, f in vars(hookspecs).items() if inspect.isfunction(f) and f.__module__ == hookspecs.__name__}


def examples(name: str) -> list[str]:
    """The code blocks of a hook's docstring."""
    doc = inspect.getdoc(SPECS[name]) or ""
    return [textwrap.dedent(block) for block in re.findall(r"::\n\n((?:    .*\n|\n)+)", doc)]


def test_the_contract_is_called_documented_and_frozen():
    # A hook may be added. To rename one, or to ask for more, breaks every plugin there is.
    assert set(SPECS) == set(HOOKS.values()) == {"bsm_steps", "bsm_model_classes"}
    for hook in SPECS.values():
        assert getattr(hook, f"{PROJECT}_spec")
        assert inspect.signature(hook).parameters == {}
        assert "Returns:" in (hook.__doc__ or "")


def test_the_plugin_of_the_steps_docstring(tmp_path):
    code, toml = examples("bsm_steps")
    assert '[project.entry-points.bsm]\nshout = "acme_shout"' in toml
    write_distribution(tmp_path, "acme-shout", {"acme_shout": code}, {"shout": "acme_shout"})
    use = """
        from bsm_core.config import StepSpec
        from bsm_core.steps import Pipeline, StepContext
        print(Pipeline([StepSpec("shout")], StepContext("chat"), must_give=None)(["hi", ""]))
    """
    assert run_python(use, tmp_path) == "(['HI!', '!'], [])"


def test_the_plugin_of_the_model_classes_docstring(tmp_path):
    (code,) = examples("bsm_model_classes")
    write_distribution(tmp_path, "acme-mean", {"acme_mean": code}, {"mean": "acme_mean"})
    use = """
        from bsm_core.registry import default_registry
        print(default_registry().resolve("model_class", "acme_mean").origin)
    """
    assert run_python(use, tmp_path) == "acme-mean==1.0:acme_mean_model:AcmeMean"
