"""Entry points of the conformance kit: run all checks of a step, a model class or a distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

from bsm_core.errors import UsageError, nearest
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Named, default_registry
from bsm_core.preprocess.steps import TextStep
from bsm_core.testing.checks import Check, ClassSubject, ConformanceError, Report, Subject
from bsm_core.testing.plugin_checks import PluginSubject
from bsm_core.testing.step_checks import StepSubject
from bsm_core.testing.toys import component as toy_component

OnFail = Literal["raise"] | None


def check_text_step(step: type[TextStep] | str, *, on_fail: OnFail = "raise") -> Report:
    """Check one text step.

    Args:
        step: The class, or its registered name.
        on_fail: ``"raise"`` to raise an error where a MUST does not hold, or None to return the report in any case.

    Raises:
        ConformanceError: A MUST does not hold; the text of the error is the report.
    """
    return _reported([_subject("step", step)], on_fail)


def check_model_class(model_class: type[Any] | str, *, on_fail: OnFail = "raise") -> Report:
    """Check one model class; arguments and errors are those of :func:`check_text_step`."""
    return _reported([_subject("model_class", model_class)], on_fail)


def check_plugin(distribution: str, *, on_fail: OnFail = "raise") -> Report:
    """Check an installed distribution, and every text step and model class that it names or registers in code.

    Args:
        distribution: Name of the distribution, ``"acme-shout"``.
        on_fail: As in :func:`check_text_step`.

    Raises:
        UsageError: No plugin of that name is installed.
        ConformanceError: As in :func:`check_text_step`.
    """
    return _reported(_plugin(distribution), on_fail)


def parametrize_with_checks(*subjects: str | type[Any]) -> Callable[..., Any]:
    """Return a pytest decorator that runs a test once for each check; the test calls its argument ``check``.

    A failed MUST is a failed test whose message says how to repair the plugin. A failed SHOULD is an expected failure,
    and a check that cannot run is a skipped test; both state the reason.

    Args:
        subjects: Names of installed distributions, classes of text steps, and model classes.
    """
    import pytest

    cases = [(subject, check) for subject in _subjects(subjects) for check in subject.checks]
    ids = [f"{subject.label.replace(' ', '-')}-{check.name}" for subject, check in cases]
    return pytest.mark.parametrize("check", [partial(_test, *case) for case in cases], ids=ids)


def _test(subject: Subject, check: Check) -> None:
    """Run one check of one subject as a pytest test."""
    import pytest

    __tracebackhide__ = True
    result = subject.result(check)
    if result.status == "skipped":
        pytest.skip(result.message)
    if result.status == "failed" and check.level == "SHOULD":
        pytest.xfail(result.to_text())
    if result.status == "failed":
        raise ConformanceError(result.to_text())


def _reported(subjects: Iterable[Subject], on_fail: OnFail) -> Report:
    report = Report(tuple(result for subject in subjects for result in subject.results()))
    if on_fail == "raise" and not report.ok:
        raise ConformanceError(report.to_text())
    return report


def _subjects(names: Iterable[str | type[Any]]) -> Iterator[Subject]:
    for name in names:
        if isinstance(name, str):
            yield from _plugin(name)
        else:
            yield _subject("step" if issubclass(name, TextStep) else "model_class", name)


def _plugin(distribution: str) -> Iterator[Subject]:
    registry = default_registry()
    if any(provider.is_named(distribution) for provider in registry.blocked):
        raise UsageError(f"BSM_PLUGINS leaves out {distribution!r}", fix=f"add it: BSM_PLUGINS={distribution}")
    known = [*(c.provider for c in registry.components), *(f.provider for f in registry.failures)]
    if not any(provider.is_named(distribution) for provider in known):
        near = nearest(distribution, [provider.distribution for provider in known])
        raise UsageError(
            f"no plugin {distribution!r} is installed",
            fix=f"did you mean {near!r}?" if near else "install it, with pip install -e for example",
        )
    plugin = PluginSubject(distribution)
    yield plugin
    for component in (*plugin.components, *plugin.in_code):
        if component.kind in ("step", "model_class") and component.alias_of is None:
            yield _class_subject(component)


def _subject(kind: Named, subject: type[Any] | str) -> Subject:
    if isinstance(subject, type):
        return _class_subject(toy_component(kind, subject.__name__, subject), subject)
    found = _class_subject(default_registry().resolve(kind, subject))
    _ = found.cls  # a class that cannot be loaded is an error here, not a report of skipped checks
    return found


def _class_subject(component: Component, cls: type[Any] | None = None) -> ClassSubject[Any]:
    if component.kind == "step":
        return StepSubject(component, cls)
    from bsm_core.testing.model_checks import ModelSubject  # imports torch

    return ModelSubject(component, cls)
