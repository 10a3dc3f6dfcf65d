"""The registry against fake distributions, found on the path as installed ones are."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugins import (
    component,
    forget_modules,
    names_of,
    plugin_source,
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
from bsm_core.registry import Failure, Provider, Registry, Removed, canonical, default_registry

SHOUT = """
    from bsm_core import TextStep

    class Shout(TextStep):
        def process(self, value):
            return value.upper()

    not_a_class = 1
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is first on the path, where a fake ``bsm`` stands in for the installed one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BSM_PLUGINS", raising=False)
    write_plugin(tmp_path, "bsm", "{'built_in': 'acme_steps:Shout'}")
    (tmp_path / "acme_steps.py").write_text("import os\n" + SHOUT.replace("\n    ", "\n"))
    default_registry.cache_clear()
    yield tmp_path
    forget_modules(tmp_path)
    default_registry.cache_clear()


def discover(*allowed: str, everything: bool = True) -> Registry:
    importlib.invalidate_caches()
    return Registry.discover(None if everything else frozenset(allowed))


def failure_of(registry: Registry, distribution: str) -> Failure:
    (failure,) = [f for f in registry.failures if f.provider.distribution == distribution]
    return failure


# Discovery


def test_a_good_plugin(site):
    write_plugin(site, "Acme.Text", "{'shout': 'acme_steps:Shout'}", version="2.1")
    registry = discover()
    found = registry.resolve("step", "shout")
    assert found.provider == Provider("Acme.Text", "2.1", "main")
    assert found.origin == "Acme.Text==2.1:acme_steps:Shout"
    assert str(found.provider) == "Acme.Text 2.1"
    assert issubclass(registry.load(found, TextStep), TextStep)
    assert registry.load(found, TextStep)().process("hi") == "HI"
    assert registry.resolve("step", "acme-text/shout") == found
    assert {"built_in", "shout"} <= set(registry.names("step"))
    assert "shout" not in registry.names("model_class")
    assert registry.clashes("step", "shout") == ()


def test_a_plugin_of_both_kinds(site):
    source = plugin_source("{'same_name': 'a:B'}") + plugin_source("{'same_name': 'a:C'}", "bsm_model_classes")
    write_distribution(site, "acme", {"acme": source}, {"both": "acme"})
    registry = discover()
    assert registry.resolve("step", "same_name").target == "a:B"
    assert registry.resolve("model_class", "same_name").target == "a:C"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("x = 1", "ValueError: it implements no hook; put @hookimpl on bsm_steps or bsm_model_classes"),
        ("def bsm_steps(): return {}", "ValueError: it implements no hook"),
        (plugin_source("{}", "bsm_step"), "ValueError: unknown hook 'bsm_step'; did you mean 'bsm_steps'?"),
        (plugin_source("{}", "bsm_model_clases"), "unknown hook 'bsm_model_clases'; did you mean 'bsm_model_classes'?"),
        (plugin_source("{}", "zzz"), "unknown hook 'zzz'; the hooks are bsm_steps, bsm_model_classes"),
        (
            plugin_source("{}").replace("()", "(extra)"),
            "PluginValidationError: Plugin 'acme:main' for hook 'bsm_steps'",
        ),
        (plugin_source("None"), "TypeError: bsm_steps gave a NoneType, not a mapping of names to targets"),
        (plugin_source("['shout']"), "TypeError: bsm_steps gave a list, not a mapping"),
        (plugin_source("1 / 0"), "ZeroDivisionError: division by zero"),
        (plugin_source("{'Shout': 'a:B'}"), "ValueError: bsm_steps: name 'Shout' is not lower_snake"),
        (plugin_source("{'a/b': 'a:B'}"), "name 'a/b' is not lower_snake"),
        (plugin_source("{3: 'a:B'}"), "name 3 is not lower_snake"),
        (plugin_source("{'shout': 'a.B'}"), "target 'a.B' of 'shout' is not 'module:Class'"),
        (plugin_source("{'shout': 'a:B()'}"), "target 'a:B()' of 'shout' is not 'module:Class'"),
        (plugin_source("{'shout': dict}"), "target of 'shout' is a type, not 'module:Class'"),
        (plugin_source("{'shout': Alias('shuot')}"), "'shout' is an alias of 'shuot', which is no component of it"),
        (plugin_source("{'a': Alias('b'), 'b': Alias('a')}"), "'a' is an alias of 'b', which is no component of it"),
        (plugin_source("{'a': Alias('built_in')}"), "'a' is an alias of 'built_in', which is no component of it"),
    ],
)
def test_a_broken_plugin_is_a_failure_and_no_more(site, source, reason):
    write_distribution(site, "acme", {"acme_broken": source}, {"main": "acme_broken"})
    write_plugin(site, "zeta", "{'whisper': 'acme_steps:Shout'}")
    registry = discover()
    failure = failure_of(registry, "acme")
    assert reason in failure.reason
    assert "\n" not in failure.reason
    assert failure.traceback.startswith("Traceback")
    assert names_of(registry, "acme") == []
    assert registry.resolve("step", "whisper")
    assert registry.resolve("step", "built_in")


@pytest.mark.parametrize("target", ["acme_missing", "acme_steps:no_such_object", "acme steps"])
def test_an_entry_point_that_leads_nowhere(site, target):
    write_distribution(site, "acme", {}, {"main": target})
    assert failure_of(discover(), "acme").provider.entry_point in ("main", "")


def test_a_hook_of_a_later_version_may_be_optional(site):
    source = plugin_source("{'shout': 'a:B'}") + plugin_source("{}", "bsm_later").replace(
        "@hookimpl", "@hookimpl(optionalhook=True)"
    )
    write_distribution(site, "acme", {"acme": source}, {"main": "acme"})
    assert names_of(discover(), "acme") == ["shout"]


def test_a_distribution_with_a_malformed_list_of_entry_points(site):
    info = write_distribution(site, "acme", {}, {})
    (info / "entry_points.txt").write_text("[bsm]\nthis is no entry point\n")
    registry = discover()
    assert failure_of(registry, "acme").provider.version == "1.0"
    assert registry.resolve("step", "built_in")


def test_a_distribution_that_has_lost_its_metadata(site):
    info = write_distribution(site, "acme", {"acme": plugin_source("{'shout': 'a:B'}")}, {"main": "acme"})
    (info / "METADATA").unlink()
    assert discover().resolve("step", "shout").provider == Provider("unknown", "0", "main")


def test_a_distribution_that_lies_on_the_path_twice_counts_once(site, monkeypatch):
    write_plugin(site, "acme", "{'shout': 'acme_steps:Shout'}", version="2.0")
    write_plugin(site / "older", "Acme", "{'shout': 'acme_steps:Shout'}", version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site / "older")])
    registry = discover()
    assert registry.resolve("step", "shout").provider.version == "2.0"
    assert registry.clashes("step", "shout") == ()


# Which plugins are loaded


def test_the_allow_list_imports_nothing_else(site):
    write_plugin(site, "good-one", "{'shout': 'a:B'}")
    write_plugin(site, "bad-one", "{'whisper': 'a:B'}")
    registry = discover("good-one", everything=False)
    assert "good_one_plugin" in sys.modules
    assert "bad_one_plugin" not in sys.modules
    assert [str(p) for p in registry.blocked] == ["bad-one 1.0"]
    assert registry.resolve("step", "shout")
    assert registry.resolve("step", "built_in")
    with pytest.raises(UnknownStepError) as caught:
        registry.resolve("step", "whisper")
    assert "left out by BSM_PLUGINS: bad-one 1.0" in str(caught.value)


def test_the_allow_list_names_what_is_not_installed(site):
    write_plugin(site, "Acme.Text", "{'shout': 'a:B'}")
    registry = discover("acme-text", "acne", everything=False)
    failure = failure_of(registry, "acne")
    assert registry.failures == (failure,)
    assert failure.reason == "BSM_PLUGINS names it, but no installed distribution of that name has a plugin"
    with pytest.raises(UnknownStepError, match=r"could not load: acne \(not found\): BSM_PLUGINS names it"):
        registry.resolve("step", "from_acne")


@pytest.mark.parametrize(
    ("value", "loaded"),
    [(None, True), ("", False), (" , ", False), ("other", False), ("Acme_Text", True), ("other, acme.text ,", True)],
)
def test_bsm_plugins_is_the_allow_list_of_the_process(site, monkeypatch, value, loaded):
    write_plugin(site, "acme-text", "{'shout': 'a:B'}")
    importlib.invalidate_caches()
    if value is not None:
        monkeypatch.setenv("BSM_PLUGINS", value)
    registry = default_registry()
    assert ("shout" in registry.names("step")) is loaded
    assert ("acme_text_plugin" in sys.modules) is loaded
    assert "built_in" in registry.names("step")
    assert default_registry() is registry


def test_blocked_plugins_are_not_imported_in_a_fresh_process(site):
    marker = site / "imported"
    source = f"open({str(marker)!r}, 'w')\n" + plugin_source("{'shout': 'a:B'}")
    write_distribution(site, "acme", {"acme": source}, {"main": "acme"})
    code = "from bsm_core.registry import default_registry; print('shout' in default_registry().names('step'))"
    assert run_python(code, site, BSM_PLUGINS="") == "False"
    assert not marker.exists()
    assert run_python(code, site, BSM_PLUGINS="acme") == "True"
    assert marker.exists()


def test_canonical_names():
    assert {canonical(name) for name in ("Acme.Text", "acme_text", "ACME--text", "acme-._text")} == {"acme-text"}


# Resolution


def test_an_unknown_name_says_what_is_near_and_what_there_is(site):
    write_plugin(site, "acme", "{'shout': 'a:B', 'gone': Removed('1.0')}")
    write_distribution(site, "broken", {"broken_plugin": "import no_such_module"}, {"main": "broken_plugin"})
    registry = discover()
    with pytest.raises(UnknownStepError) as caught:
        registry.resolve("step", "shuot", where="config.text_processing_steps")
    assert str(caught.value).splitlines() == [
        "no text step 'shuot' (config.text_processing_steps)",
        f"  registered: {', '.join(registry.names('step'))}",
        "  could not load: broken 1.0: ModuleNotFoundError: No module named 'no_such_module'    (bsm plugins --errors)",
        "  To fix: did you mean 'shout'?",
    ]
    assert "gone" not in registry.names("step")


def test_an_unknown_name_like_no_other():
    with pytest.raises(UnknownModelClassError) as caught:
        Registry([]).resolve("model_class", "bert")
    assert "no model class 'bert'" in str(caught.value)
    assert "registered: none" in str(caught.value)
    assert "install the package that provides it" in str(caught.value)


def test_a_name_of_the_other_kind_is_unknown():
    registry = step_registry({"shout": "a:B"})
    with pytest.raises(UnknownModelClassError):
        registry.resolve("model_class", "shout")


@pytest.mark.parametrize("other", ["acme", "bsm"])
def test_two_providers_of_one_name_are_named_and_either_can_be_picked(site, other):
    write_plugin(site, "zeta", "{'built_in': 'zeta_steps:Shout', 'shout': 'zeta_steps:Shout'}", version="0.3")
    if other == "acme":
        write_plugin(site, "acme", "{'shout': 'acme_steps:Shout'}")
    name = "shout" if other == "acme" else "built_in"
    registry = discover()
    with pytest.raises(AmbiguousComponentError) as caught:
        registry.resolve("step", name, where="config.x")
    text = str(caught.value)
    assert f"text step {name!r} has 2 providers (config.x)" in text
    assert f"{other}/{name}  from {other} 1.0, entry point 'main'" in text
    assert f"zeta/{name}  from zeta 0.3, entry point 'main'" in text
    assert f"To fix: name one of them, '{other}/{name}' for example" in text
    assert registry.resolve("step", f"zeta/{name}").provider.version == "0.3"
    assert registry.resolve("step", f"{other}/{name}").target == "acme_steps:Shout"
    assert {c.provider.distribution for c in registry.clashes("step", name)} == {"zeta", other}
    assert registry.names("step").count(name) == 1
    # nothing was loaded to find that out
    assert "zeta_steps" not in sys.modules


def test_one_distribution_that_provides_a_name_twice(site):
    modules = {f"acme_{i}": plugin_source(f"{{'shout': 'a:B{i}'}}") for i in (1, 2)}
    write_distribution(site, "acme", modules, {"one": "acme_1", "two": "acme_2"})
    with pytest.raises(AmbiguousComponentError) as caught:
        discover().resolve("step", "acme/shout")
    assert "entry point 'one'" in str(caught.value)
    assert "entry point 'two'" in str(caught.value)
    assert "uninstall or update acme, which provides it twice" in str(caught.value)


def test_the_wrong_distribution_of_a_known_name():
    with pytest.raises(UnknownStepError, match="no text step 'acme/shout'"):
        step_registry({"shout": "a:B"}).resolve("step", "acme/shout")


def test_an_alias_is_the_component_it_names(site):
    write_plugin(site, "acme", "{'shout': 'a:B', 'yell': Alias('shout'), 'cry': Alias('gone'), 'gone': Removed('2.0')}")
    write_plugin(site, "zeta", "{'shout': 'z:B'}")
    registry = discover()
    found = registry.resolve("step", "yell")
    assert (found.name, found.target, found.provider.distribution) == ("shout", "a:B", "acme")
    assert registry.resolve("step", "acme/yell") == found
    assert "yell" in registry.names("step")
    with pytest.raises(RemovedComponentError):
        registry.resolve("step", "cry")


@pytest.mark.parametrize(
    ("tombstone", "cure"), [(Removed("2.0", "new_step"), "use 'new_step' instead"), (Removed("2.0"), None)]
)
def test_a_removed_name(tombstone, cure):
    with pytest.raises(RemovedComponentError) as caught:
        step_registry({"old_step": tombstone}).resolve("step", "old_step", where="config.x")
    assert caught.value.what == "text step 'old_step' was removed from fake in version 2.0"
    assert (caught.value.where, caught.value.fix) == ("config.x", cure)


# Loading


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:Shout", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("acme_steps:Shuot", "AttributeError: module 'acme_steps' has no attribute 'Shuot'"),
        ("acme_exits:Shout", "SystemExit: 3"),
        ("acme_needs:Shout", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("acme_steps:not_a_class", "is not a subclass of TextStep"),
        ("acme_steps:os", "is not a subclass of TextStep"),
        ("pathlib:Path", "is not a subclass of TextStep"),
    ],
)
def test_a_target_that_does_not_load(site, target, message):
    (site / "acme_exits.py").write_text("raise SystemExit(3)")
    (site / "acme_needs.py").write_text("import no_such_dependency")
    registry = Registry([component("step", "shout", target, "acme", "0.3")])
    with pytest.raises(ComponentLoadError) as caught:
        registry.load(registry.resolve("step", "shout"), TextStep)
    assert message in str(caught.value)
    assert caught.value.where == f"{target} of acme 0.3"
    assert "'shout'" in caught.value.what
    assert "acme" in caught.value.fix
    if "Error" in message:
        assert message.startswith(type(caught.value.__cause__).__name__)


def test_a_load_error_may_be_followed_by_a_good_load(site):
    registry = step_registry({"shout": "acme_late:Shout"})
    with pytest.raises(ComponentLoadError):
        registry.load(registry.resolve("step", "shout"), TextStep)
    (site / "acme_late.py").write_text(SHOUT.replace("\n    ", "\n"))
    importlib.invalidate_caches()
    assert registry.load(registry.resolve("step", "shout"), TextStep)().process("a") == "A"


# Weight


def test_discovery_imports_neither_targets_nor_torch(site):
    write_distribution(
        site, "acme", {"acme": plugin_source("{'shout': 'acme_heavy:Shout'}"), "acme_heavy": SHOUT}, {"main": "acme"}
    )
    code = """
        import sys
        from bsm_core.registry import default_registry
        registry = default_registry()
        found = registry.resolve("step", "shout")
        heavy = {"torch", "pyarrow", "pydantic", "pandas", "transformers", "acme_heavy"} & set(sys.modules)
        from bsm_core import TextStep
        registry.load(found, TextStep)
        print("acme" in sys.modules, sorted(heavy), "acme_heavy" in sys.modules)
    """
    assert run_python(code, site) == "True [] True"


def test_importing_the_package_imports_nothing_heavy():
    code = """
        import sys, bsm_core
        heavy = {"torch", "pyarrow", "pydantic", "pandas", "numpy", "pluggy"} & set(sys.modules)
        print(sorted(heavy), bsm_core.hookimpl is not None, "torch" in sys.modules)
    """
    assert run_python(code) == "[] True False"


def test_a_registry_pickles(site):
    write_plugin(site, "acme", "{'shout': 'acme_steps:Shout'}")
    registry = discover()
    again = pickle.loads(pickle.dumps(registry))
    assert again.components == registry.components
    assert again.resolve("step", "shout") == registry.resolve("step", "shout")
