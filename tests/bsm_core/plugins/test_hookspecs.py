"""The plugin contract: its groups and hooks are frozen, and the plugins in its docstrings work."""

from __future__ import annotations

import inspect
import re
import textwrap

import pytest
from support.plugins import forget_modules, write_distribution

from bsm_core import TextStep
from bsm_core.artifact.files import FileHashes
from bsm_core.errors import HookFailedError
from bsm_core.plugins import hookspecs
from bsm_core.plugins.hookspecs import CONTRACT, GROUPS, PROJECT
from bsm_core.plugins.registry import default_registry

SPECS = {name: f for name, f in vars(hookspecs).items() if inspect.isfunction(f) and f.__module__ == hookspecs.__name__}


def test_the_contract_is_documented_and_frozen():
    # Something may be added. To rename or to ask for more breaks every plugin there is, and needs another CONTRACT.
    assert CONTRACT == 1
    assert GROUPS == {
        "bsm.v1.steps": "step",
        "bsm.v1.model_classes": "model_class",
        "bsm.v1.removed": "removed",
        "bsm.v1.guards": "guard",
        "bsm.v1.observers": "observer",
        "bsm.v1.plugins": "plugin",
    }
    assert {name: list(inspect.signature(hook).parameters) for name, hook in SPECS.items()} == {
        "bsm_register": ["registry"],
        "bsm_artifact_loaded": ["artifact"],
        "bsm_window_start": ["batch"],
        "bsm_window_end": ["batch", "probabilities"],
        "bsm_committed": ["committed", "record"],
    }
    for hook in SPECS.values():
        assert getattr(hook, f"{PROJECT}_spec")
        assert "Args:" in (hook.__doc__ or "")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs the plugin of a hook's docstring."""
    site = tmp_path / "site"
    site.mkdir()  # Python remembers of a folder that is not there that it holds no modules
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("BSM_PLUGINS", raising=False)

    def write(hook: str, name: str, group: str) -> None:
        doc = inspect.getdoc(SPECS[hook]) or ""
        code, *toml = [textwrap.dedent(block) for block in re.findall(r"::\n\n((?:    .*\n|\n)+)", doc)]
        assert f"``{name}.py``" in doc
        assert f"bsm.v1.{group}" in (toml[0] if toml else doc)
        write_distribution(site, name.replace("_", "-"), {name: code}, {group: {name: name}})
        default_registry.cache_clear()

    yield write
    forget_modules(site)
    default_registry.cache_clear()


def test_the_plugin_of_the_docstring(install):
    install("bsm_register", "acme_zoo", "plugins")
    registry = default_registry()
    step = registry.load(registry.resolve("step", "acme_repeat_3"), TextStep)
    assert step().process("ab") == "ababab"
    assert "acme_repeat_2" not in registry.names("step")


def test_the_guard_of_the_docstring(install, data, tmp_path, monkeypatch):
    install("bsm_artifact_loaded", "acme_vouch", "guards")
    vouched = tmp_path / "vouched"
    monkeypatch.setenv("ACME_VOUCHED", str(vouched))
    vouched.write_text("")
    with pytest.raises(HookFailedError, match="ValueError: nobody vouched for this artifact"):
        data()
    vouched.write_text(FileHashes(data.artifact)["hyperparameters.json"])
    assert data().rows == 23


def test_the_window_observer_of_the_docstring(install, data):
    install("bsm_window_end", "acme_drift", "observers")
    assert "plugin:acme_drift:sure" in data().counts


def test_the_observer_of_commits_of_the_docstring(install, data, tmp_path, monkeypatch):
    install("bsm_committed", "acme_register", "observers")
    monkeypatch.setenv("ACME_RUNS", str(tmp_path / "runs"))
    data()
    data()
    assert len((tmp_path / "runs").read_text().splitlines()) == 2
