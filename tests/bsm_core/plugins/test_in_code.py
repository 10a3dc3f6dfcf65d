"""Components that plugins register in code: in one process, in workers, in records; and plugins that fail."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys

import pytest
from support.plugins import PACKAGES, forget_modules, run_python, write_distribution
from support.toy import CONFIG, IMPUTE, RISK_TABLES, write_toy_artifact

from bsm_core import ModelBase, Predictor, Registry, TextStep, cli
from bsm_core.artifact import save_artifact
from bsm_core.artifact.files import sha256
from bsm_core.errors import AmbiguousComponentError, ComponentLoadError, RemovedComponentError, UnknownStepError
from bsm_core.plugins.hooks import without_hooks
from bsm_core.plugins.hookspecs import Registrar
from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.provenance import components_of

NETS = """
    import os
    from bsm_core import TextStep, hookimpl

    open(os.environ["ACME_IMPORTED"], "a").write("imported ")

    class Louder(TextStep):
        def process(self, value):
            return value.upper()

    @hookimpl
    def bsm_register(registry):
        from toy_bsm_model import ToyModel

        registry.add_step("acme_louder", type("Loud", (Louder,), {}))
        for name in ("small", "middle", "large"):
            registry.add_model_class(f"acme_{name}", type(name.title(), (ToyModel,), {"__module__": __name__}))
"""
RAISES = """
    from bsm_core import hookimpl

    @hookimpl
    def bsm_register(registry):
        registry.add_step("acme_good", int)
        raise ValueError("no licence")
"""
STEP = """
    from bsm_core import TextStep, hookimpl

    class Louder(TextStep):
        def process(self, value):
            return value.upper()

    @hookimpl
    def bsm_register(registry):
        registry.add_step({name!r}, {cls})
"""


@pytest.fixture
def install(tmp_path, monkeypatch, toy_site):
    """Installs distributions with an entry point in ``bsm.v1.plugins``, for this process and those it starts."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(toy_site)]))
    monkeypatch.setenv("ACME_IMPORTED", str(tmp_path / "imported"))
    monkeypatch.delenv("BSM_PLUGINS", raising=False)

    def write(name: str, source: str, **entry_points: dict[str, str]) -> None:
        module = name.replace("-", "_")
        groups = {"plugins": {module: module}, **entry_points}
        write_distribution(site, name, {module: source}, groups, "2.0")
        importlib.invalidate_caches()
        default_registry.cache_clear()

    write.imported = (tmp_path / "imported").exists
    write.site = site
    yield write
    forget_modules(site)
    default_registry.cache_clear()


def resolve(name: str, kind: str = "step"):
    return default_registry().resolve(kind, name, where="config.x")


def write_artifact(folder, model_class: str):
    values = {**CONFIG, "model_class": model_class, "text_processing_steps": ["acme_louder", "toy_tokens"]}
    cls = default_registry().load(resolve(model_class, "model_class"), ModelBase)
    model = cls.from_config({**values, "num_classes": 2})
    return save_artifact(
        folder, config=values, state_dict=model.state_dict(), risk_tables=RISK_TABLES, impute=IMPUTE, safe_only=True
    )


# A plugin that registers three model classes works, and one that raises is named


@pytest.mark.parametrize(
    "flags", [{}, {"num_workers": "2"}, {"device": "cpu", "devices": "2"}], ids=["alone", "workers", "ranks"]
)
def test_a_plugin_that_registers_three_model_classes_in_code_works(install, data, tmp_path, flags):
    install("acme-nets", NETS)
    install("acme-bad", RAISES)
    for name in ("acme_small", "acme_middle", "acme_large")[: 1 if flags else 3]:
        artifact = write_artifact(tmp_path / name, name)
        done = data(model_dir=artifact, run_record=True, window_rows=10, **flags)
        assert done.rows == 23
        found = {c["name"]: c for c in json.loads((data.out / "run.json").read_text())["components"]}
        assert {"acme_louder", "toy_tokens", name} == set(found)
        for component, target in ((name, name.removeprefix("acme_").title()), ("acme_louder", "Loud")):
            record = found[component]
            assert (record["distribution"], record["version"]) == ("acme-nets", "2.0")
            assert record["object"] == f"acme_nets:{target}"
            assert record["source"] == sha256(install.site / "acme_nets.py")


def test_a_plugin_that_raises_is_named_where_a_name_is_missing(install):
    install("acme-nets", NETS)
    install("acme-bad", RAISES)
    with pytest.raises(UnknownStepError) as caught:
        resolve("acme_good")
    text = str(caught.value)
    assert "cannot be used: acme-bad 2.0: plugin 'acme_bad' failed in bsm_register: ValueError: no licence" in text
    assert "acme_louder" in text
    with pytest.raises(UnknownStepError) as caught:
        resolve("nothing_like_it")
    assert caught.value.fix == "acme-bad 2.0 might provide it, but cannot be used: see above"


@pytest.mark.parametrize(
    ("name", "cls", "said"),
    [
        ("Acme", "Louder", "ValueError: the name 'Acme' is not lower_snake"),
        (3, "Louder", "ValueError: the name 3 is not lower_snake"),
        ("acme_x", "Louder()", "TypeError: 'acme_x' must be a class, not a Louder"),
        ("acme_x", "Louder), registry.add_step('acme_x', Louder", "ValueError: 'acme_x' is registered twice"),
        ("acme_x", "Louder, 1", "TypeError: "),
        ("acme_x", "exit('bye')", "SystemExit: bye"),
        ("acme_named", "Louder", "ValueError: 'acme_named' is an entry point of the distribution already"),
    ],
)
def test_what_cannot_be_registered_is_said(install, name, cls, said):
    install("acme-bad", STEP.format(name=name, cls=cls), steps={"acme_named": "acme_bad:Louder"})
    with pytest.raises(UnknownStepError, match=r"acme-bad 2\.0: plugin 'acme_bad' failed in bsm_register: ") as caught:
        resolve("acme_missing")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "plugin 'acme_bad' could not be loaded: ModuleNotFoundError"),
        ("", "plugin 'acme_bad' cannot be used: it does not implement bsm_register"),
        (STEP.format(name="a", cls="Louder").replace("(registry)", "(thing)"), "cannot be used: Plugin 'acme_bad'"),
    ],
)
def test_a_plugin_that_cannot_be_called_is_said(install, source, said):
    install("acme-bad", source)
    with pytest.raises(UnknownStepError) as caught:
        resolve("acme_missing")
    assert said in str(caught.value)


def test_what_is_no_step_is_said_when_it_is_loaded(install):
    install("acme-bad", STEP.format(name="acme_x", cls="dict"))
    with pytest.raises(ComponentLoadError) as caught:
        default_registry().load(resolve("acme_x"), TextStep)
    assert caught.value.what == "text step 'acme_x' is not a subclass of TextStep"
    assert caught.value.where == "builtins:dict of acme-bad 2.0"


# Nothing is imported before it is needed


def test_a_run_whose_names_are_all_in_metadata_imports_no_such_plugin(install, data, tmp_path, monkeypatch):
    install("acme-nets", NETS, steps={"acme_named": "acme_other:Step"})
    install("acme-bad", "import os; os._exit(3)")
    data(model_dir=write_toy_artifact(tmp_path / "plain"))
    assert cli.main(["plugins"]) == 0
    assert cli.main(["plugins", "--json"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["plugins", "--help"])
    assert not install.imported()
    assert "acme_nets" not in sys.modules


def test_bsm_plugins_lists_it_as_registering_in_code(install, capsys):
    install("acme-nets", NETS)
    assert cli.main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert ["acme_nets", "plugin", "acme-nets", "2.0", "registers", "in", "code"] in [
        li.split() for li in out.splitlines()
    ]
    assert not install.imported()


def test_errors_lists_what_it_registers(install, capsys):
    install("acme-nets", NETS)
    install("acme-bad", RAISES)
    install("acme-wrong", STEP.format(name="acme_wrong", cls="dict"))
    install("acme-clash", STEP.format(name="toy_tokens", cls="Louder"))
    assert cli.main(["plugins", "--errors"]) == 0
    out = capsys.readouterr().out
    assert (
        "acme-nets 2.0: plugin 'acme_nets' registers in code: text step 'acme_louder', model class 'acme_small', "
        "model class 'acme_middle', model class 'acme_large'" in out
    )
    assert "acme-bad 2.0: plugin 'acme_bad' failed in bsm_register: ValueError: no licence (acme_bad of" in out
    assert 'raise ValueError("no licence")' in out
    assert "acme-wrong 2.0: text step 'acme_wrong' is not a subclass of TextStep" in out
    assert "acme-clash 2.0: text step 'toy_tokens', registered in code, is also provided by toy-bsm 1.0" in out


def test_what_a_hook_prints_is_no_part_of_what_a_command_prints(install, tmp_path, capsys, caplog, quiet_log):
    install("acme-nets", NETS + "        print('{not JSON')\n")
    artifact = write_artifact(tmp_path / "model", "acme_small")
    capsys.readouterr()
    default_registry.cache_clear()
    assert cli.main(["inspect", str(artifact), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert "acme-nets==2.0:acme_nets:Small" in json.dumps(described)


# Clashes, aliases, removed names


def test_two_plugins_that_register_one_name_clash(install):
    install("acme-a", STEP.format(name="acme_x", cls="Louder"))
    install("acme-b", STEP.format(name="acme_x", cls="Louder"))
    with pytest.raises(AmbiguousComponentError, match="text step 'acme_x' has 2 providers"):
        resolve("acme_x")
    assert resolve("acme-b/acme_x").origin == "acme-b==2.0:acme_b:Louder"


def test_a_name_in_metadata_is_found_without_asking_the_code(install):
    install("acme-nets", STEP.format(name="toy_tokens", cls="Louder"))
    assert resolve("toy_tokens").provider.distribution == "toy-bsm"
    assert "acme_nets" not in sys.modules
    assert resolve("acme-nets/toy_tokens").provider.distribution == "acme-nets"


def test_a_name_that_another_plugin_has_in_metadata_may_be_registered(install):
    install("acme-named", "", steps={"acme_x": "acme_named:Step"})
    install("acme-nets", STEP.format(name="acme_x", cls="Louder"))
    assert resolve("acme-nets/acme_x").origin == "acme-nets==2.0:acme_nets:Louder"


def test_an_alias_and_a_removed_name_beside_names_in_code(install):
    entry_points = {"steps": {"acme_old": "acme_x"}, "removed": {"acme_x": "acme_a:gone", "acme_gone": "acme_a:gone"}}
    install("acme-a", STEP.format(name="acme_x", cls="Louder") + "    gone = None\n", **entry_points)
    assert resolve("acme_old") == resolve("acme_x")
    with pytest.raises(RemovedComponentError):
        resolve("acme_gone")


def test_bsm_plugins_leaves_it_out(install, monkeypatch):
    install("acme-nets", NETS)
    monkeypatch.setenv("BSM_PLUGINS", "toy-bsm")
    default_registry.cache_clear()
    with pytest.raises(UnknownStepError, match=r"left out by BSM_PLUGINS: acme-nets 2\.0"):
        resolve("acme_louder")
    assert not install.imported()


# Other processes, and other registries


def test_a_registry_pickles_and_finds_them_again_elsewhere(install, tmp_path):
    install("acme-nets", NETS)
    registry = default_registry()
    component = registry.resolve("step", "acme_louder")
    assert registry.load(component, TextStep)().process("a") == "A"
    (tmp_path / "registry").write_bytes(pickle.dumps((registry, component)))
    code = """
        import pickle, sys
        from bsm_core import TextStep
        registry, component = pickle.load(open(sys.argv[1], "rb"))
        print(registry.load(component, TextStep)().process("b"), registry.resolve("step", "acme_louder") == component)
    """
    code = code.replace("sys.argv[1]", repr(str(tmp_path / "registry")))
    from support.toy import SITE

    path = (install.site, SITE, PACKAGES)
    assert run_python(code, *path, preloaded=True, ACME_IMPORTED=str(tmp_path / "imported")) == "B True"


def test_what_another_process_does_not_register_is_said(install):
    install("acme-nets", NETS)
    component = resolve("acme_louder")
    install("acme-other", STEP.format(name="acme_x", cls="Louder"))
    other = Registry([resolve("acme_x").registered_by])
    with pytest.raises(ComponentLoadError, match="text step 'acme_louder' is not registered in this process"):
        other.load(component, TextStep)


def test_a_registry_without_hooks_has_the_same_classes(install):
    install("acme-nets", NETS)
    registry = default_registry()
    component = registry.resolve("model_class", "acme_small")
    assert without_hooks(registry).load(component, ModelBase) is registry.load(component, ModelBase)


def test_a_predictor_of_the_python_api(install, tmp_path):
    install("acme-nets", NETS)
    predictor = Predictor.from_artifact(write_artifact(tmp_path / "model", "acme_large"))
    assert [c.name for c in components_of(predictor)] == ["acme_large", "acme_louder", "toy_tokens"]
    assert type(predictor.model).__name__ == "Large"


def test_a_wrapper_around_the_registration_works(install):
    wraps = """
        from bsm_core import hookimpl
        seen = []

        @hookimpl(wrapper=True)
        def bsm_register():
            seen.append("before")
            result = yield
            seen.append("after")
            return result
    """
    install("acme-wraps", wraps)
    install("acme-nets", NETS)
    assert resolve("acme_louder")
    assert sys.modules["acme_wraps"].seen == ["before", "after"]


def test_the_registrar_lists_what_was_added():
    registrar = Registrar()
    registrar.add_step("one", int)
    registrar.add_model_class("one", str)
    assert registrar.classes == {("step", "one"): int, ("model_class", "one"): str}
