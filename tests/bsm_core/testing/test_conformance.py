from __future__ import annotations

import sys

import pytest
from support import broken_models, broken_steps
from support.broken_plugins import GOOD
from support.plugins import forget_modules, run_python, write_distribution
from support.processes import python

from bsm_core.errors import UnknownStepError, UsageError
from bsm_core.plugins.registry import default_registry
from bsm_core.testing import (
    ConformanceError,
    check_model_class,
    check_plugin,
    check_text_step,
    isolated_registry,
    model_checks,
    parametrize_with_checks,
    plugin_checks,
    step_checks,
)

IN_CODE = {
    "acme-zoo": """
        from bsm_core import TextStep, hookimpl

        class Repeat(TextStep):
            times = 1

            def process(self, value):
                return value * self.times

        @hookimpl
        def bsm_register(registry):
            for name, times in (("acme_one", 2), ("acme_two", 3)):
                registry.add_step(name, type("Repeats", (Repeat,), {"times": times}))
    """,
    "acme-nets": """
        from bsm_core import hookimpl
        from bsm_core.testing.toy_model import ToyMean

        @hookimpl
        def bsm_register(registry):
            for name in ("acme_one", "acme_two"):
                class Net(ToyMean):
                    pass
                registry.add_model_class(name, Net)
    """,
}


def test_a_failure_raises_the_report():
    with pytest.raises(ConformanceError) as caught:
        check_text_step(broken_steps.TakesNul)
    assert isinstance(caught.value, AssertionError)
    assert "FAILED   MUST    takes_nul: 'a\\x00b\\x00': ZeroDivisionError" in str(caught.value)
    assert "to repair: return a result, or raise a ValueError" in str(caught.value)
    with pytest.raises(
        ConformanceError, match=r"trains_every_parameter: no gradient: old_head\.weight, old_head\.bias"
    ):
        check_model_class(broken_models.TrainsEveryParameter)


def test_a_should_that_fails_does_not_raise():
    report = check_model_class(broken_models.CanBeExported)
    assert report.counts["failed"] == 1


def test_by_registered_name():
    with isolated_registry(steps={"shout": broken_steps.Good}, model_classes={"mean": broken_models.Good}):
        assert check_text_step("shout").results[0].subject == "step shout"
        assert check_model_class("mean").results[0].subject == "model_class mean"
        with pytest.raises(UnknownStepError, match="did you mean 'shout'"):
            check_text_step("shuot")


def test_a_distribution_and_all_that_it_provides(tmp_path, monkeypatch):
    GOOD.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    default_registry.cache_clear()
    report = check_plugin("Acme")
    counted = {"plugin Acme": len(plugin_checks.CHECKS), "step acme_shout": len(step_checks.CHECKS)}
    assert {s: sum(r.subject == s for r in report.results) for s in counted} == counted
    assert len(report.results) == sum(counted.values())
    assert report.counts["failed"] == 0
    with pytest.raises(UsageError, match="no plugin 'acne' is installed"):
        check_plugin("acne")
    forget_modules(tmp_path)
    default_registry.cache_clear()


@pytest.mark.parametrize("name", IN_CODE)
def test_components_that_are_registered_in_code_are_checked(name, tmp_path, monkeypatch):
    module = name.replace("-", "_")
    write_distribution(tmp_path, name, {module: IN_CODE[name]}, {"plugins": {module: module}})
    monkeypatch.syspath_prepend(tmp_path)
    default_registry.cache_clear()
    report = check_plugin(name)
    checks = step_checks.CHECKS if name == "acme-zoo" else model_checks.CHECKS
    kind = "step" if name == "acme-zoo" else "model_class"
    assert {r.subject for r in report.results} == {f"plugin {name}", f"{kind} acme_one", f"{kind} acme_two"}
    statuses = {(r.check.name, r.status) for r in report.results if r.subject == f"{kind} acme_one"}
    skipped = "can_be_pickled" if kind == "step" else "runs_on_two_devices"
    assert {check for check, status in statuses if status != "passed"} <= {skipped}
    assert len(statuses) == len(checks)
    forget_modules(tmp_path)
    default_registry.cache_clear()


def test_the_ids_are_readable():
    mark = parametrize_with_checks(broken_steps.Good, broken_models.Good).mark
    assert mark.args[0] == "check"
    assert mark.kwargs["ids"][0] == "step-Good-declares_its_kinds"
    assert mark.kwargs["ids"][-1] == "model_class-Good-runs_on_two_devices"
    assert len(mark.kwargs["ids"]) == len(step_checks.CHECKS) + len(model_checks.CHECKS)


def test_under_pytest_nothing_is_silent(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from support import broken_models, broken_steps\n"
        "from bsm_core.testing import parametrize_with_checks\n"
        "@parametrize_with_checks(broken_steps.TakesNul, broken_models.CanBeExported)\n"
        "def test_conformance(check):\n    check()\n"
    )
    command = ["-m", "pytest", "-ra", "-p", "no:cacheprovider", "-p", "no:xdist", tmp_path]
    done = python(*command, cwd=tmp_path, env=_environment())
    assert "1 failed" in done.stdout.splitlines()[-1], done.stdout
    assert "1 xfailed" in done.stdout.splitlines()[-1]
    assert "FAILED test_mine.py::test_conformance[step-TakesNul-takes_nul]" in done.stdout
    assert "to repair: return a result" in done.stdout
    assert "XFAIL test_mine.py::test_conformance[model_class-CanBeExported-can_be_exported]" in done.stdout


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_the_kit_imports_neither_pytest_nor_torch_before_it_must():
    code = """
        import sys
        from bsm_core.testing import check_text_step
        from bsm_core.preprocess.steps import TextStep
        from support.broken_steps import Good
        check_text_step(Good)
        print(sorted({"pytest", "torch", "_pytest"} & set(sys.modules)))
    """
    from support.plugins import PACKAGES

    assert run_python(code, PACKAGES) == "[]"
