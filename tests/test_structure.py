"""The structure of the code: folders, imports, sizes, names, and how docstrings begin."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import bsm_core

CORE = Path(bsm_core.__file__).parent
PACKAGES = [CORE, *(CORE.parent / name for name in ("bsm_plugins_text", "bsm_plugins_models"))]
MOST_ENTRIES, MOST_FILES, MOST_LINES = 22, 12, 400
MOST_NODES, MOST_LEVELS, MOST_EDGES = 24, 12, 117
VAGUE = ("It ", "They ", "Those ", "That ", "What ", "Some of ", "All of ", "The same ", "Its ", "Nobody ", "Who ")

pytestmark = pytest.mark.checkout


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """The modules of ``bsm_core`` that each of them imports, for type checking too."""
    grimp = pytest.importorskip("grimp")  # of import-linter
    graph = grimp.build_graph("bsm_core", exclude_type_checking_imports=False, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def levels(imports: dict[str, set[str]]) -> dict[str, int]:
    """The length of the longest chain of imports that begins at each node."""
    found: dict[str, int] = {}
    while len(found) < len(imports):
        ready = [name for name in imports if name not in found and imports[name] <= found.keys()]
        assert ready, f"a circle among {sorted(imports.keys() - found.keys())}"
        found |= {name: 1 + max((found[other] for other in imports[name]), default=0) for name in ready}
    return found


def test_no_module_imports_itself_in_a_circle(imports):
    """A package's ``__init__`` stands for its names: a module may import its own package's neighbours."""
    levels({name: {o for o in others if not name.startswith(f"{o}.")} for name, others in imports.items()})


def test_folders_form_few_levels_with_few_imports_between_them(imports):
    folders: dict[str, set[str]] = {}
    for name, others in imports.items():
        folder = ".".join(name.split(".")[:2])
        folders.setdefault(folder, set()).update(".".join(other.split(".")[:2]) for other in others)
    folders = {folder: others - {folder} for folder, others in folders.items()}
    assert len(folders) <= MOST_NODES
    assert max(levels(folders).values()) <= MOST_LEVELS
    assert sum(map(len, folders.values())) <= MOST_EDGES


def sources(folders: Iterable[Path] = PACKAGES) -> Iterator[tuple[Path, ast.Module]]:
    for package in folders:
        for file in sorted(package.rglob("*.py")):
            yield file, ast.parse(file.read_text())


def test_folders_and_files_are_small():
    assert len([entry for entry in CORE.iterdir() if entry.name != "__pycache__"]) <= MOST_ENTRIES
    for folder in {file.parent for file, _ in sources()}:
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= MOST_FILES, folder
    for file, _ in sources():
        assert len(file.read_text().splitlines()) <= MOST_LINES, file


def test_file_names_are_unique():
    names = Counter(file.name for file in CORE.rglob("*.py") if file.name not in ("__init__.py", "__main__.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_class_names_are_unique():
    classes = Counter(node.name for _, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in classes.items() if count > 1 and name != "Config"] == []


def docstrings(tree: ast.Module) -> Iterator[str]:
    """The docstrings of modules, classes and functions, and the strings after an assignment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def test_the_core_names_no_plugin_of_ours():
    """The contract names default steps; ``tokenizer`` and ``bert`` are words of Hugging Face too."""
    pyproject = tomllib.loads((CORE.parent / "pyproject.toml").read_text())
    names = {name for group in pyproject["project"]["entry-points"].values() for name in group}
    names |= {"tuned", "kernel_size", "num_channels"}
    named = [
        f"{file.relative_to(CORE)}:{node.lineno}: {node.value}"
        for file, tree in sources([CORE])
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names - {"tokenizer", "bert"} and file.name != "contract.py"
    ]
    assert named == []


def test_docstrings_name_their_subject():
    vague = [
        f"{file.name}: {docstring.splitlines()[0]}"
        for file, tree in sources(
            [*PACKAGES, *(CORE.parent / name for name in ("scripts", "tests", "benchmarks", "examples"))]
        )
        for docstring in docstrings(tree)
        if docstring.startswith(VAGUE)
    ]
    assert vague == []


def test_nothing_depends_on_assert_statements():
    """Python leaves them out with ``-O``."""
    found = [
        f"{file.name}:{node.lineno}"
        for file, tree in sources([*PACKAGES, CORE.parent / "scripts"])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []
