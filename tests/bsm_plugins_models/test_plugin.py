from __future__ import annotations

import pytest
from support.plugins import run_python

from bsm_core import ModelBase
from bsm_core.registry import default_registry
from bsm_plugins_models.plugin import bsm_model_classes


@pytest.mark.parametrize(("alias", "name"), [("bimodal", "bimodal_bert"), ("multimodal_bert", "bimodal_bert")])
def test_names_that_older_training_jobs_gave(alias, name):
    assert default_registry().resolve("model_class", alias).name == name


@pytest.mark.parametrize("name", sorted(bsm_model_classes()))
def test_every_name_loads_a_model_class(name):
    registry = default_registry()
    component = registry.resolve("model_class", name)
    assert component.provider.distribution == "bsm"
    assert issubclass(registry.load(component, ModelBase), ModelBase)


def test_the_plugin_imports_nothing_heavy():
    code = """
        import sys, bsm_plugins_models.plugin
        print([m for m in ("torch", "transformers", "bsm_plugins_models.bimodal") if m in sys.modules])
    """
    assert run_python(code) == "[]"
