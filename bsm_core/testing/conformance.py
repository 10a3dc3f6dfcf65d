"""The kit's front: run all checks of a step, a model class or a whole distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from bsm_core.errors import UsageError, nearest
from bsm_core.plugins.discovery import Component, canonical
from bsm_core.plugins.registry import Named, Registry, default_registry
from bsm_core.preprocess.steps import TextStep
from bsm_core.testing.checks import Check, ConformanceError, Report, Subject
from bsm_core.testing.plugin_checks import PluginSubject
from bsm_core.testing.step_checks import StepSubject

OnFail = Literal["raise"] | None


def check_text_step(step: type[TextStep] | str, *, on_fail: OnFail = "raise") -> Report:
    """Check one text step.

    Args:
        step: The class, or its registered name.
        on_fail: ``"raise"``, or None to get the report whatever it says.

    Raises:
        ConformanceError: Something that MUST hold does not; its text is the report.
    """
    return _reported([_step(step)], on_fail)


def check_model_class(model_class: type[Any] | str, *, on_fail: OnFail = "raise") -> Report:
    """Check one model class; arguments and errors are those of :func:`check_text_step`."""
    return _reported([_model_class(model_class)], on_fail)


def check_plugin(distribution: str, *, on_fail: OnFail = "raise") -> Report:
    """Check an installed distribution, and every step and model class that it provides.

    Args:
        distribution: Its name, ``"acme-shout"``.
        on_fail: As in :func:`check_text_step`.

    Raises:
        UsageError: No plugin of that name is installed.
        ConformanceError: As in :func:`check_text_step`.
    """
    return _reported(_plugin(distribution), on_fail)


def parametrize_with_checks(*subjects: str | type[Any]) -> Callable[..., Any]:
    """A pytest decorator: the test is run once a check, which it gets as ``check`` and calls.

    A check that fails is a failed test, which says how to repair the plugin. A SHOULD that fails is an expected
    failure, and what cannot be looked at here a skipped test; both give their reasons.

    Args:
        subjects: Names of installed distributions, classes of text steps, and model classes.
    """
    import pytest

    cases = [(subject, check) for subject in _subjects(subjects) for check in subject.checks]
    ids = [f"{subject.label.replace(' ', '-')}-{check.name}" for subject, check in cases]
    return pytest.mark.parametrize("check", [_Case(subject, check) for subject, check in cases], ids=ids)


class _Case:
    """One check of one subject, as a pytest parameter."""

    def __init__(self, subject: Subject, check: Check) -> None:
        self._subject, self._check = subject, check

    def __call__(self) -> None:
        import pytest

        __tracebackhide__ = True
        result = self._subject.result(self._check)
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed" and self._check.level == "SHOULD":
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
            yield _step(name) if issubclass(name, TextStep) else _model_class(name)


def _plugin(distribution: str) -> Iterator[Subject]:
    registry = default_registry()
    if canonical(distribution) in {canonical(provider.distribution) for provider in registry.blocked}:
        raise UsageError(f"BSM_PLUGINS leaves out {distribution!r}", fix=f"add it: BSM_PLUGINS={distribution}")
    known = {c.provider.distribution for c in registry.components} | {
        f.provider.distribution for f in registry.failures
    }
    if canonical(distribution) not in map(canonical, known):
        near = nearest(distribution, known)
        raise UsageError(
            f"no plugin {distribution!r} is installed",
            fix=f"did you mean {near!r}?" if near else "install it, with pip install -e for example",
        )
    yield PluginSubject(distribution)
    for component in registry.components:
        if canonical(component.provider.distribution) == canonical(distribution) and component.alias_of is None:
            if component.kind == "step":
                yield StepSubject(_loader(registry, component), f"step {component.name}")
            elif component.kind == "model_class":
                yield _model_subject(_loader(registry, component), f"model_class {component.name}")


def _step(step: type[TextStep] | str) -> Subject:
    if isinstance(step, str):
        load = _resolver("step", step)
        load()  # what cannot be loaded is an error here, and not a report of what was skipped
        return StepSubject(load, f"step {step}")
    return StepSubject(lambda: step, f"step {step.__name__}")


def _model_class(model_class: type[Any] | str) -> Subject:
    if isinstance(model_class, str):
        load = _resolver("model_class", model_class)
        load()
        return _model_subject(load, f"model_class {model_class}")
    return _model_subject(lambda: model_class, f"model_class {model_class.__name__}")


def _model_subject(load: Callable[[], type[Any]], label: str) -> Subject:
    from bsm_core.testing.model_checks import ModelSubject  # which imports torch

    return ModelSubject(load, label)


def _resolver(kind: Named, name: str) -> Callable[[], type[Any]]:
    registry = default_registry()
    return _loader(registry, registry.resolve(kind, name))


def _loader(registry: Registry, component: Component) -> Callable[[], type[Any]]:
    def load() -> type[Any]:
        if component.kind == "step":
            return registry.load(component, TextStep)
        from bsm_core.models.base import ModelBase

        return registry.load(component, ModelBase)

    return load
