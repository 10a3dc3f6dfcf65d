"""Discovery reads fake distributions on ``sys.path`` as it reads installed ones."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugins import on_path, run_python, write_distribution, write_plugin

from bsm_core import __version__
from bsm_core.plugins.discovery import Component, Discovered, Provider, UnusablePlugin, canonical, find

OURS = f"bsm-core {__version__} implements version 1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder that is first on the path, where a fake ``bsm`` stands in for the installed one."""
    write_plugin(tmp_path / "site", "bsm-core", {"built_in": "acme_steps:Shout"})
    with on_path(tmp_path / "site") as folder:
        yield folder


def found() -> Discovered:
    importlib.invalidate_caches()
    return find()


def components_of(distribution: str) -> list[tuple[str, str, str]]:
    return [(c.kind, c.name, c.target) for c in found().components if c.provider.distribution == distribution]


def failure_of(distribution: str) -> UnusablePlugin:
    (failure,) = [f for f in found().failures if f.provider.distribution == distribution]
    return failure


# What a good plugin is


def test_every_group_is_a_kind(site):
    entry_points = {
        "steps": {"shout": "acme.text:Shout", "loud": "shout"},
        "model_classes": {"shout": "acme.models:Net"},
        "removed": {"yell": "acme:yell"},
        "guards": {"acme_vouch": "acme.vouch"},
        "observers": {"acme_drift": "acme.drift:Hooks"},
        "plugins": {"acme_zoo": "acme.zoo"},
    }
    write_distribution(site, "Acme.Text", {}, entry_points, "2.1")
    assert components_of("Acme.Text") == [
        ("step", "shout", "acme.text:Shout"),
        ("step", "loud", "shout"),
        ("model_class", "shout", "acme.models:Net"),
        ("removed", "yell", "acme:yell"),
        ("guard", "acme_vouch", "acme.vouch"),
        ("observer", "acme_drift", "acme.drift:Hooks"),
        ("plugin", "acme_zoo", "acme.zoo"),
    ]
    own = [c for c in found().components if c.provider.distribution == "Acme.Text"]
    assert [c.alias_of for c in own] == [None, "shout", None, None, None, None, None]
    assert own[0].origin == "Acme.Text==2.1:acme.text:Shout"
    assert (str(own[0].provider), own[0].provider.location) == ("Acme.Text 2.1", str(site))
    assert {c.provider.version for c in own} == {"2.1"}
    assert found().failures == []


def test_the_extras_of_an_entry_point_are_no_part_of_its_target(site):
    write_plugin(site, "acme", {"shout": "acme:Shout [fast,loud]", "cry": "acme:Cry[fast]"})
    by_name = {c.name: (c.target, c.extras) for c in found().components}
    assert by_name["shout"] == ("acme:Shout", ("fast", "loud"))
    assert by_name["cry"] == ("acme:Cry", ("fast",))


def test_canonical_names():
    assert {canonical(name) for name in ("Acme.Text", "acme_text", "ACME--text", "acme-._text")} == {"acme-text"}


def test_other_groups_and_other_distributions_are_not_looked_at(site):
    write_distribution(site, "acme", {}, {"console.scripts": {"acme": "acme:main"}, "bsmx.v1": {"a": "b"}})
    result = found()
    assert "acme" not in {part.provider.distribution for part in [*result.components, *result.failures]}


# What is wrong with one


@pytest.mark.parametrize(
    ("group", "name", "value", "problem"),
    [
        ("steps", "Shout", "a:B", "its name is not lower_snake"),
        ("steps", "a/b", "a:B", "its name is not lower_snake"),
        ("steps", "shout", "a.B", "its value 'a.B' is neither 'module:Class' nor another name"),
        ("steps", "shout", "a:B()", "its value 'a:B()' is neither 'module:Class' nor another name"),
        ("model_classes", "net", "my models:Net", "its value 'my models:Net' is neither"),
        ("removed", "yell", "shout", "its value 'shout' is not 'module:object'"),
        ("guards", "vouch", "a b", "its value 'a b' is neither 'module' nor 'module:object'"),
        ("observers", "drift", "a:b:c", "its value 'a:b:c' is neither 'module' nor 'module:object'"),
        ("step", "shout", "a:B", "there is no such group; did you mean 'bsm.v1.steps'?"),
        ("zzzzzzzzzz", "shout", "a:B", "there is no such group; use one of bsm.v1.steps, bsm.v1.model_classes, "),
    ],
)
def test_a_wrong_entry_point_is_a_failure_and_no_more(site, group, name, value, problem):
    entry_points = {"bsm.v1.steps": {"whisper": "a:B"}}
    entry_points.setdefault(f"bsm.v1.{group}", {})[name] = value
    write_distribution(site, "acme", {}, entry_points)
    failure = failure_of("acme")
    assert failure.reason.startswith(f"entry point {name!r} of 'bsm.v1.{group}': {problem}")
    assert failure.names == (name,)
    assert components_of("acme") == [("step", "whisper", "a:B")]
    assert components_of("bsm-core") == [("step", "built_in", "acme_steps:Shout")]


def test_a_list_of_entry_points_that_cannot_be_read(site):
    info = write_distribution(site, "acme", {}, {})
    (info / "entry_points.txt").write_text("[bsm.v1.steps]\nthis is no entry point\n")
    assert failure_of("acme").provider.version == "1.0"
    assert components_of("bsm-core")


def test_a_distribution_that_has_lost_its_metadata(site):
    info = write_distribution(site, "acme", {}, {"steps": {"shout": "acme:Shout"}})
    (info / "METADATA").unlink()
    (component,) = [c for c in found().components if c.name == "shout"]
    assert component == Component("step", "shout", "acme:Shout", Provider("unknown", "0"))


def test_a_library_that_finds_distributions_in_another_way(site, monkeypatch):
    """Backport importlib_metadata raises an error where the metadata of a distribution are lost."""
    info = write_distribution(site, "acme", {}, {"steps": {"shout": "acme:Shout"}})
    (info / "METADATA").unlink()
    metadata = importlib.metadata.Distribution.metadata.fget

    def strict(distribution):
        if not distribution.read_text("METADATA"):
            raise FileNotFoundError("No package metadata was found.")
        return metadata(distribution)

    monkeypatch.setattr(importlib.metadata.Distribution, "metadata", property(strict))
    (component,) = [c for c in found().components if c.name == "shout"]
    assert component.provider == Provider("unknown", "0")


# Versions of the contract


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["bsm"], "it declares no version of the plugin contract: 'bsm' is none of 'bsm.v1.steps', "),
        (["bsm.steps"], "it declares no version of the plugin contract: 'bsm.steps' is none of "),
        (
            ["bsm.v2.steps"],
            f"it implements version 2 of the plugin contract, {OURS}: update bsm-core",
        ),
        (
            ["bsm.v2.steps", "bsm.v12.steps"],
            f"it implements version 2 and 12 of the plugin contract, {OURS}: update bsm-core",
        ),
        (
            ["bsm.v0.steps"],
            f"it implements version 0 of the plugin contract, {OURS}: update acme",
        ),
    ],
)
def test_another_version_of_the_contract(site, groups, reason):
    write_distribution(site, "acme", {}, {group: {f"shout_{i}": "acme:Shout"} for i, group in enumerate(groups)})
    failure = failure_of("acme")
    assert failure.reason.startswith(reason)
    assert failure.names == tuple(f"shout_{i}" for i in range(len(groups)))
    if "no version" in reason:
        assert failure.reason.endswith("; update acme")
    assert components_of("acme") == []


def test_a_plugin_for_hosts_of_several_versions_is_read_as_ours(site):
    entry_points = {
        "bsm": {"old_style": "acme_hooks"},
        "bsm.v1.steps": {"shout": "acme_1:Shout"},
        "bsm.v2.steps": {"shout": "acme_2:Shout", "Louder": "no target"},
    }
    write_distribution(site, "acme", {}, entry_points)
    assert components_of("acme") == [("step", "shout", "acme_1:Shout")]
    assert failure_of("acme").names == ("old_style",)  # that one is for nobody


# Twice on the path


def test_of_two_versions_on_the_path_the_first_counts_as_its_modules_do(site, tmp_path, monkeypatch):
    older = tmp_path / "older"
    write_plugin(site, "acme", {"shout": "acme_steps:Shout"}, version="2.0")
    write_plugin(older, "Acme", {"shout": "acme_steps:Shout", "gone": "acme_steps:Gone"}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    result = found()
    own = [c for c in result.components if canonical(c.provider.distribution) == "acme"]
    assert [(c.name, c.provider.version) for c in own] == [("shout", "2.0")]
    assert [(str(p), p.location) for p in result.hidden if p.distribution != "bsm-core"] == [("Acme 1.0", str(older))]
    assert result.failures == []


def test_a_version_that_is_no_plugin_any_more_hides_the_one_behind_it(site, tmp_path, monkeypatch):
    older = tmp_path / "older"
    write_distribution(site, "acme", {}, {}, "2.0")
    write_plugin(older, "acme", {"shout": "acme_steps:Shout"}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    result = found()
    assert [c for c in result.components if c.provider.distribution == "acme"] == []
    assert [str(p) for p in result.hidden if p.distribution == "acme"] == ["acme 1.0"]


@pytest.mark.parametrize("spelling", ["{0}", "{0}/../site", "{0}/", "link"])
def test_a_folder_that_is_on_the_path_twice_is_read_once(site, tmp_path, monkeypatch, spelling):
    (tmp_path / "link").symlink_to(site)
    write_plugin(site, "acme", {"shout": "acme_steps:Shout"})
    write_distribution(site, "old", {}, {"bsm": {"x": "y"}})
    again = str(tmp_path / "link") if spelling == "link" else spelling.format(site)
    monkeypatch.setattr(sys, "path", [*sys.path, again])
    result = found()
    assert [c.name for c in result.components if c.provider.distribution == "acme"] == ["shout"]
    assert len([f for f in result.failures if f.provider.distribution == "old"]) == 1
    assert [p for p in result.hidden if p.location == str(site)] == []


def test_the_working_folder_is_on_the_path_by_no_name(site, tmp_path, monkeypatch):
    write_plugin(tmp_path / "here", "acme", {"shout": "acme_steps:Shout"})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    assert components_of("acme") == [("step", "shout", "acme_steps:Shout")]


def test_two_versions_in_one_folder_are_named(site):
    write_plugin(site, "acme", {"shout": "acme:Shout"}, version="1.0")
    write_plugin(site, "acme", {"shout": "acme:Shout"}, version="2.0")
    failure = failure_of("acme")
    other = {"1.0": "2.0", "2.0": "1.0"}[failure.provider.version]
    assert failure.reason == f"acme {other} is installed in the same folder: reinstall acme"
    assert components_of("acme") == [("step", "shout", "acme:Shout")]


# No metadata of our own


@pytest.mark.parametrize(
    ("frozen", "cure"),
    [(False, "pip install bsm-core"), (True, "`pyinstaller --copy-metadata bsm-core ...`")],
    ids=["on the path", "frozen"],
)
def test_a_host_without_its_own_metadata_says_so(tmp_path, monkeypatch, frozen, cure):
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    result = found()
    assert result.components == []
    (failure,) = result.failures
    assert failure.provider == Provider("bsm-core", __version__)
    assert cure in failure.reason
    write_plugin(tmp_path, "bsm-core", {"built_in": "acme:Shout"})
    assert found().failures == []


# Weight


def test_fifty_plugins_are_listed_and_none_is_imported(tmp_path):
    for i in range(50):
        heavy = "import torch\nopen(__file__ + '.imported', 'w')"
        entry_points = {
            "steps": {f"step_{i}": f"acme_{i}:Step", f"also_{i}": f"step_{i}"},
            "model_classes": {f"net_{i}": f"acme_{i}:Net"},
            "removed": {f"gone_{i}": f"acme_{i}:gone"},
            "observers": {f"hook_{i}": f"acme_{i}"},
            "plugins": {f"zoo_{i}": f"acme_{i}"},
        }
        write_distribution(tmp_path, f"acme-{i}", {f"acme_{i}": heavy}, entry_points)
    code = """
        import json, sys
        from bsm_core.cli import main
        main(["plugins", "--json"])
        print("---")
        main(["plugins"])
        print("---")
        print([name for name in sys.modules if name.startswith("acme_") or name in ("torch", "pyarrow")])
    """
    as_json, as_text, imported = run_python(code, tmp_path).split("\n---\n")
    for kind in ("step", "also", "net", "gone", "hook", "zoo"):
        for i in range(50):
            assert f'"{kind}_{i}"' in as_json
            assert f"\n{kind}_{i} " in as_text
    assert imported == "[]"
    assert not list(tmp_path.glob("*.imported"))
