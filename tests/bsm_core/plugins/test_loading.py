"""Errors and side effects of importing a plugin, and the messages about them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugins import PACKAGES, component, on_path, run_python, write_distribution, write_plugin

from bsm_core.errors import ComponentLoadError
from bsm_core.plugins.loading import load_object
from bsm_core.plugins.registry import Registry

EXTRAS = """Provides-Extra: fast
Provides-Extra: loud
Requires-Dist: numpy
Requires-Dist: PyNumberless>=2; extra == "fast"
Requires-Dist: acme-horn; (python_version >= "3") and extra == 'loud'
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with on_path(tmp_path / "site") as folder:
        yield folder


def install(site: Path, source: str, metadata: str = "", value: str = "acme:Shout") -> None:
    write_distribution(site, "acme", {"acme": source}, {"steps": {"shout": value}}, "2.0", metadata)
    importlib.invalidate_caches()


def refusal(site: Path) -> ComponentLoadError:
    registry = Registry.discover()
    with pytest.raises(ComponentLoadError) as caught:
        load_object(registry.resolve("step", "shout"))
    assert caught.value.where.startswith("acme:Shout of acme 2.0")
    return caught.value


# Whatever an import raises


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("x = (", "SyntaxError: '(' was never closed (acme.py, line 1)"),
        ("from os import no_such_thing", "ImportError: cannot import name 'no_such_thing' from 'os'"),
        ("", "AttributeError: module 'acme' has no attribute 'Shout'"),
    ],
)
def test_a_broken_import(site, source, reason):
    install(site, source)
    error = refusal(site)
    assert error.what.startswith(f"text step 'shout' could not be loaded: {reason}")
    assert error.fix == "repair or update acme, or install the packages that it needs"
    assert type(error.__cause__).__name__ == reason.partition(":")[0]


def test_a_module_and_an_attribute_of_one(site):
    install(site, "import os")
    assert load_object(component("guard", "acme", "acme")) is sys.modules["acme"]
    assert load_object(component("guard", "acme", "acme:os")) is sys.modules["os"]


def test_what_could_not_be_loaded_can_be_once_it_is_there(site):
    install(site, "import acme_late")
    refusal(site)
    (site / "acme_late.py").write_text("")
    (site / "acme.py").write_text("Shout = 'here it is'")
    importlib.invalidate_caches()
    assert load_object(Registry.discover().resolve("step", "shout")) == "here it is"


# What it needs is not there


@pytest.mark.parametrize(
    ("lacks", "cure"),
    [
        ("numberless", "pip install 'acme[fast]'"),
        ("numberless.sub", "pip install 'acme[fast]'"),
        ("acme_horn", "pip install 'acme[loud]'"),
        (
            "spelled_otherwise",
            "install the package that provides 'spelled_otherwise' "
            "(perhaps one of the extras of acme: fast, loud), or update acme",
        ),
    ],
)
def test_a_missing_extra_is_named_as_pip_wants_it(site, lacks, cure):
    install(site, f"import {lacks}", EXTRAS)
    error = refusal(site)
    assert f"ModuleNotFoundError: No module named '{lacks.partition('.')[0]}'" in error.what
    assert error.fix == cure


def test_the_extra_that_an_entry_point_asks_for(site):
    install(site, "import spelled_otherwise", EXTRAS, "acme:Shout [loud]")
    assert refusal(site).fix == "pip install 'acme[loud]'"


@pytest.mark.parametrize("metadata", ["", "Requires-Dist: numpy\n", 'Requires-Dist: ??; extra == "x"\n'])
def test_a_missing_module_that_no_extra_brings(site, metadata):
    install(site, "import spelled_otherwise", metadata)
    assert refusal(site).fix == "install the package that provides 'spelled_otherwise', or update acme"


def test_a_component_of_no_distribution():
    with pytest.raises(ComponentLoadError, match=r"no_such_module:Shout of no-such-dist 1\.0"):
        load_object(component("step", "shout", "no_such_module:Shout", "no-such-dist"))


@pytest.mark.parametrize("target", ["acme:Shout", "acme.text:Shout"])
def test_an_entry_point_that_an_uninstalled_package_left(site, target):
    write_plugin(site, "acme", {"shout": target}, version="2.0")
    if target == "acme.text:Shout":
        (site / "acme").mkdir()
        (site / "acme/__init__.py").touch()
    with pytest.raises(ComponentLoadError) as caught:
        load_object(Registry.discover().resolve("step", "shout"))
    assert caught.value.fix == (
        f"its metadata are in {site}, its modules are not: reinstall acme, or delete its metadata"
    )


def test_modules_that_a_frozen_program_left_behind(site, monkeypatch):
    write_plugin(site, "acme", {"shout": "acme.text:Shout"}, version="2.0")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ComponentLoadError) as caught:
        load_object(Registry.discover().resolve("step", "shout"))
    assert caught.value.fix == "freeze the program again with its modules: `pyinstaller --hidden-import acme.text ...`"


# What it does meanwhile


def test_what_an_import_prints_is_a_warning_that_says_whose_it_is(site, capsys, caplog):
    install(site, "print('hello,')\nprint('  it is me', '!' * 300)\nShout = 1")
    assert load_object(Registry.discover().resolve("step", "shout")) == 1
    assert capsys.readouterr().out == ""
    (record,) = caplog.records
    assert record.getMessage().startswith("acme 2.0 prints when it is imported: hello, it is me !!!")
    assert len(record.getMessage()) < 300
    load_object(Registry.discover().resolve("step", "shout"))
    assert len(caplog.records) == 1


def test_a_stream_that_a_plugin_keeps_leads_to_standard_error(site, capsys, caplog):
    install(site, "import sys\nsys.stdout.reconfigure(line_buffering=True)\nShout = sys.stdout")
    kept = load_object(Registry.discover().resolve("step", "shout"))
    print("later", file=kept)
    assert capsys.readouterr() == ("", "later\n")
    assert caplog.records == []


STARTS = """
    import multiprocessing, sys
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("fork").Process(target=theirs.recv, daemon=True, name="acme's helper").start()
    Shout = 1
"""


def test_a_plugin_that_starts_a_process_is_named_in_a_warning(site):
    install(site, STARTS)
    code = """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
        from bsm_core.plugins.loading import load_object
        from bsm_core.plugins.registry import Registry
        found = Registry.discover().resolve("step", "shout")
        print(load_object(found), load_object(found))
    """
    warning, loaded = run_python(code, site).splitlines()
    assert warning == (
        "WARNING acme 2.0 starts processes when it is imported (acme's helper); "
        "worker processes cannot, and fail the run"
    )
    assert loaded == "1 1"


def test_in_a_worker_it_is_an_error(site):
    install(site, STARTS)
    code = """
        import multiprocessing
        from support.plugins import refused_in_worker
        from bsm_core.plugins.registry import Registry
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            print(pool.apply(refused_in_worker, [Registry.discover().resolve("step", "shout")]))
    """
    said = run_python(code, site, PACKAGES)
    assert "text step 'shout' could not be loaded: AssertionError: daemonic processes are not allowed" in said
    assert "(acme:Shout of acme 2.0)" in said
    assert "report this to the authors of acme: every worker process imports the plugin" in said
    assert "--num-workers 0" in said
