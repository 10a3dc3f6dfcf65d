"""``bsm plugins new`` writes packages whose tests pass at once, and refuses names that cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.plugins import component, run_python
from support.processes import python

from bsm_core import cli
from bsm_core.errors import UsageError
from bsm_core.plugins.hookspecs import CONTRACT
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.plugins.scaffold import new_plugin
from bsm_core.storage.objects import ObjectPath

NOTHING = Registry([])
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
OFFLINE = ["--no-build-isolation", "--no-index", "--no-deps"]
GROUPS = {"step": "steps", "model": "model_classes", "guard": "guards", "observer": "observers"}
CLASSES = ("step", "model")

every_kind = pytest.mark.parametrize("kind", GROUPS)


def refused(name: str, folder: Path | None = None, registry: Registry = NOTHING) -> str:
    with pytest.raises(UsageError) as caught:
        new_plugin("step", name, folder, registry)
    return str(caught.value)


def test_the_tests_of_new_packages_pass_at_once(tmp_path):
    site, names = tmp_path / "site", [f"acme-{kind}" for kind in GROUPS]
    packages = [tmp_path / name for name in names]
    for kind, package in zip(GROUPS, packages, strict=True):
        new_plugin(kind, package.name, package, NOTHING)
    subprocess.run([*PIP, *OFFLINE, "--target", str(site), *map(str, packages)], check=True)
    for kind, package in zip(GROUPS, packages, strict=True):
        (package / f"acme_{kind}.py").unlink()  # what is tested is what was installed
    command = ["-m", "pytest", "-v", "-p", "no:cacheprovider", *packages]
    environment = {**os.environ, "PYTHONPATH": str(site), "BSM_PLUGINS": ",".join(names)}
    done = python(*command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout
    for kind in GROUPS:
        assert f"test_acme_{kind}.py::test_conformance[plugin-acme-{kind}-loads] PASSED" in done.stdout


@every_kind
def test_the_package_that_is_written(kind, tmp_path):
    files = new_plugin(kind, "Acme.shout-2", tmp_path / "new" / "package", NOTHING)
    assert [file.name for file in files] == ["README.md", "acme_shout_2.py", "pyproject.toml", "test_acme_shout_2.py"]
    assert all(file.parent == tmp_path / "new" / "package" for file in files)
    project = tomllib.loads(files[2].read_text())["project"]
    assert project["name"] == "Acme.shout-2"
    target = "acme_shout_2:AcmeShout2" if kind in CLASSES else "acme_shout_2"
    assert project["entry-points"] == {f"bsm.v{CONTRACT}.{GROUPS[kind]}": {"acme_shout_2": target}}
    assert ("class AcmeShout2(" in files[1].read_text()) == (kind in CLASSES)
    assert not [file for file in files if "$" in file.read_text()]


def test_the_folder_is_called_like_the_distribution(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_plugin("step", "acme-shout", None, NOTHING)
    assert (tmp_path / "acme-shout" / "pyproject.toml").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    said = refused("acme-shout", tmp_path)
    assert said == f"{tmp_path} exists already\n  To fix: name a new folder with --output"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    said = refused("acme-shout", tmp_path / "file" / "package")
    assert said.startswith(f"{tmp_path / 'file' / 'package'} cannot be written: Not a directory")


@pytest.mark.parametrize(
    "name", ["", "-acme", "acme-", "acme shout", "acme/shout", "../acme", "2acme", "_acme", "ácme"]
)
def test_a_name_that_no_distribution_can_have(name, tmp_path):
    assert refused(name, tmp_path / "new").startswith(
        f"{name!r} cannot be the name of a plugin\n  To fix: choose a name such"
    )
    assert not (tmp_path / "new").exists()


def test_a_name_that_no_module_can_have(tmp_path):
    assert "'lambda' is a keyword of Python" in refused("lambda", tmp_path / "new")


@pytest.mark.parametrize("kind", ["step", "model_class", "removed"])
def test_a_name_that_a_plugin_has(kind, tmp_path):
    registry = Registry([component(kind, "acme_shout", "elsewhere:Shout", "loud-words", "3.0")])
    assert "'acme_shout' is taken: loud-words 3.0 provides it" in refused("acme-shout", tmp_path / "new", registry)
    assert not (tmp_path / "new").exists()


def test_a_name_that_a_module_has(tmp_path):
    assert "'json' is taken: a module of that name is installed" in refused("json", tmp_path / "new")


# The commands


@every_kind
def test_the_command_says_what_it_wrote_and_how_to_go_on(kind, tmp_path, capsys):
    folder = tmp_path / "package"
    assert cli.main(["plugins", "new", kind, "acme-thing", "--output", str(folder)]) == 0
    *files, last = capsys.readouterr().out.splitlines()
    assert sorted(map(str, folder.iterdir())) == files
    assert last == f"Next: pip install -e '{folder}[test]'; python -m pytest {folder}"


def test_the_command_imports_nothing_heavy(tmp_path):
    code = f"""
        import sys
        from bsm_core.cli import main
        assert main(["plugins", "new", "model", "acme-thing", "--output", {str(tmp_path / "new")!r}]) == 0
        print([name for name in ("torch", "lightning", "pyarrow", "transformers") if name in sys.modules])
    """
    assert run_python(code).splitlines()[-1] == "[]"


def test_the_command_refuses_the_name_of_a_built_in(tmp_path, capsys):
    assert cli.main(["plugins", "new", "step", "tokenizer", "--output", str(tmp_path / "new")]) == 2
    assert "UsageError: 'tokenizer' is taken: bsm-core " in capsys.readouterr().err


def test_a_kind_that_there_is_not(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["plugins", "new", "hook", "acme-thing"])
    assert caught.value.code == 2
    assert "invalid choice: 'hook'" in capsys.readouterr().err


def test_the_listing_needs_no_action(capsys):
    default_registry.cache_clear()
    assert cli.main(["plugins"]) == 0
    assert "tokenizer" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["bsm", "conftest", "setup", "test-me", "my-test"])
def test_names_that_do_harm_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="cannot be the name of a plugin"):
        new_plugin("step", name, tmp_path / "package", Registry([]))
    assert not (tmp_path / "package").exists()


def test_a_url_is_no_folder_for_a_package():
    assert "cannot be written to an object store (s3://bucket/x)" in refused(
        "acme-thing", ObjectPath("s3:", "bucket", "x")
    )
