"""The kit against a good distribution, and against one broken distribution for every check."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broken_plugins import BROKEN, GOOD, HOOKS, STEP, Plugin
from support.plugins import forget_modules

from bsm_core.plugins.registry import default_registry
from bsm_core.testing.checks import Report
from bsm_core.testing.plugin_checks import CHECKS, PluginSubject

NAMES = [check.name for check in CHECKS]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is first on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BSM_PLUGINS", raising=False)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    yield tmp_path
    forget_modules(tmp_path)
    default_registry.cache_clear()


def report_of(plugin: Plugin, site: Path) -> Report:
    plugin.install(site)
    importlib.invalidate_caches()
    default_registry.cache_clear()
    return Report(tuple(PluginSubject("acme").results()))


def failures(report: Report) -> dict[str, str]:
    return {r.check.name: r.message for r in report.results if r.status == "failed"}


def test_a_good_distribution_passes_everything(site):
    report = report_of(GOOD, site)
    assert report.counts == {"passed": len(CHECKS), "failed": 0, "skipped": 0}, report.to_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_distribution_fails_its_check_and_no_other(name, site):
    report = report_of(BROKEN[name], site)
    assert [*failures(report)] == [name], report.to_text()
    behind = {r.message for r in report.results if r.status == "skipped"}
    gate = next(check.gate for check in CHECKS if check.name == name)
    assert behind == ({f"not checked because {name} fails"} if gate else set())


@pytest.mark.parametrize(
    ("line", "check", "seen"),
    [
        ("import sys; sys.stderr.write('warning: beta')", "prints_nothing_when_imported", "warning: beta"),
        ("import socket; socket.getaddrinfo('localhost', 1)", "opens_no_socket_when_imported", "localhost"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', ''])", "starts_nothing_when_imported", "Popen"),
        ("import os; os.write(1, b'hello from below')", "prints_nothing_when_imported", "hello from below"),
        ("import torch; torch.accelerator.is_available()", "leaves_cuda_alone_when_imported", "torch.accelerator"),
        ("import numpy; numpy.random.rand()", "leaves_random_state_alone_when_imported", "numpy.random"),
        ("import os; os.chdir('/')", "leaves_the_environment_alone_when_imported", "working folder"),
        ("import os; del os.environ['ACME']", "leaves_the_environment_alone_when_imported", "ACME"),
    ],
)
def test_what_is_seen_is_said(line, check, seen, site, monkeypatch):
    monkeypatch.setenv("ACME", "1")
    source = (
        STEP
        + HOOKS
        + (f"if True:\n    {line}\n" if "del" not in line else f"import os\nif 'ACME' in os.environ: {line}\n")
    )
    found = failures(report_of(Plugin(source), site))
    assert seen in found[check]


def test_an_import_that_ends_the_process_is_said(site):
    found = failures(report_of(Plugin(STEP + HOOKS + "import os; os._exit(7)\n"), site))
    assert "ended with status 7" in found["loads"]


def test_an_import_that_ends_the_process_well_is_said(site):
    found = failures(report_of(Plugin(STEP + HOOKS + "import os; os._exit(0)\n"), site))
    assert "ended with status 0" in found["loads"]


def test_an_import_that_does_not_end_is_said(site, monkeypatch):
    monkeypatch.setattr("bsm_core.testing.elsewhere.SECONDS", 2)
    found = failures(report_of(Plugin(STEP + HOOKS + "import threading; threading.Event().wait()\n"), site))
    assert "no answer in 2 s" in found["loads"]


def test_a_name_that_it_provides_twice(site):
    GOOD.install(site)
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text(
        "[bsm.v1.steps]\nacme_shout = acme:Shout\nacme_shout = acme:Other\n"
    )
    default_registry.cache_clear()
    (check,) = [c for c in CHECKS if c.name == "clashes_with_nobody"]
    assert "is also provided by acme 1.0" in PluginSubject("acme").result(check).message


def test_bad_names_alone_are_no_other_contract(site):
    report = report_of(Plugin(entry_points={"steps": {"Shout": "acme:Shout"}}), site)
    assert next(iter(failures(report))) == "has_valid_entry_points"


def test_metadata_of_a_project_folder_do_not_hide_the_wheel(site, tmp_path, monkeypatch):
    GOOD.install(site)
    egg = tmp_path / "project" / "acme.egg-info"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "project")
    default_registry.cache_clear()
    (check,) = [c for c in CHECKS if c.name == "ships_its_modules"]
    assert PluginSubject("acme").result(check).status == "passed"


def test_a_wheel_that_is_no_wheel(site):
    GOOD.install(site)
    (site / "acme-1.0.dist-info" / "RECORD").unlink()
    default_registry.cache_clear()
    (check,) = [c for c in CHECKS if c.name == "ships_its_modules"]
    assert "no RECORD" in PluginSubject("acme").result(check).message


def test_an_editable_installation_is_skipped_and_says_so(site):
    GOOD.install(site)
    (site / "acme-1.0.dist-info" / "direct_url.json").write_text('{"url": "file:///a", "dir_info": {"editable": true}}')
    default_registry.cache_clear()
    (check,) = [c for c in CHECKS if c.name == "ships_its_modules"]
    result = PluginSubject("acme").result(check)
    assert (result.status, "editable" in result.message) == ("skipped", True)


REGISTERS = """
from bsm_core import TextStep, hookimpl

class Shout(TextStep):
    def process(self, value):
        return value.upper()

@hookimpl
def bsm_register(registry):
    registry.add_step("acme_shout", type("Loud", (Shout,), {}))
"""
IN_CODE = {"plugins": {"acme": "acme"}}
ONCE = "    import builtins\n    if hasattr(builtins, 'acme'): raise KeyError\n    builtins.acme = 1\n"


def test_a_plugin_that_registers_in_code_passes_everything(site):
    report = report_of(Plugin(REGISTERS, IN_CODE), site)
    assert report.counts == {"passed": len(CHECKS), "failed": 0, "skipped": 0}, report.to_text()


@pytest.mark.parametrize(
    ("source", "check", "seen"),
    [
        (REGISTERS + "    raise ValueError('no')\n", "loads", "failed in bsm_register: ValueError: no"),
        (REGISTERS.replace("(Shout,)", "()"), "loads", "'acme_shout' is not a subclass of TextStep"),
        (REGISTERS.replace('"acme_shout"', '"tokenizer"'), "clashes_with_nobody", "also provided by bsm-core"),
        (REGISTERS.replace("(registry)", "(thing)"), "has_valid_hooks", "thing"),
        (HOOKS, "has_valid_hooks", "does not implement bsm_register"),
        (REGISTERS + "    print('hello')\n", "prints_nothing_when_imported", "hello"),
        (REGISTERS + "    import random; random.seed(0)\n", "leaves_random_state_alone_when_imported", "random"),
        (REGISTERS + ONCE, "loads_twice", "KeyError"),
    ],
)
def test_what_is_wrong_with_a_plugin_that_registers_in_code_is_said(source, check, seen, site, monkeypatch):
    monkeypatch.setattr("builtins.acme", 0, raising=False)
    monkeypatch.delattr("builtins.acme")
    found = failures(report_of(Plugin(source, IN_CODE), site))
    assert seen in found[check]


def test_every_check_has_a_broken_distribution():
    assert set(BROKEN) == set(NAMES)
