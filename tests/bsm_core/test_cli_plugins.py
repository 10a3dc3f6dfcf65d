"""``bsm plugins``, and commands that meet a stranger's plugin."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugins import on_path, write_distribution, write_plugin
from support.toy import toy_rows, write_toy_artifact

from bsm_core import cli

SHOUT = """
from bsm_core import TextStep

class Shout(TextStep):
    def process(self, value):
        return value.upper()
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Fake distributions, one of which stands in the place of the built-ins; forgotten after the test."""
    folder = tmp_path / "site"
    write_plugin(folder, "bsm-core", {"shout": "acme_text:Shout", "scream": "shout"})
    removed = {"whisper": "acme_gone:whisper"}
    write_distribution(folder, "acme", {}, {"steps": {"shout": "torch:Nothing"}, "removed": removed}, "2.0")
    write_distribution(folder, "newer", {}, {"bsm.v2.steps": {"murmur": "newer:Murmur"}})
    with on_path(folder):
        yield folder


def entries(capsys) -> dict[tuple[str, str], str]:
    importlib.invalidate_caches()
    assert cli.main(["plugins", "--json"]) == 0
    return {(e["provider"], e["name"]): e["status"] for e in json.loads(capsys.readouterr().out)}


# What is listed


def test_plugins_as_json(site, capsys):
    found = entries(capsys)
    assert found["bsm-core", "shout"] == "clashes with acme 2.0"
    assert found["acme", "shout"] == "clashes with bsm-core 1.0"
    assert found["bsm-core", "scream"] == "alias of shout"
    assert found["acme", "whisper"] == "removed"
    assert found["newer", "-"].startswith("cannot be used: it implements version 2 of the plugin contract")


def test_plugins_that_are_left_out(site, capsys, monkeypatch):
    monkeypatch.setenv("BSM_PLUGINS", "acme,missing")
    found = entries(capsys)
    assert found["newer", "-"] == "left out by BSM_PLUGINS"
    assert found["acme", "whisper"] == "removed"
    assert found["missing", "-"].startswith("cannot be used: BSM_PLUGINS names it")


def test_a_distribution_that_is_there_twice(site, capsys, tmp_path, monkeypatch):
    write_plugin(tmp_path / "older", "acme", {"shout": "a:B", "old": "a:B"}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "older")])
    found = entries(capsys)
    assert found["acme", "-"] == f"hidden in {tmp_path / 'older'}: another comes first on the path"
    assert ("acme", "old") not in found


def test_plugins_as_a_table(site, capsys):
    assert cli.main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["name", "kind", "provider", "version", "status"]
    assert any(
        line.split() == ["scream", "step", "bsm-core", "1.0", "alias", "of", "shout"] for line in out.splitlines()
    )
    assert "cannot be used: it implements version 2" in out


def test_why_plugins_cannot_be_used(site, capsys):
    assert cli.main(["plugins", "--errors"]) == 0
    out = capsys.readouterr().out
    assert "newer 1.0: it implements version 2 of the plugin contract" in out
    assert "acme 2.0: text step 'shout' could not be loaded: AttributeError: module 'torch' has no" in out
    assert (
        "bsm-core 1.0: text step 'shout' could not be loaded: ModuleNotFoundError: No module named 'acme_text'" in out
    )
    assert "acme 2.0: removed name 'whisper' could not be loaded: ModuleNotFoundError" in out
    assert "\nTraceback (most recent call last):\n" in out


def test_a_distribution_that_is_not_there_is_named_in_one_sentence(site, capsys, monkeypatch):
    monkeypatch.setenv("BSM_PLUGINS", "nope")
    assert cli.main(["plugins", "--errors"]) == 0
    assert capsys.readouterr().out.count("BSM_PLUGINS names it") == 1


def test_a_host_without_its_own_metadata(tmp_path, capsys, monkeypatch):
    with on_path(tmp_path):
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        ((key, status),) = entries(capsys).items()
    assert key == ("bsm-core", "-")
    assert status.startswith(
        "cannot be used: this program was frozen without the metadata of bsm-core: `pyinstaller --copy-m"
    )


def test_a_form_at_a_time(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["plugins", "--json", "--errors"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


# Commands that import a stranger's step


@pytest.fixture
def stranger(toy_site, tmp_path) -> Iterator[Path]:
    """Writes ``acme``, whose module begins with some code, and an artifact that needs its step; gives the artifact."""
    with on_path(tmp_path / "site") as site:

        def install(code: str) -> Path:
            write_distribution(site, "acme", {"acme": code + SHOUT}, {"steps": {"acme_shout": "acme:Shout"}}, "2.0")
            importlib.invalidate_caches()
            return write_toy_artifact(tmp_path / "model", text_processing_steps=["acme_shout", "toy_tokens"])

        yield install


@pytest.mark.parametrize("command", ["plugins --errors", "plugins --json", "inspect {0}", "inspect {0} --json"])
@pytest.mark.usefixtures("quiet_log")
def test_what_a_plugin_prints_is_no_part_of_what_a_command_prints(stranger, capsys, command):
    artifact = stranger("print('{not JSON')")
    assert cli.main(command.format(artifact).split()) == 0
    out, err = capsys.readouterr()
    assert "not JSON" not in out
    if "--json" in command:
        assert json.loads(out)
    said = ["WARNING acme 2.0 prints when it is imported: {not JSON"] if command != "plugins --json" else []
    assert re.findall("WARNING .*", err) == said


def run(tmp_path: Path, artifact: Path, workers: int) -> int:
    toy_rows(5).to_csv(tmp_path / "rows.csv", index=False)
    places = {"--model-dir": artifact, "--data-dir": tmp_path / "rows.csv", "--output-dir": tmp_path / "out"}
    further = ["--job_type", "testing", "--id-field", "id", "--num-workers", str(workers)]
    return cli.main(["run", *further, *(str(word) for pair in places.items() for word in pair)])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("quiet_log")
def test_a_run_with_a_strangers_step(stranger, tmp_path, capfd, workers):
    assert run(tmp_path, stranger("print('hello')"), workers) == 0
    printed, said = capfd.readouterr()
    assert printed == ""
    assert "acme 2.0 prints when it is imported: hello" in said
    assert len((tmp_path / "out/inference_predictions.csv").read_text().splitlines()) == 6


STARTS = """
import multiprocessing
ours, theirs = multiprocessing.Pipe()
helper = multiprocessing.get_context("fork").Process(target=theirs.recv, daemon=True)
helper.start()
"""


@pytest.mark.usefixtures("quiet_log")
def test_a_run_with_a_step_that_starts_a_process_when_it_is_imported(stranger, tmp_path, capfd):
    artifact = stranger(STARTS)
    assert run(tmp_path, artifact, workers=0) == 0
    assert "acme 2.0 starts processes when it is imported" in capfd.readouterr().err
    sys.modules["acme"].ours.send("done")
    sys.modules["acme"].helper.join()
    assert run(tmp_path, artifact, workers=1) == 1
    failure = (tmp_path / "out/_FAILURE").read_text()
    assert failure.startswith("ComponentLoadError: text step 'acme_shout' could not be loaded: AssertionError: ")
    assert "daemonic processes are not allowed to have children (acme:Shout of acme 2.0)" in failure
    assert "report this to the authors of acme" in failure
    assert "--num-workers 0" in failure
