"""Hook calls through one manager, with plugins that are made here."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest
from support.plugins import component

from bsm_core import hookimpl
from bsm_core.errors import HookFailedError
from bsm_core.plugins.hook_calls import REGISTER, RUN_HOOKS, SPECS, HookCalls, implementations


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Makes a module of hooks; returns the component that names it."""

    def make(name: str, kind: str = "observer", /, **functions):
        module = types.ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
        return component(kind, name, name)

    return make


class Collecting(HookCalls):
    """Calls whose failures are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = []

    def failed(self, component, hook, error):
        self.failures.append((component.name, hook, repr(error)))


@pytest.fixture
def calls() -> Collecting:
    return Collecting()


@hookimpl
def takes_nothing():
    return {"nothing": 1}


@hookimpl
def changes(batch, probabilities):
    batch.append("changed")
    return {"length": len(batch), "probabilities": probabilities}


@hookimpl
def with_default(batch, extra=1, probabilities=None):
    assert extra == 1
    return {"length": len(batch), "probabilities": probabilities}


@hookimpl
def fails(batch):
    raise KeyError("batch")


ARGUMENTS = {"batch": lambda _: [], "probabilities": lambda c: c.name}


def test_every_implementation_gets_arguments_of_its_own_and_only_those_that_it_takes(plugin, calls):
    for name, function in (("a", changes), ("b", takes_nothing), ("c", changes), ("d", with_default)):
        calls.add(plugin(name, bsm_window_end=function))
    assert calls.call("bsm_window_end", ARGUMENTS, lambda c, result: (c.name, result)) == [
        ("d", {"length": 0, "probabilities": "d"}),
        ("c", {"length": 1, "probabilities": "c"}),
        ("b", {"nothing": 1}),
        ("a", {"length": 1, "probabilities": "a"}),
    ]
    assert [c.name for c in calls.components] == ["a", "b", "c", "d"]
    assert calls.failures == []


def test_what_one_raises_is_named_and_the_others_are_called(plugin, calls):
    for name, function in (("a", changes), ("b", fails), ("c", changes)):
        calls.add(plugin(name, bsm_window_end=function))
    assert calls.call("bsm_window_end", ARGUMENTS, lambda c, _: c.name) == ["c", "a"]
    assert calls.failures == [("b", "bsm_window_end", "KeyError('batch')")]


def test_without_a_function_that_accepts_them_results_are_dropped(plugin, calls):
    calls.add(plugin("a", bsm_window_start=changes_start))
    assert calls.call("bsm_window_start", {"batch": lambda _: []}) == []


@hookimpl
def changes_start(batch):
    return batch


def test_a_failure_that_is_raised_ends_the_call(plugin):
    class Raising(HookCalls):
        def failed(self, component, hook, error):
            raise HookFailedError(component.name) from error

    calls = Raising()
    calls.add(plugin("a", "guard", bsm_window_end=fails))
    with pytest.raises(HookFailedError, match="a") as caught:
        calls.call("bsm_window_end", ARGUMENTS)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("kind", ["guard", "observer"])
def test_hooks_of_guards_and_observers_are_those_that_see_a_run(plugin, kind):
    both = {"bsm_register": hookimpl(lambda registry: None), "bsm_window_end": takes_nothing}
    assert [hook for hook, _ in implementations(plugin("a", kind, **both))] == ["bsm_window_end"]
    assert [hook for hook, _ in implementations(plugin("b", "plugin", **both))] == [REGISTER]
    with pytest.raises(HookFailedError, match="it implements no hook") as caught:
        implementations(plugin("c", kind, bsm_register=both["bsm_register"]))
    assert caught.value.fix == f"mark a function with @hookimpl and name it {' or '.join(RUN_HOOKS)}"
    with pytest.raises(HookFailedError, match="it does not implement bsm_register"):
        implementations(plugin("d", "plugin", bsm_window_end=takes_nothing))


def test_a_hook_that_there_is_not(plugin):
    with pytest.raises(HookFailedError, match="there is no hook 'bsm_windows_end'") as caught:
        implementations(plugin("a", bsm_windows_end=takes_nothing, bsm_window_end=takes_nothing))
    assert caught.value.fix == "did you mean 'bsm_window_end'?"
    later = hookimpl(optionalhook=True)(lambda: None)
    assert len(implementations(plugin("b", bsm_in_a_later_version=later, bsm_window_end=takes_nothing))) == 1


def test_a_wrapper_must_be_a_generator_function(plugin):
    with pytest.raises(HookFailedError, match="function is not a generator function"):
        implementations(plugin("a", bsm_window_end=hookimpl(wrapper=True)(lambda: None)))


def test_the_hooks_are_those_of_the_contract():
    assert {REGISTER, *RUN_HOOKS} == set(SPECS)
