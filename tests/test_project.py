"""The habits of the project: make targets, continuous integration, pre-commit hooks, templates, the sdist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.checkout
in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="reads the list of files from git")


def run(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def text(name: str) -> str:
    return (ROOT / name).read_text()


def load(name: str) -> Any:
    return yaml.safe_load(text(name))


@pytest.fixture(scope="module")
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def test_a_bare_make_lists_every_target_with_what_it_does(targets):
    listed = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", run("make"), re.MULTILINE))
    assert listed.keys() == targets
    assert run("make", "help") == run("make")
    (phony,) = re.findall(r"^\.PHONY: (.*)", text("Makefile"), re.MULTILINE)
    assert set(phony.split()) == targets


def test_the_workflow_runs_make_targets(targets):
    commands = [
        step["run"]
        for job in load(".github/workflows/ci.yml")["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    words = [command.split() for command in commands if not command.startswith("sudo apt-get ")]
    assert {word[0] for word in words} == {"make"}
    called = {word[1] for word in words}
    assert called <= targets
    assert called >= {"check", "docs", "test", "wheel-test"}


def test_the_workflow_tests_the_oldest_and_the_newest_python():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: \d\.\d+$", c)]
    assert project["requires-python"] == f">={versions[0]}"
    matrix = load(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python-version"] == [versions[0], versions[-1]]


@pytest.mark.parametrize("page", [".ci/run", "CONTRIBUTING.md", "README.md", ".github/pull_request_template.md"])
def test_the_make_targets_that_a_page_names_exist(page, targets):
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text(page), re.MULTILINE))
    assert named
    assert {first or second for first, second in named} <= targets


def test_the_hooks_run_the_tools_of_make_check():
    repos = load(".pre-commit-config.yaml")["repos"]
    (local,) = [repo for repo in repos if repo["repo"] == "local"]
    entries = [hook["entry"].split()[0] for hook in local["hooks"]]
    assert all(hook["language"] == "system" for hook in local["hooks"])
    assert all(entry.startswith(".venv/bin/") and run(BIN / Path(entry).name, "--help") for entry in entries)
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    assert {Path(entry).name for entry in entries} == set(re.findall(r"\$\(BIN\)/(\S+)", recipe))
    others = {hook["id"] for repo in repos if repo is not local for hook in repo["hooks"]}
    assert others == {"end-of-file-fixer", "trailing-whitespace"}


@in_git
def test_the_files_are_as_the_whitespace_hooks_leave_them():
    exclude = re.compile(load(".pre-commit-config.yaml")["exclude"])
    for name in filter(None, run("git", "ls-files", "-z").split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if content and b"\0" not in content and not exclude.search(name):
            assert re.search(rb"[^\n]\n\Z", content), name
            assert not re.search(rb"[ \t]+$", content, re.MULTILINE), name


def test_editors_and_ruff_agree_on_the_length_of_a_line():
    length = tomllib.loads(text("pyproject.toml"))["tool"]["ruff"]["line-length"]
    assert f"\nmax_line_length = {length}\n" in text(".editorconfig")


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_an_issue_form_asks_named_questions(form):
    asked = load(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "labels", "body"} == asked.keys()
    questions = [field for field in asked["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in questions}) == len(questions) > 0
    assert all(field["attributes"]["label"] and field["attributes"]["description"] for field in questions)
    assert any(field.get("validations") == {"required": True} for field in questions)


def test_the_readme_links_every_page_of_the_site():
    listed = re.findall(r"^[\w-]+(?:/[\w-]+)?$", text("docs/index.md").partition("## All pages")[2], re.MULTILINE)
    of_the_project = {"changelog", "contributing", "security"}  # their files are beside the README
    linked = set(re.findall(r"\(docs/([\w/-]+)\.md\)", text("README.md")))
    assert linked == {*listed} - of_the_project
