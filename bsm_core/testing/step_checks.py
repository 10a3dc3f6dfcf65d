"""What a text step must do."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from bsm_core.errors import BSMError, PipelineError
from bsm_core.preprocess.pipeline import ROWS_AT_ONCE, fit_of
from bsm_core.preprocess.steps import Kind, TextStep
from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError
from bsm_core.testing.elsewhere import ElsewhereError, elsewhere
from bsm_core.testing.step_subject import StepSubject as StepSubject
from bsm_core.testing.step_subject import build, is_of_kind, provided, results_in_a_worker, results_in_here, shown

CHECKS = Checks()
StepSubject.checks = CHECKS
UNKNOWN = "bsm_no_such_parameter"


@CHECKS.add("make takes and gives members of bsm_core.Kind, on the class", gate=True)
def declares_its_kinds(subject: StepSubject) -> None:
    """The class says which kinds of value it takes and gives."""
    for name in ("takes", "gives"):
        if not isinstance(kind := getattr(subject.cls, name), Kind):
            raise CheckFailedError(f"{name} is {kind!r}")


@CHECKS.add(
    "give every parameter a default, name it in `uses` where the artifact provides it, or set `example_params` to"
    " parameters that JSON can hold",
    gate=True,
)
def is_built_from_json(subject: StepSubject) -> None:
    """The step is built from parameters that a JSON config can hold."""
    if not subject.cls.example_params:
        raise CheckFailedError("example_params is empty: the step cannot be built with anything")
    for params in subject.cls.example_params:
        try:
            same = json.loads(json.dumps(params)) == params
        except (TypeError, ValueError) as error:
            raise CheckFailedError(f"example_params {params!r}: {error}") from error
        if not same:
            raise CheckFailedError(f"example_params {params!r} come back from JSON as something else")
        try:
            build(subject.cls, params)
        except BSMError as error:
            raise CheckFailedError(f"with {params!r}: {error.one_line()}") from error


def _hostile(text: str, subject: StepSubject, *, may_refuse: bool = True) -> None:
    for params, step in subject.steps:
        for value in subject.values([text]):
            try:
                _one(step, value, params)
            except CheckFailedError:
                raise
            except (ValueError, BSMError) as error:
                if not may_refuse:
                    raise CheckFailedError(f"{shown(value)}: {type(error).__name__}: {error}") from error
            except Exception as error:
                raise CheckFailedError(f"{shown(value)}: {type(error).__name__}: {error}") from error


@CHECKS.add("give a result for no text, of the kind that `gives` says: a missing text is empty text", gate=True)
def works_on_empty_text(subject: StepSubject) -> None:
    """Empty text, which missing text is too, gives a result."""
    _hostile("", subject, may_refuse=False)


@CHECKS.add("take no **kwargs: a parameter that is misspelled must be an error and not be lost")
def refuses_unknown_parameters(subject: StepSubject) -> None:
    """A parameter that the step does not know is refused, by name."""
    for params in subject.cls.example_params:
        try:
            subject.cls(**{**provided(subject.cls), **params, UNKNOWN: 1})
        except (TypeError, ValueError, BSMError):
            pass
        else:
            raise CheckFailedError(f"{subject.cls.__name__}({UNKNOWN}=1) is accepted")
        try:
            build(subject.cls, {**params, UNKNOWN: 1})
        except BSMError as error:
            if UNKNOWN not in str(error):
                raise CheckFailedError(f"in a config it is refused, but not by name: {error.one_line()}") from error
        else:
            raise CheckFailedError("in a config it is accepted")


@CHECKS.add("give what `gives` says: " + "; ".join(f"{k.value}: {k.__doc__ or k.value}" for k in Kind))
def gives_its_kind(subject: StepSubject) -> None:
    """Every result is of the kind that the step gives."""
    for params, step in subject.steps:
        for value in subject.values():
            _one(step, value, params)


_REFUSE = "give a result, or raise a ValueError that says what cannot be used; the row is then scored as empty text"


@CHECKS.add(_REFUSE)
def takes_white_space(subject: StepSubject) -> None:
    """Text of white space alone gives a result or a ValueError."""
    _hostile(" \t\r\n\u00a0\u2003\u3000", subject)


@CHECKS.add(_REFUSE)
def takes_right_to_left_text(subject: StepSubject) -> None:
    """Right-to-left text, with its marks, gives a result or a ValueError."""
    _hostile("\u202bשלום\u202c مرحبا \u200f(1)\u200e", subject)


@CHECKS.add(_REFUSE)
def takes_combining_marks(subject: StepSubject) -> None:
    """Text of combining marks gives a result or a ValueError."""
    _hostile("\u0301e\u0301" + "z\u0335\u0321\u0489" * 30, subject)


@CHECKS.add(_REFUSE)
def takes_nul(subject: StepSubject) -> None:
    """Text with NUL characters gives a result or a ValueError."""
    _hostile("a\0b\0", subject)


@CHECKS.add(_REFUSE)
def takes_lone_surrogates(subject: StepSubject) -> None:
    """Text with half of a surrogate pair, which is no Unicode text, gives a result or a ValueError."""
    _hostile("half \ud83d of \udc00 it", subject)


@CHECKS.add(_REFUSE)
def takes_a_megabyte(subject: StepSubject) -> None:
    """A text of 1 MB gives a result or a ValueError."""
    _hostile(("a long review, <b>word</b> by word & so on.\n" * 25_000)[: 2**20], subject)


@CHECKS.add("copy a list before you change it: another step, or another text field, may read it")
def leaves_its_input_alone(subject: StepSubject) -> None:
    """Neither a value nor the list of values is changed."""
    for params, step in subject.steps:
        values = subject.values()
        before = copy.deepcopy(values)
        step.process_batch(values)
        for value in values:
            step.process(value)
        if values != before:
            raise CheckFailedError(f"with {params!r}: {shown(before)} became {shown(values)}")


@CHECKS.add(
    "let process_batch give one result for each value, in order, that depends on that value alone, as process does"
)
def batch_equals_row_by_row(subject: StepSubject) -> None:
    """A batch gives what its rows give one by one, in order, whatever stands beside them."""
    for params, step in subject.steps:
        fresh = build(subject.cls, params)  # it has seen nothing else
        # As many as a run gives it, and some of them again: neither may matter.
        times = ROWS_AT_ONCE // len(subject.values()) + 1
        singly, values = [fresh.process(value) for value in subject.values()] * times, subject.values() * times
        for order in (values, values[::-1]):
            got = list(step.process_batch(order))
            wanted = singly if order is values else singly[::-1]
            if len(got) != len(wanted):
                raise CheckFailedError(f"with {params!r}: {len(got)} results for {len(wanted)} values")
            for value, one, other in zip(order, wanted, got, strict=True):
                if one != other:
                    raise CheckFailedError(f"{shown(value)} alone gives {shown(one)}, in a batch {shown(other)}")


@CHECKS.add("return an empty list for an empty list")
def takes_an_empty_batch(subject: StepSubject) -> None:
    """No values give no results."""
    for _, step in subject.steps:
        if (got := list(step.process_batch([]))) != []:
            raise CheckFailedError(f"process_batch([]) gives {shown(got)}")


@CHECKS.add("depend on nothing but the value: no hash(), no order of a set, no clock, no random numbers")
def is_the_same_in_every_process(subject: StepSubject) -> None:
    """Another process, with another hash seed, gives the same results."""
    for arguments, (params, step) in zip(_by_name(subject), subject.steps, strict=True):
        try:
            there = elsewhere(results_in_here, *arguments)
        except ElsewhereError as error:
            raise CheckFailedError(f"with {params!r}: {error}") from error
        _compare(subject, step.process_batch(subject.values()), there)


@CHECKS.add("keep nothing in the step that cannot be pickled: open files, locks, lambdas; or define __reduce__")
def can_be_pickled(subject: StepSubject) -> None:
    """A pickled step comes back and gives the same results."""
    _by_name(subject)  # a class that is found nowhere cannot be pickled, and says nothing of the step
    for params, step in subject.steps:
        try:
            again = pickle.loads(pickle.dumps(step))
        except Exception as error:
            raise CheckFailedError(f"with {params!r}: {type(error).__name__}: {error}") from error
        values = subject.values()
        if again.process_batch(values) != step.process_batch(values):
            raise CheckFailedError(f"with {params!r}: it gives other results when it is back")


@CHECKS.add(
    "do not rely on what the main process has set up: a worker imports the module anew, and may start no process"
)
def works_in_a_spawned_worker(subject: StepSubject) -> None:
    """A worker that is spawned, as the data loader's are, gives the results of the process that spawns it."""
    for arguments in _by_name(subject):
        try:
            wanted = elsewhere(results_in_here, *arguments)
        except ElsewhereError as error:
            raise CheckSkippedError("it does not even work in another process that is no worker") from error
        try:
            _compare(subject, wanted, elsewhere(results_in_a_worker, *arguments))
        except ElsewhereError as error:
            raise CheckFailedError(f"with {arguments[2]!r}: {error}") from error


@CHECKS.add(
    "set `example_texts` on the class to texts that it changes: where all stay as they are, nothing else was tried",
    level="SHOULD",
)
def changes_some_text(subject: StepSubject) -> None:
    """Of the texts that the checks use, a step from text to text changes some."""
    if subject.cls.takes is not subject.cls.gives:
        return
    if all(step.process_batch(subject.values()) == subject.values() for _, step in subject.steps):
        raise CheckFailedError(f"none of {len(subject.texts)} texts is changed")


@CHECKS.add("set `takes` and `gives` on the class, and nowhere else: a pipeline is checked by them")
def refuses_a_wrong_neighbour(subject: StepSubject) -> None:
    """A step whose result is of another kind than this one takes is refused when the pipeline is built."""
    takes, gives = subject.cls.takes, subject.cls.gives
    for params, step in subject.steps:
        for kind in Kind:
            each = takes is gives is Kind.TEXT and kind in (Kind.MESSAGES, Kind.CHUNKS)
            wrap = kind is Kind.TEXT and takes in (Kind.MESSAGES, Kind.CHUNKS)
            try:
                fit_of(kind, "the step before", "this step", step, "config")
                accepted = True
            except PipelineError:
                accepted = False
            if accepted != (takes is kind or each or wrap):
                said = "accepts" if accepted else "refuses"
                raise CheckFailedError(
                    f"with {params!r} it {said} a neighbour that gives {kind.value}, the class takes {takes.value}"
                )


def _by_name(subject: StepSubject) -> list[tuple[str, str, Mapping[str, Any], Sequence[str]]]:
    """What another process needs to know, for each set of parameters."""
    cls = subject.cls
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise CheckSkippedError(f"{cls.__qualname__} is defined where no other process finds it: put it into a module")
    return [(cls.__module__, cls.__qualname__, params, subject.texts) for params, _ in subject.steps]


def _compare(subject: StepSubject, wanted: Sequence[Any], got: Sequence[Any]) -> None:
    for value, one, other in zip(subject.values(), wanted, got, strict=True):
        if one != other:
            raise CheckFailedError(f"{shown(value)} gives {shown(one)} here, {shown(other)} there")


def _one(step: TextStep, value: Any, params: Mapping[str, Any]) -> None:
    """The result of one value, as the host asks for it, is of the step's kind."""
    results = list(step.process_batch([value]))
    if len(results) != 1:
        raise CheckFailedError(f"with {params!r}: {shown(value)} gives {len(results)} results")
    for result in results:
        if not is_of_kind(type(step).gives, result):
            raise CheckFailedError(
                f"with {params!r}: {shown(value)} gives {shown(result)}, no {type(step).gives.value}"
            )
