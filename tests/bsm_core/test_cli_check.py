"""``bsm plugins check`` prints the kit's report, and its status is the report's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.plugins import forget_modules, write_distribution

from bsm_core import cli
from bsm_core.plugins.registry import default_registry

GOOD = """
    from bsm_core import TextStep

    class Step(TextStep):
        def process(self, value: str) -> str:
            return value.upper()
"""
LOUD = "print('hello')\n" + GOOD.replace("\n    ", "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two distributions: one keeps the contract, one prints when it is imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, source in (("acme-good", GOOD), ("acme-loud", LOUD)):
        module = name.replace("-", "_")
        write_distribution(tmp_path, name, {module: source}, {"steps": {module: f"{module}:Step"}})
    default_registry.cache_clear()
    yield
    forget_modules(tmp_path)
    default_registry.cache_clear()


def test_a_plugin_that_keeps_the_contract(installed, capsys):
    assert cli.main(["plugins", "check", "acme-good"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("plugin acme-good\n")
    assert "step acme_good\n" in out
    assert out.splitlines()[-1].endswith(" passed, 0 failed, 0 skipped")


def test_a_plugin_that_does_not(installed, capsys):
    assert cli.main(["plugins", "check", "acme-loud"]) == 1
    assert "FAILED   MUST    prints_nothing_when_imported" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["check acme-loud --json", "--json check acme-loud"])
def test_the_report_as_json(words, installed, capsys):
    assert cli.main(["plugins", *words.split()]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [r["check"] for r in report["results"] if r["status"] == "failed"] == ["prints_nothing_when_imported"]


def test_a_plugin_that_is_not_installed(installed, capsys):
    assert cli.main(["plugins", "check", "acme-god"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("UsageError: no plugin 'acme-god' is installed")
    assert "did you mean 'acme-good'?" in err
