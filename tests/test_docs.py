"""Every block of code in the README and the documentation runs, and what their tables list is what there is."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.pages import EXTRAS, SETS_UP, Reader, blocks, commands
from support.plugins import run_python

import bsm_core
from bsm_core import ArtifactConfig, ModelConfig, Registry, Settings, TextStep, errors
from bsm_core.models.micro_batches import DeviceOutOfMemoryError
from bsm_core.plugins import hookspecs
from bsm_core.scoring.attempt import plan_of
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.settings import sources
from bsm_core.tables.read import TableSource
from bsm_core.testing import model_checks, plugin_checks, step_checks
from bsm_core.training.config.training_config import OWN_FILES, TrainingConfig
from bsm_core.training.optional.lora import LoraSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUN = {"python", "pycon", "bash", "console", "toml", "json"}
NOT_CODE = {"text", "{toctree}", "{eval-rst}", "{literalinclude}", "{include}"}
"""Diagrams, trees of files, commands for machines that are not here, and Sphinx's own blocks."""

NEEDED = {"scale.md": "ray", "evaluation.md": "sklearn", "mlflow.md": "mlflow"}
"""Packages beyond those of bsm without which a page is not read."""

COLUMNS = 90
"""Number of characters that fit into a line of the built pages."""

EXAMPLES = ("bsm-hello", "bsm-late-fusion")
"""Packages whose files the pages show."""

SPECS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, f"{hookspecs.PROJECT}_spec")}
"""The hooks of the contract."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def rows(page: str, *head: str) -> list[list[str]]:
    """The cells of all tables of a page that have these heads."""
    lines = (DOCS / page).read_text().splitlines()
    found: list[list[str]] = []
    for i, line in enumerate(lines):
        if line == f"| {' | '.join(head)} |":
            for row in lines[i + 2 :]:
                if not row.startswith("|"):
                    break
                found.append([cell.strip() for cell in row[1:-1].split("|")])
    assert found, f"{page} has no table {head}"
    assert {len(cells) for cells in found} == {len(head)}
    return found


def names(cell: str) -> list[str]:
    """Return the words in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    folder = tmp_path / "checkout"
    for name in ("examples", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return Reader(folder, monkeypatch)


@by_page
def test_a_page_does_what_it_says(page, reader):
    if page.name in NEEDED:
        pytest.importorskip(NEEDED[page.name])
    reader.read(page)


@by_page
def test_every_block_is_of_a_kind_that_is_run(page):
    found = blocks(page)
    assert {block.language.partition(" ")[0] for block in found} <= RUN | NOT_CODE
    assert len(re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)) == 2 * len(found)


@by_page
def test_no_block_is_wider_than_the_page(page):
    wide = [line for block in blocks(page) for line in block.body.splitlines() if len(line) > COLUMNS]
    assert not wide


def test_only_what_sets_up_an_environment_is_not_run():
    shown = [c for p in PAGES for b in blocks(p) if b.language in ("bash", "console") for c, _ in commands(b)]
    assert set(shown) >= SETS_UP


def test_the_command_for_all_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"pip install '.[{','.join(sorted(project['optional-dependencies']))}]'" == EXTRAS


def test_the_table_of_settings():
    fields = Settings.model_fields
    expected = []
    for name, source in sources().items():
        default = fields[name].get_default()
        has_value = isinstance(default, str | Path) or type(default) is int
        expected.append([[source.flag], [source.env] if source.env else [], [str(default)] if has_value else []])
    table = rows("start.md", "flag", "variable", "default", "what it says")
    assert [[names(cell) for cell in cells[:3]] for cells in table] == expected
    assert [cells[0] for cells in table if cells[2] == "required"] == ["`--id-field`"]
    (keys,) = re.findall(r"The settings ([^.]*?) can stand in the\s+artifact's config", (DOCS / "start.md").read_text())
    assert names(keys) == [name for name, source in sources().items() if source.in_artifact]


def test_the_table_of_the_plan(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    settings = Settings(job_type="inference", id_field="id", data_dir=tmp_path, max_cell_mb=1)
    artifact: Any = SimpleNamespace(hashes={}, names=lambda registry: SimpleNamespace(found={}))
    devices = DevicePlan("cpu", (0,))
    plan = plan_of(settings, artifact, {}, "csv", TableSource.open(tmp_path).dialect, devices)
    listed = {name for cells in rows("reliability.md", "in the plan", "not in the plan") for name in names(cells[0])}
    assert listed == {*plan["settings"], "csv_header"}  # csv_header is in the plan as the names of csv_columns


def test_the_tables_of_config_keys():
    listed = [key for cells in rows("artifact.md", "key", "default", "meaning") for key in names(cells[0])]
    assert set(listed) == {*ArtifactConfig.model_fields, *ModelConfig.model_fields, "id_name"}
    assert len(listed) == len(set(listed))


def test_the_tables_of_training_keys():
    listed = [key for cells in rows("training.md", "key", "default", "meaning") for key in names(cells[0])]
    known = {*TrainingConfig.model_fields, *OWN_FILES, *LoraSettings.model_fields, "id_name"}
    assert sorted(listed) == sorted(known)


def test_the_table_of_steps():
    registry = Registry.discover(frozenset())
    expected = {}
    for name in registry.names("step"):
        step = registry.load(registry.resolve("step", name), TextStep)
        parameters = [p for p in inspect.signature(step).parameters if p != "tokenizer"]
        expected[name] = [step.takes.value, step.gives.value, parameters, list(step.uses)]
    table = rows("text-steps.md", "step", "takes", "gives", "parameters", "from the artifact")
    assert {
        names(step)[0]: [takes, gives, names(parameters), names(uses)] for step, takes, gives, parameters, uses in table
    } == expected


def test_the_table_of_errors():
    bases = {errors.BSMError, errors.PluginError, errors.UnknownComponentError}  # never raised themselves
    classes = {c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.BSMError)} - bases
    known = {c.__name__: c for c in classes | {DeviceOutOfMemoryError}}
    table = rows("contract.md", "error", "also a", "when", "what to do")
    assert sorted(name for cells in table for name in names(cells[0])) == sorted(known)
    for listed, also, *_ in table:
        for name in names(listed):
            ours = [c for c in known[name].__mro__ if c.__module__.startswith("bsm_core")]
            others = {base.__name__ for c in ours for base in c.__bases__ if base not in (*ours, Exception)}
            assert set(names(also)) == others, name


def test_the_signature_of_every_hook():
    shown = [block.body.splitlines() for block in blocks(DOCS / "plugins" / "hooks.md") if block.language == "text"]
    signatures = {name: str(inspect.signature(hook)).replace("'", "") for name, hook in SPECS.items()}
    assert shown == [[name + signature for name, signature in signatures.items()]]


def test_every_hook_has_a_user_on_its_page():
    code = [block.body for block in blocks(DOCS / "plugins" / "hooks.md") if block.language == "python"]
    functions = [node for body in code for node in ast.walk(ast.parse(body)) if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in functions if function.decorator_list} == set(SPECS)


def test_the_table_of_entry_point_groups():
    listed = [names(cells[0])[0] for cells in rows("plugins/names.md", "group", "an entry point is")]
    assert listed == list(hookspecs.GROUPS)


def test_the_tables_of_checks():
    checks = [*plugin_checks.CHECKS, *step_checks.CHECKS, *model_checks.CHECKS]
    listed = rows("plugins/testing.md", "check", "", "what must hold")
    assert listed == [[f"`{check.name}`", check.level, check.what] for check in checks]


def test_the_examples_are_shown_as_they_are():
    shown = {}
    for page in PAGES:
        for block in blocks(page):
            first, _, rest = block.body.partition("\n")
            if first.startswith("# examples/"):
                assert rest == (ROOT / first.removeprefix("# ")).read_text(), f"{page.name}, line {block.line}"
                shown[first.removeprefix("# ")] = rest
    for name in EXAMPLES:
        module = name.replace("-", "_")
        assert {f"examples/{name}/pyproject.toml", f"examples/{name}/{module}.py"} <= set(shown)
    assert "examples/bsm-hello/test_bsm_hello.py" in shown


def test_the_config_of_the_example_is_shown_as_it_is():
    config = json.loads((ROOT / "examples" / "bsm-late-fusion" / "config.json").read_text())
    shown = [b.body for b in blocks(DOCS / "plugins" / "model-class.md") if b.language == "json"]
    assert list(map(json.loads, shown)) == [config]


def test_the_functions_of_the_script():
    def arguments(code: str) -> dict[str, list[str]]:
        functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
        return {f.name: [a.arg for a in f.args.args] for f in functions}

    defined = arguments((ROOT / "scripts" / "pytorch_model_inference.py").read_text())
    private = {name for name in defined if name.startswith("_")} - {"_detect_file_format"}
    table = rows("contract.md", "function", "returns")
    listed = arguments("\n".join(f"def {names(cells[0])[0]}: ..." for cells in table))
    assert listed == {name: names for name, names in defined.items() if name not in private}


def test_the_folders_and_their_order():
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (order,) = [contract["layers"] for contract in layers if contract["type"] == "layers"]
    folders = {
        names(folder)[0]: torch
        for folder, _, torch in rows("architecture.md", "folder of `bsm_core`", "what it is for", "torch")
    }
    assert list(folders) == [name.strip().removeprefix("bsm_core.") for line in order for name in line.split(":")]
    assert set(folders) == {module.name for module in pkgutil.iter_modules(bsm_core.__path__)}
    light = [folder for folder, torch in folders.items() if torch != "yes"]
    imports = "; ".join(f"import bsm_core.{folder}" for folder in light)
    assert run_python(f"import sys; {imports}; print('torch' in sys.modules)") == "False"


def test_every_public_name_is_on_the_api_page():
    shown = re.findall(r"^\.\. auto\w+:: bsm_core\.(\w+)(?:\(.*\))?$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(set(bsm_core.__all__) - {"__version__"})


def test_the_table_of_public_names():
    listed = [name for cells in rows("api.md", "to", "names") for name in names(cells[1])]
    assert sorted(n for n in listed if not n.startswith("bsm_core.")) == sorted(set(bsm_core.__all__) - {"__version__"})


def test_every_public_name_has_an_example():
    code = "".join(block.body for block in blocks(DOCS / "api.md") if block.language == "pycon")
    assert [name for name in bsm_core.__all__ if not re.search(rf"\b{name}\b", code)] == ["__version__"]


@pytest.mark.checkout
@pytest.mark.parametrize(
    "page",
    sorted({*PAGES, *ROOT.glob("*.md"), *ROOT.glob("examples/*/*.md")}),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    """A link to a page leads to one of its headings, if it names one; images and tests that a page names are there."""
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), f"{target}#{heading}"
    for test in re.findall(r"\btests/[\w/]+\.py", page.read_text()):
        assert (ROOT / test).exists(), test


def anchors(page: Path) -> set[str]:
    """The names of the headings of a page, as Sphinx and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
