"""``bsm doctor`` and ``bsm completion``."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from bsm_core import cli
from bsm_core.errors import BSMError
from bsm_core.plugins.registry import Registry, UnusablePlugin, replaced
from bsm_core.testing.installation import examine
from bsm_core.testing.toys import toy_registry

pytestmark = pytest.mark.usefixtures("quiet_log")


def toys():
    """Return a registry of the kit's own step and model class alone: those of the installation take long."""
    return Registry([c for c in toy_registry().components if c.provider.distribution == "bsm-testing"])


def test_the_doctor_says_what_is_there_and_what_works(capsys):
    with replaced(toys()):
        assert cli.main(["doctor", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert cli.main(["doctor"]) == 0
    assert found["versions"]["torch"]
    assert found["cores"] >= 1
    assert found["free_memory"] > 0
    assert found["problems"] == []
    assert all("fp32" in works["eager"] for works in found["encoders"].values())
    out = capsys.readouterr().out
    for title in ("versions", "extras", "machine", "GPUs", "kernels", "memory", "plugins", "problems"):
        assert f"{title}\n  " in out


def test_the_doctor_names_what_cannot_be_used(capsys):
    toy = toys()
    broken = UnusablePlugin(toy.components[0].provider, "it has no contract")
    registry = Registry(toy.components, [broken])
    assert examine(registry).problems == [f"{broken.provider}: it has no contract"]
    with replaced(registry):
        assert cli.main(["doctor"]) == 1
    assert "it has no contract" in capsys.readouterr().out


def test_a_model_class_that_cannot_be_built_is_a_problem(monkeypatch):
    registry = toys()
    monkeypatch.setattr("bsm_core.testing.model_checks.ModelSubject.build", _fail)
    assert any("model class 'toy_mean': BSMError: no weights" in each for each in examine(registry).problems)


def _fail(subject):
    raise BSMError("no weights")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_of_completion_knows_commands_and_flags(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("run", "inspect", "doctor", "window-rows", "completion"):
        assert word in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)
