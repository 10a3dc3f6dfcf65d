"""Files of a release: the sdist, the wheel and their metadata, the workflow, and the conda recipe."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import bsm_core

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("bsm_core", "bsm_plugins_models", "bsm_plugins_text")
OPTIONAL = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
ON_CONDA = {"torch": "pytorch", "ray": "ray-core"}
"""Names of packages on conda, where they differ from those for pip."""

pytestmark = pytest.mark.checkout
in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="reads the list of files from git")


def run(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    return {name for name in run("git", "ls-files", "-z").split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The folder that ``make dist`` fills: an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"bsm_core-{bsm_core.__version__}-py3-none-any.whl"
    return wheel


@in_git
def test_the_sdist_holds_every_file_of_the_checkout(dist, tracked):
    """Or its tests would not run: they read the documentation, the examples and the benchmarks."""
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    assert tracked <= packed


@in_git
def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel, tracked):
    """Templates and style sheets too, without which ``bsm plugins new`` and the report end in an error."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert {"bsm_core/report/page/page.css", "bsm_core/plugins/templates/step/module.py.in"} <= names


@in_git
def test_the_sdist_builds_the_wheel_of_the_checkout(wheel, tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_metadata_are_complete(wheel):
    """``twine check --strict`` asks for a description; the package index also asks for known classifiers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        found = Metadata.from_email(archive.read(name), validate=True)
    assert (found.name, str(found.version)) == ("bsm-core", bsm_core.__version__)
    assert found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "README.md").read_text()
    assert (found.license_expression, found.license_files) == ("Apache-2.0", ["LICENSE"])
    assert found.summary
    assert found.keywords
    assert set(found.provides_extra or []) == set(PROJECT["optional-dependencies"])
    known = pytest.importorskip("trove_classifiers").classifiers
    assert set(found.classifiers or []) <= known


def test_the_release_workflow_publishes_what_was_checked():
    workflow = load(".github/workflows/release.yml")
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key "on" as a boolean
    assert "workflow_call" in load(".github/workflows/ci.yml")[True]
    assert jobs["check"] == {"uses": "./.github/workflows/ci.yml"}
    assert [jobs[name]["needs"] for name in ("build", "publish")] == ["check", "build"]
    commands = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert commands[:2] == ["make dist", "pipx run twine check --strict dist/*"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}  # a trusted publisher has no password
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_the_workflow_finds_the_files_of_the_tags_version(dist):
    (command,) = [
        step["run"]
        for step in load(".github/workflows/release.yml")["jobs"]["build"]["steps"]
        if step.get("name") == "The version is that of the tag"
    ]
    for tag, status in ((f"v{bsm_core.__version__}", 0), ("v9.9.9", 2)):
        script = f'GITHUB_REF_NAME={tag}\ncd "$1" && ln -sfn . dist\n{command}'
        assert subprocess.run(["bash", "-ec", script, "-", dist], capture_output=True, check=False).returncode == status


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return load("conda/recipe.yaml")


def conda(requirements: list[str]) -> set[str]:
    """Return requirements of pip as conda spells them."""
    parsed = map(Requirement, requirements)
    return {f"{ON_CONDA.get(one.name, one.name)} {one.specifier}" for one in parsed}


def test_the_conda_recipe_has_the_requirements_of_pip(recipe):
    python = f"python {PROJECT['requires-python']}"
    needed = recipe["requirements"]
    assert set(needed["run"]) == {*conda(PROJECT["dependencies"]), python, "__linux"}
    assert set(needed["run_constraints"]) == conda(OPTIONAL)
    build_system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert set(needed["host"]) == {*conda(build_system["requires"]), python, "pip"}


def test_the_conda_recipe_is_that_of_this_version(recipe):
    assert recipe["package"]["name"] == PROJECT["name"]
    assert recipe["context"]["version"] == bsm_core.__version__
    assert (recipe["about"]["summary"], recipe["about"]["license"]) == (PROJECT["description"], PROJECT["license"])
    scripts = [f"{name} = {function}" for name, function in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["tests"][0]["python"]["imports"] == list(PACKAGES)


def test_no_requirement_is_pinned_or_lacks_a_lower_bound():
    assert [one for one in [*PROJECT["dependencies"], *OPTIONAL] if not re.fullmatch(r"[\w.-]+>=[\d.]+", one)] == []
