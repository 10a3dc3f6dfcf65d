"""From names to classes, with fake distributions that are found on the path as installed ones are."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugins import (
    component,
    names_of,
    on_path,
    run_python,
    step_registry,
    write_distribution,
    write_plugin,
)

from bsm_core import TextStep
from bsm_core.errors import (
    AmbiguousComponentError,
    ComponentLoadError,
    RemovedComponentError,
    UnknownModelClassError,
    UnknownStepError,
)
from bsm_core.plugins.discovery import Provider, UnusablePlugin
from bsm_core.plugins.registry import Registry, default_registry, replaced

SHOUT = """
from bsm_core import Removed, TextStep

class Shout(TextStep):
    def process(self, value):
        return value.upper()

not_a_class = 1
yell = Removed(since="2.0", instead="shout")
cry = Removed(since="2.0")
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder that is first on the path, where a fake ``bsm`` stands in for the installed one."""
    folder = tmp_path / "site"
    write_plugin(folder, "bsm-core", {"built_in": "acme_steps:Shout"})
    (folder / "acme_steps.py").write_text(SHOUT)
    with on_path(folder):
        yield folder


def discover(*allowed: str, everything: bool = True) -> Registry:
    importlib.invalidate_caches()
    return Registry.discover(None if everything else frozenset(allowed))


def test_a_good_plugin(site):
    write_plugin(site, "Acme.Text", {"shout": "acme_steps:Shout"}, version="2.1")
    registry = discover()
    found = registry.resolve("step", "shout")
    assert "acme_steps" not in sys.modules
    assert found.provider == Provider("Acme.Text", "2.1")
    assert registry.load(found, TextStep)().process("hi") == "HI"
    assert registry.resolve("step", "acme-text/shout") == found
    assert {"built_in", "shout"} <= set(registry.names("step"))
    assert "shout" not in registry.names("model_class")
    assert registry.clashes("step", "shout") == ()


def test_one_name_of_both_kinds(site):
    entry_points = {"steps": {"same_name": "a:B"}, "model_classes": {"same_name": "a:C"}}
    write_distribution(site, "acme", {}, entry_points)
    registry = discover()
    assert registry.resolve("step", "same_name").target == "a:B"
    assert registry.resolve("model_class", "same_name").target == "a:C"


def test_a_broken_plugin_does_not_take_the_others_with_it(site):
    write_distribution(site, "acme", {}, {"bsm.v9.steps": {"shout": "a:B"}})
    write_plugin(site, "zeta", {"whisper": "acme_steps:Shout"})
    registry = discover()
    assert "acme" in [f.provider.distribution for f in registry.failures]
    assert names_of(registry, "acme") == []
    assert registry.resolve("step", "whisper")
    assert registry.resolve("step", "built_in")


# Which plugins count


def test_the_allow_list_admits_nothing_else(site):
    write_plugin(site, "good-one", {"shout": "a:B"})
    write_plugin(site, "bad-one", {"whisper": "a:B"})
    write_distribution(site, "worse", {}, {"bsm": {"x": "y"}})
    registry = discover("good-one", everything=False)
    assert {"bad-one 1.0", "worse 1.0"} <= set(map(str, registry.blocked))
    assert "good-one 1.0" not in map(str, registry.blocked)
    assert registry.failures == ()
    assert registry.resolve("step", "shout")
    assert registry.resolve("step", "built_in")
    with pytest.raises(UnknownStepError) as caught:
        registry.resolve("step", "whisper")
    assert "left out by BSM_PLUGINS: bad-one 1.0" in str(caught.value)
    assert caught.value.fix == "add bad-one to the variable BSM_PLUGINS, which leaves it out"
    with pytest.raises(UnknownStepError) as caught:
        registry.resolve("step", "mumble")
    assert "or let BSM_PLUGINS admit one that it leaves out" in str(caught.value.fix)


def test_the_allow_list_names_what_is_not_installed(site):
    write_plugin(site, "Acme.Text", {"shout": "a:B"})
    registry = discover("acme-text", "acne", everything=False)
    reason = "BSM_PLUGINS names it, but no installed distribution of that name has a plugin"
    assert registry.failures == (UnusablePlugin(Provider("acne", "(not found)"), reason),)
    with pytest.raises(UnknownStepError, match=r"cannot be used: acne \(not found\): BSM_PLUGINS names it"):
        registry.resolve("step", "from_acne")


@pytest.mark.parametrize(
    ("value", "admitted"),
    [(None, True), ("", False), (" , ", False), ("other", False), ("Acme_Text", True), ("other, acme.text ,", True)],
)
def test_bsm_plugins_is_the_allow_list_of_the_process(site, monkeypatch, value, admitted):
    write_plugin(site, "acme-text", {"shout": "a:B"})
    importlib.invalidate_caches()
    if value is not None:
        monkeypatch.setenv("BSM_PLUGINS", value)
    registry = default_registry()
    assert ("shout" in registry.names("step")) is admitted
    assert "built_in" in registry.names("step")
    assert default_registry() is registry


def test_another_registry_can_be_the_processs_own_meanwhile():
    before = default_registry()
    with replaced(step_registry({"shout": "a:B"})) as nothing:
        assert nothing is None
        assert default_registry().names("step") == ["shout"]
        with replaced(step_registry({})):
            assert default_registry().names("step") == []
        assert default_registry().names("step") == ["shout"]
    assert default_registry().names("step") == before.names("step")


# Names that nobody provides


def test_an_unknown_name_says_what_is_near_and_what_there_is(site):
    write_distribution(site, "acme", {}, {"steps": {"shout": "a:B"}, "removed": {"gone": "a:gone"}})
    write_distribution(site, "broken", {}, {"bsm.v2.steps": {"louder": "b:C"}})
    registry = discover()
    with pytest.raises(UnknownStepError) as caught:
        registry.resolve("step", "shuot", where="config.text_processing_steps")
    headline, registered, broken, fix = str(caught.value).splitlines()
    assert headline == "no text step 'shuot' (config.text_processing_steps)"
    assert registered == f"  registered: {', '.join(registry.names('step'))}"
    assert broken.startswith("  cannot be used: broken 1.0: it implements version 2 of the plugin contract")
    assert fix == "  To fix: did you mean 'shout'?"
    assert "gone" not in registry.names("step")


def test_a_name_that_a_broken_plugin_has_points_to_it(site):
    write_plugin(site, "acme", {"shout": "a:B"})
    write_distribution(site, "newer", {}, {"bsm.v2.steps": {"shuot": "b:C"}})
    with pytest.raises(UnknownStepError) as caught:
        discover().resolve("step", "shuot")
    assert caught.value.fix == "newer 1.0 would provide it, but cannot be used: see above"


def test_an_unknown_name_like_no_other():
    with pytest.raises(UnknownModelClassError) as caught:
        Registry([]).resolve("model_class", "bert")
    assert str(caught.value).splitlines() == [
        "no model class 'bert'",
        "  registered: none",
        "  To fix: install the package that provides it",
    ]


def test_an_unknown_name_in_a_frozen_program(site, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(UnknownStepError) as caught:
        discover().resolve("step", "from_acme")
    assert caught.value.fix == (
        "freeze the program again with the metadata of the package that provides it (--copy-metadata)"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UnknownStepError) as caught:
        discover().resolve("step", "built_in")
    assert "`pyinstaller --copy-metadata bsm-core ...`" in caught.value.fix
    assert str(caught.value).count("--copy-metadata") == 1


def test_a_name_of_the_other_kind_is_unknown():
    registry = step_registry({"shout": "a:B"})
    with pytest.raises(UnknownModelClassError):
        registry.resolve("model_class", "shout")


def test_the_wrong_distribution_of_a_known_name():
    with pytest.raises(UnknownStepError, match="no text step 'acme/shout'"):
        step_registry({"shout": "a:B"}).resolve("step", "acme/shout")


# Names with two providers


@pytest.mark.parametrize("other", ["acme", "bsm-core"])
def test_two_providers_of_one_name_are_named_and_either_can_be_picked(site, other):
    write_plugin(site, "zeta", {"built_in": "zeta_steps:Shout", "shout": "zeta_steps:Shout"}, version="0.3")
    if other == "acme":
        write_plugin(site, "acme", {"shout": "acme_steps:Shout"})
    name = "shout" if other == "acme" else "built_in"
    registry = discover()
    with pytest.raises(AmbiguousComponentError) as caught:
        registry.resolve("step", name, where="config.x")
    text = str(caught.value)
    assert f"text step {name!r} has 2 providers (config.x)" in text
    assert f"{other}/{name}  from acme_steps:Shout of {other} 1.0" in text
    assert f"zeta/{name}  from zeta_steps:Shout of zeta 0.3" in text
    assert f"To fix: name one of them, '{other}/{name}' for example" in text
    assert registry.resolve("step", f"zeta/{name}").provider.version == "0.3"
    assert registry.resolve("step", f"{other}/{name}").target == "acme_steps:Shout"
    assert {c.provider.distribution for c in registry.clashes("step", name)} == {other, "zeta"}
    assert registry.names("step").count(name) == 1


def test_one_distribution_that_provides_a_name_twice():
    registry = Registry(component("step", "shout", f"a:B{i}", "acme") for i in (1, 2))
    with pytest.raises(AmbiguousComponentError) as caught:
        registry.resolve("step", "acme/shout")
    assert caught.value.details == ("acme/shout  from a:B1 of acme 1.0", "acme/shout  from a:B2 of acme 1.0")
    assert caught.value.fix == "update acme, which provides the name twice"


# Other names, and names that are gone


def test_an_alias_is_the_component_it_names(site):
    steps = {"shout": "acme_steps:Shout", "scream": "shout", "wail": "yell", "sob": "built_in", "a": "b", "b": "a"}
    write_distribution(site, "acme", {}, {"steps": steps, "removed": {"yell": "acme_steps:yell"}})
    write_plugin(site, "zeta", {"shout": "z:B"})
    registry = discover()
    found = registry.resolve("step", "scream")
    assert (found.name, found.target, found.provider.distribution) == ("shout", "acme_steps:Shout", "acme")
    assert registry.resolve("step", "acme/scream") == found
    assert "scream" in registry.names("step")
    with pytest.raises(RemovedComponentError, match="'yell' was removed from acme"):
        registry.resolve("step", "wail")
    for name, target in (("sob", "built_in"), ("a", "b")):
        with pytest.raises(ComponentLoadError) as caught:
            registry.resolve("step", name, where="config.x")
        assert caught.value.what == f"text step {name!r} stands for {target!r}, which acme does not provide"
        assert (caught.value.where, caught.value.fix) == (
            "config.x",
            "report this to the authors of acme, or update it",
        )


@pytest.mark.parametrize(
    ("target", "when", "cure"),
    [
        ("acme_steps:yell", " in version 2.0", "use 'shout' instead"),
        ("acme_steps:cry", " in version 2.0", "use another text step, or an older acme"),
        ("acme_steps:not_a_class", "", "use another text step, or an older acme"),
    ],
)
def test_a_removed_name(site, target, when, cure):
    write_distribution(site, "acme", {}, {"removed": {"old_step": target}})
    registry = discover()
    for name in ("old_step", "acme/old_step"):
        with pytest.raises(RemovedComponentError) as caught:
            registry.resolve("step", name, where="config.x")
        assert caught.value.what == f"text step 'old_step' was removed from acme{when}"
        assert (caught.value.where, caught.value.fix) == ("config.x", cure)
    write_plugin(site, "zeta", {"old_step": "z:B"})
    assert discover().resolve("step", "old_step").provider.distribution == "zeta"


# Loading


@pytest.mark.parametrize("target", ["acme_steps:not_a_class", "acme_steps:Removed", "pathlib:Path"])
def test_what_is_no_step(site, target):
    registry = Registry([component("step", "shout", target, "acme", "0.3")])
    with pytest.raises(ComponentLoadError) as caught:
        registry.load(registry.resolve("step", "shout"), TextStep)
    assert caught.value.what == "text step 'shout' is not a subclass of TextStep"
    assert caught.value.where == f"{target} of acme 0.3"
    assert caught.value.fix == "derive it from TextStep, or report this to the authors of acme"


# Weight, and other processes


def test_discovery_imports_neither_targets_nor_torch(site):
    write_distribution(site, "acme", {"acme_heavy": SHOUT}, {"steps": {"shout": "acme_heavy:Shout"}})
    code = """
        import sys
        from bsm_core.plugins.registry import default_registry
        registry = default_registry()
        found = registry.resolve("step", "shout")
        heavy = {"torch", "pyarrow", "pydantic", "pandas", "transformers", "acme_heavy"} & set(sys.modules)
        from bsm_core import TextStep
        registry.load(found, TextStep)
        print(sorted(heavy), "acme_heavy" in sys.modules)
    """
    assert run_python(code, site) == "[] True"


def test_importing_the_package_imports_nothing_heavy():
    code = """
        import sys, bsm_core
        heavy = {"torch", "pyarrow", "pydantic", "pandas", "numpy", "pluggy"} & set(sys.modules)
        print(sorted(heavy), bsm_core.hookimpl is not None, "torch" in sys.modules)
    """
    assert run_python(code) == "[] True False"


def test_a_registry_pickles_and_no_class_with_it(site):
    write_plugin(site, "acme", {"shout": "acme_steps:Shout"})
    registry = discover()
    registry.load(registry.resolve("step", "shout"), TextStep)
    again = pickle.loads(pickle.dumps(registry))
    assert again.components == registry.components
    assert again.resolve("step", "shout") == registry.resolve("step", "shout")
    assert len(pickle.dumps(registry)) < 20_000
