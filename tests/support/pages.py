"""Pages of documentation: their blocks of code, and running them as a reader would."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.plugins import forget_modules
from support.processes import python

from bsm_core import cli
from bsm_core.plugins.registry import default_registry

EXTRAS = "pip install '.[baselines,lora,mlflow,onnx,ray,s3,tensorboard]'"
SETS_UP = frozenset(
    {
        "make demo",
        "make test",
        "pip install .",
        'pip install --index-url "${TORCH_CPU:?see below}" torch && pip install .',
        EXTRAS,
    }
)
"""Commands that set up an environment: the only ones that are not run."""

PIP = {
    "install": "--quiet --no-build-isolation --no-index --no-deps --upgrade --target {site}",
    "wheel": "--quiet --no-build-isolation --no-index",
}
"""Options added to the pages' pip commands: no network, and a target folder for each page."""

SECONDS = 120
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_FOR_A_SHELL = re.compile(r"[|&;<>$`*]")
_LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: ``"python"``, ``"bash"``, ...; a directive of Sphinx stands in braces.
        body: Its text.
        line: The line of the page it begins on.
    """

    language: str
    body: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(match["info"].strip(), match["body"], text.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a ``bash`` or ``console`` block, each with the output that is shown: ``...`` for ``bash``."""
    body = block.body.replace("\\\n", " ")
    if block.language == "console":
        for shown in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, output = shown.partition("\n")
            yield command.strip(), output
    else:
        for line in filter(str.strip, body.splitlines()):
            yield line.partition("  #")[0].strip(), "...\n"


class Reader:
    """Somebody who types everything that a page shows, in a folder that looks like the checkout.

    A block whose first line is a comment with a file's name is written to that file. What pip installs goes into a
    folder beside the checkout, which is on the path.

    Args:
        folder: The folder.
        monkeypatch: Undoes what the reader does to the path and the environment.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.site = folder.parent / "site"
        self.monkeypatch = monkeypatch
        self.status = 0
        self.module = types.ModuleType("reader")
        monkeypatch.setitem(sys.modules, "reader", self.module)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.chdir(folder)
        self._put_on_path(self.site)
        self._put_on_path(folder)

    def read(self, page: Path) -> None:
        """Type the page's blocks; an assertion says the line of the one that does not do what the page says."""
        try:
            for block in blocks(page):
                try:
                    self._type(block)
                except Exception as error:
                    raise AssertionError(f"{page.name}, block of line {block.line}: {error}") from error
                assert self.status == 0, f"{page.name}, block of line {block.line} ends with status {self.status}"
        finally:
            forget_modules(self.folder.parent)
            default_registry.cache_clear()

    def _type(self, block: Block) -> None:
        file = _FILE.match(block.body)
        if block.language == "toml":
            assert file, "a toml block needs the name of its file"
            tomllib.loads(block.body)
            self._write(file[1], block.body)
        elif block.language == "json":
            json.loads(block.body)
        elif block.language == "python":
            if file:
                self._write(file[1], block.body)
            else:
                exec(compile(block.body, "reader", "exec", dont_inherit=True), vars(self.module))
        elif block.language == "pycon":
            self._doctest(block.body)
        elif block.language in ("bash", "console"):
            for command, output in commands(block):
                self._command(command, output)

    def _write(self, name: str, body: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        if path.suffix == ".py":
            ast.parse(body)

    def _put_on_path(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self.monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        default_registry.cache_clear()

    def _pip(self, command: str) -> str:
        """Run pip; what it installs is found from then on, in editable mode too, here and in other processes."""
        _, action, arguments = command.split(" ", 2)
        printed = self._run(f"pip {action} {PIP[action].format(site=shlex.quote(str(self.site)))} {arguments}")
        for editable in self.site.glob("*.pth"):  # which Python reads in its own site folders alone
            self._put_on_path(Path(editable.read_text().strip()))
            editable.unlink()
        importlib.invalidate_caches()
        default_registry.cache_clear()
        return printed

    def _doctest(self, body: str) -> None:
        test = doctest.DocTestParser().get_doctest(body, vars(self.module), "reader", None, None)
        test.globs = vars(self.module)  # not the copy: later blocks go on from here
        said: list[str] = []
        failed, tried = doctest.DocTestRunner(optionflags=_LIKE, verbose=False).run(
            test, out=said.append, clear_globs=False
        )
        assert tried, "a pycon block without >>>"
        assert not failed, "".join(said)

    def _command(self, command: str, output: str) -> None:
        if command in SETS_UP:
            return
        if command == "echo $?":
            got, self.status = f"{self.status}\n", 0
        else:
            assert self.status == 0, f"the command before {command!r} ended with status {self.status}"
            got = self._pip(command) if command.startswith("pip ") else self._run(command)
        assert doctest.OutputChecker().check_output(output, got, _LIKE), f"$ {command}\n{got}\nis not\n{output}"

    def _run(self, command: str) -> str:
        """Run a command and return its output.

        A plain ``bsm`` runs in this process and a plain ``python`` in one of the server: both have torch already.
        """
        words = shlex.split(command)
        environment = {}
        while "=" in words[0]:
            name, _, environment[name] = words.pop(0).partition("=")
        if words[0] == "bsm" and not _FOR_A_SHELL.search(command):
            return self._bsm(words[1:], environment)
        if words[0] == "python" and not _FOR_A_SHELL.search(command):
            done = python(*words[1:], env={**os.environ, **environment})
            self.status = done.returncode
            return done.stdout + done.stderr
        done = subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.status = done.returncode
        return done.stdout

    def _bsm(self, arguments: list[str], environment: dict[str, str]) -> str:
        printed = io.StringIO()
        log = logging.getLogger("bsm")
        default_registry.cache_clear()
        with self.monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(log, "handlers", [])
            patch.setattr(log, "propagate", log.propagate)
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    self.status = cli.main(arguments)
                except SystemExit as end:
                    self.status = int(end.code or 0)
        default_registry.cache_clear()
        return printed.getvalue()
