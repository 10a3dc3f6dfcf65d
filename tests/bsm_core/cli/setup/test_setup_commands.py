"""``bsm doctor`` and ``bsm completion``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import metadata

import pytest
from support.encoders import BranchingModel, MeanModel

from bsm_core import cli
from bsm_core.errors import BSMError
from bsm_core.plugins.registry import Registry, UnusablePlugin, replaced
from bsm_core.testing.installation import examine
from bsm_core.testing.toys import component, toy_registry

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
    assert {"mlflow", "ray"} < set(found["extras"]) >= set(metadata("bsm-core").get_all("Provides-Extra"))
    out = capsys.readouterr().out
    for title in ("versions", "extras", "machine", "GPUs", "kernels", "memory", "plugins", "problems"):
        assert f"{title}\n  " in out


def registry_of(model_class):
    return Registry([component("model_class", "mean", model_class)])


def test_the_doctor_tries_each_backend_of_each_encoder():
    pytest.importorskip("onnxruntime")
    found = examine(registry_of(MeanModel))
    assert found.problems == []
    assert found.encoders["MeanEncoder"]["eager"][0] == "fp32"
    assert found.encoders["MeanEncoder"]["onnx"] == ["fp32"]
    assert "backends of MeanEncoder\n  eager: fp32, " in found.to_text()


def test_the_doctor_says_why_an_encoder_is_not_exported():
    pytest.importorskip("onnxruntime")
    found = examine(registry_of(BranchingModel))
    assert found.encoders["BranchingEncoder"]["onnx"] == []
    [problem] = found.problems
    assert problem.startswith(
        "backend 'onnx' of BranchingEncoder: UsageError: encoder 'text' cannot be exported to ONNX "
    )
    assert "\n  onnx: does not work here\n" in found.to_text()


def test_without_the_extra_the_doctor_does_not_try_onnx(monkeypatch):
    monkeypatch.setattr("bsm_core.testing.installation.PACKAGES", ("no_such_package",))
    found = examine(registry_of(MeanModel))
    assert set(found.encoders["MeanEncoder"]) == {"eager"}
    assert found.problems == []


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


# Completion


@pytest.fixture(scope="module")
def parsers():
    """Return the parser of every command, with the words that call it."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shtab.complete", lambda whole, shell: found.append(whole) or "")
        assert cli.main(["completion", "bash"]) == 0
    return dict(below(found[0]))


def below(parser):
    yield parser.prog, parser
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        for other in action.choices.values():
            yield from below(other)


def test_no_text_breaks_a_script(parsers):
    """shtab puts help texts into quotes, where zsh and fish read a backslash as an escape, and metavars as they are."""
    assert {"bsm", "bsm run", "bsm plugins new", "bsm completion"} <= set(parsers)
    for name, parser in parsers.items():
        for action in parser._actions:
            is_command = isinstance(action.choices, dict)  # of which shtab shows each choice with its own help
            texts = [each.help for each in action._choices_actions] if is_command else [action.help % vars(action)]
            assert all(text.isprintable() and "\\" not in text for text in texts), (name, texts)
            for word in [action.metavar or action.dest, *map(str, action.choices or ())]:
                assert re.fullmatch("[A-Za-z0-9_/=.-]+", word), (name, word)


def test_every_path_is_completed(parsers):
    completed = {}
    for name, parser in parsers.items():
        paths = [each for each in parser._actions if hasattr(each, "complete")]
        completed[name] = {(each.option_strings or [each.dest])[0]: each.complete for each in paths}
        for each in parser._actions:  # names that the commands have for paths
            is_path = each.metavar in ("PATH", "FILE", "DIR", "TABLE", "OUTPUT", "OLD", "NEW", "SOURCE", "DESTINATION")
            assert (each in paths) == (is_path or each.metavar == "MODEL_DIR"), (name, each.dest)
    places = {"--model-dir": "file", "--data-dir": "file", "--output-dir": "directory"}
    assert completed["bsm run"] == {**places, "--row-issues": "file", "--report": "file", "--config": "file"}
    assert completed["bsm clean"] == completed["bsm merge"] == {"output": "directory"}
    assert completed["bsm plugins new"] == {"--output": "directory"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_of_completion_knows_commands_and_flags(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("run", "inspect", "doctor", "window-rows", "completion"):
        assert word in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


COMPLETE = {
    "bash": """
        source ./script
        for line in "$@"; do
            COMP_WORDS=($line)
            [[ $line == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _shtab_bsm
            echo "${COMPREPLY[@]}"
        done
    """,
    "fish": """
        source ./script
        for line in $argv
            echo (complete -C $line | string replace -r '\t.*' '')
        end
    """,
}
LINES = {
    "bsm ins": "inspect",
    "bsm run --dev": "--device --devices",
    "bsm run --engine ": "local ray",
    "bsm run --model-dir mod": "model.tar.gz models",
    "bsm run --output-dir mod": "models",
    "bsm run --config n": "nightly.toml",
    "bsm plugins n": "new",
    "bsm plugins new gu": "guard",
    "bsm evaluate mod": "model.tar.gz models",
    "bsm clean mod": "models",
}


@pytest.mark.parametrize("shell", COMPLETE)
def test_a_shell_completes_commands_flags_choices_and_paths(capsys, tmp_path, shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert cli.main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "models").mkdir()
    for name in ("model.tar.gz", "nightly.toml"):
        (tmp_path / name).touch()
    (tmp_path / "complete").write_text(COMPLETE[shell])
    words = [program, "complete", *LINES]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [" ".join(sorted(line.replace("/", "").split())) for line in done.stdout.splitlines()]
    assert dict(zip(LINES, found, strict=True)) == LINES
    assert not done.stderr
