"""Checks of a text step."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

from bsm_core.artifact.config import StepSpec
from bsm_core.errors import BSMError
from bsm_core.plugins.discovery import Component
from bsm_core.preprocess.pipeline import ROWS_AT_ONCE
from bsm_core.preprocess.step_params import build_step
from bsm_core.preprocess.steps import Kind, StepContext, TextStep
from bsm_core.preprocess.tracing.traced_chunks import is_traced, traced_value
from bsm_core.testing.checks import Check, CheckFailedError, Checks, CheckSkippedError, ClassSubject, load_again
from bsm_core.testing.elsewhere import ElsewhereError, elsewhere, in_a_worker
from bsm_core.testing.toys import CONFIG, toy_tokenizer

CHECKS = Checks()
UNKNOWN = "bsm_no_such_parameter"
TEXTS = (
    "Hello, lovely dress, fits well.",
    "",
    "  Two  spaces & a <b>tag</b>\n",
    "[bom] hello [eom] [bom] is it late? [eom]",
    "[customer]: where is it [agent]: on its way",
    "crème brûlée 😀 £5",
    "a" * 40,
)
"""Ordinary texts. Values of the other kinds are made from them."""


class StepSubject(ClassSubject[TextStep]):
    """A text step, built with each of its :attr:`~bsm_core.TextStep.example_params`."""

    checks = CHECKS
    base = TextStep

    @cached_property
    def steps(self) -> list[tuple[Mapping[str, Any], TextStep]]:
        """Each set of parameters with the step that is built from it."""
        return [(params, build(self.cls, params)) for params in self.cls.example_params]

    @property
    def texts(self) -> Sequence[str]:
        """Texts that the step must accept."""
        return (*self.cls.example_texts, "") if self.cls.example_texts else TEXTS

    def values(self) -> list[Any]:
        """Return values of the kind that the step takes, made from :attr:`texts`."""
        return values_of(self.cls.takes, self.texts)


def values_of(kind: Kind, texts: Sequence[str]) -> list[Any]:
    """Return values of a kind that contain texts; for the empty text, also an empty list."""
    if kind is Kind.TEXT:
        return list(texts)
    empty: list[Any] = [[] for text in texts if not text]
    if kind is Kind.ROLE_MESSAGES:
        return empty + [[{"role": "customer", "content": text}, {"role": "", "content": "hi"}] for text in texts]
    if kind is Kind.TOKENS:
        return empty + [[[2, *(3 + ord(c) % 60 for c in text[:14]), 3], [2, 3]] for text in texts]
    return empty + [[text, "hi", "and so on"] for text in texts]


def is_of_kind(kind: Kind, value: Any) -> bool:
    """Return whether a value is of a kind, nested values included."""
    if kind is Kind.TEXT:
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if kind is Kind.TOKENS:
        return all(isinstance(chunk, list) and all(type(i) is int for i in chunk) for chunk in value)
    if kind is Kind.ROLE_MESSAGES:
        return all(isinstance(m, dict) and all(isinstance(m.get(k), str) for k in ("role", "content")) for m in value)
    return all(isinstance(item, str) for item in value)


def build(cls: type[TextStep], params: Mapping[str, Any]) -> TextStep:
    """Build the step from parameters as a config has them."""
    return build_step(cls, StepSpec(cls.__name__, params), _context(cls), "example_params")


def _context(cls: type[TextStep]) -> StepContext:
    tokenizer = toy_tokenizer() if "tokenizer" in cls.uses else None
    return StepContext("text", tokenizer, {**CONFIG, "chunk_trancate": False, "max_total_chunks": 5})


def results_of(component: Component, params: Mapping[str, Any], texts: Sequence[str]) -> list[Any]:
    """Return the results of a step that is imported and built in this process."""
    cls = load_again(component, TextStep)
    return list(build(cls, params).process_batch(values_of(cls.takes, texts)))


@CHECKS.add("assign members of bsm_core.Kind to `takes` and `gives` on the class", gate=True)
def declares_its_kinds(subject: StepSubject) -> None:
    """The class declares the kinds of value that the step takes and returns."""
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
        raise CheckFailedError("example_params is empty: there are no parameters to build the step with")
    for params in subject.cls.example_params:
        try:
            if json.loads(json.dumps(params)) != params:
                raise CheckFailedError(f"example_params {params!r} change when they are written as JSON and read again")
            build(subject.cls, params)
        except BSMError as error:
            raise CheckFailedError(f"with {params!r}: {error.one_line()}") from error
        except (TypeError, ValueError) as error:
            raise CheckFailedError(f"example_params {params!r}: {error}") from error


def _try(texts: Sequence[str], subject: StepSubject, *, may_refuse: bool = False) -> None:
    """Check that each text has one result of the declared kind or, if ``may_refuse``, a ValueError or a BSMError."""
    gives = subject.cls.gives
    for params, step in subject.steps:
        for value in values_of(subject.cls.takes, texts):
            try:
                results = list(step.process_batch([value]))
            except Exception as error:
                if may_refuse and isinstance(error, ValueError | BSMError):
                    continue
                raise CheckFailedError(f"{shown(value)}: {type(error).__name__}: {error}") from error
            if len(results) != 1:
                raise CheckFailedError(f"with {params!r}: {shown(value)} has {len(results)} results")
            if not is_of_kind(gives, results[0]):
                returned = f"{shown(value)} returns {shown(results[0])}"
                raise CheckFailedError(f"with {params!r}: {returned}, which is not {gives.value}")


@CHECKS.add("return a result of the kind `gives` for the empty text: a missing text is the empty text", gate=True)
def works_on_empty_text(subject: StepSubject) -> None:
    """The empty text, which also stands for a missing text, has a result."""
    _try([""], subject)


@CHECKS.add("take no **kwargs: a misspelled parameter must be an error")
def refuses_unknown_parameters(subject: StepSubject) -> None:
    """A parameter that the step does not have is refused."""
    cls = subject.cls
    provided = _context(cls).provide(cls.uses)
    for params in cls.example_params:
        # A config cannot name such a parameter: bsm refuses it before the step is built.
        with suppress(TypeError, ValueError, BSMError):
            cls(**{**provided, **params, UNKNOWN: 1})
            raise CheckFailedError(f"{cls.__name__}({UNKNOWN}=1) is accepted")


@CHECKS.add("return the kind that `gives` declares; " + "; ".join(f"{k.value}: {k.__doc__ or k.value}" for k in Kind))
def gives_its_kind(subject: StepSubject) -> None:
    """Every result is of the kind that the step declares."""
    _try(subject.texts, subject)


_REFUSE = "return a result, or raise a ValueError that says what is wrong; bsm then scores the row as empty text"


_ODD_TEXTS = (
    ("takes_white_space", "Text of white space alone", " \t\r\n\u00a0\u2003\u3000"),
    ("takes_right_to_left_text", "Right-to-left text with direction marks", "\u202bשלום\u202c مرحبا \u200f(1)\u200e"),
    ("takes_combining_marks", "Text of combining marks", "\u0301e\u0301" + "z\u0335\u0321\u0489" * 30),
    ("takes_nul", "Text with NUL characters", "a\0b\0"),
    (
        "takes_lone_surrogates",
        "Text with half of a surrogate pair, which is not valid Unicode,",
        "half \ud83d of \udc00 it",
    ),
    ("takes_a_megabyte", "A text of 1 MB", ("a long review, <b>word</b> by word & so on.\n" * 25_000)[: 2**20]),
)
"""Name of the check, subject of the rule, and text."""
CHECKS += [
    Check(name, "MUST", f"{what} has a result or raises a ValueError.", _REFUSE, partial(_try, [text], may_refuse=True))
    for name, what, text in _ODD_TEXTS
]


@CHECKS.add("copy a list before you change it: another step, or another text field, may read it")
def leaves_its_input_alone(subject: StepSubject) -> None:
    """The step changes neither a value nor the list of values."""
    for params, step in subject.steps:
        values, before = subject.values(), subject.values()
        step.process_batch(values)
        for value in values:
            step.process(value)
        if values != before:
            raise CheckFailedError(f"with {params!r}: {shown(before)} became {shown(values)}")


@CHECKS.add(
    "let process_batch return one result for each value, in order, that depends on that value alone, as process does"
)
def batch_equals_row_by_row(subject: StepSubject) -> None:
    """A batch returns the results that its rows return one by one, in order, whatever the other rows are."""
    for params, step in subject.steps:
        fresh = build(subject.cls, params)  # a step that has processed nothing yet
        # A batch as large as in a run, with repeated values: neither may change a result.
        times = ROWS_AT_ONCE // len(subject.values()) + 1
        singly, values = [fresh.process(value) for value in subject.values()] * times, subject.values() * times
        for order, expected in ((values, singly), (values[::-1], singly[::-1])):
            got = list(step.process_batch(order))
            if len(got) != len(expected):
                raise CheckFailedError(f"with {params!r}: {len(got)} results for {len(expected)} values")
            _compare(order, expected, "alone", got, "in a batch")


@CHECKS.add("treat every str alike, whatever its type: a TracedText has the characters of the text")
def takes_traced_text(subject: StepSubject) -> str | None:
    """Text that knows where it stood in the cell, a TracedText, has the result of the plain text."""
    if subject.cls.takes is Kind.TOKENS:
        return None
    keeps = True
    for _, step in subject.steps:
        values = subject.values()
        traced = list(step.process_batch([traced_value(value) for value in values]))
        _compare(values, step.process_batch(values), "as plain text", traced, "as a TracedText")
        keeps = keeps and is_traced(traced)
    return "it keeps the places of characters" if keeps else "it loses the places of characters"


@CHECKS.add("return an empty list for an empty list")
def takes_an_empty_batch(subject: StepSubject) -> None:
    """An empty batch returns no results."""
    for _, step in subject.steps:
        if (got := list(step.process_batch([]))) != []:
            raise CheckFailedError(f"process_batch([]) returns {shown(got)}")


@CHECKS.add("depend on nothing but the value: no hash(), no order of a set, no clock, no random numbers")
def is_the_same_in_every_process(subject: StepSubject) -> None:
    """Another process, with another hash seed, returns the same results."""
    subject.require_importable()
    for params, step in subject.steps:
        _compare_elsewhere(subject, params, step.process_batch(subject.values()))


@CHECKS.add("store nothing in the step that cannot be pickled (open files, locks, lambdas), or define __reduce__")
def can_be_pickled(subject: StepSubject) -> None:
    """A pickled and unpickled step returns the same results."""
    subject.require_importable()
    if subject.component.registered_by is not None:
        raise CheckSkippedError("a class made in code cannot be pickled; bsm registers it again in every process")
    for params, step in subject.steps:
        try:
            again = pickle.loads(pickle.dumps(step))
        except Exception as error:
            raise CheckFailedError(f"with {params!r}: {type(error).__name__}: {error}") from error
        values = subject.values()
        if again.process_batch(values) != step.process_batch(values):
            raise CheckFailedError(f"with {params!r}: the unpickled step returns other results")


@CHECKS.add(
    "do not depend on the state of the main process: a worker imports the module again, and may start no process"
)
def works_in_a_spawned_worker(subject: StepSubject) -> None:
    """A spawned worker, such as a data loader's, returns the results of the process that spawns it."""
    subject.require_importable()
    for params, _ in subject.steps:
        try:
            expected = elsewhere(results_of, subject.component, params, subject.texts)
        except ElsewhereError as error:
            raise CheckSkippedError("the step fails even in another process that is not a worker") from error
        _compare_elsewhere(subject, params, expected, in_a_worker)


@CHECKS.add(
    "set `example_texts` on the class to texts that the step changes; the checks are weak where every text stays as "
    "it is",
    level="SHOULD",
)
def changes_some_text(subject: StepSubject) -> None:
    """A step from text to text changes some of the texts that the checks use."""
    if subject.cls.takes is not subject.cls.gives:
        return
    if all(step.process_batch(subject.values()) == subject.values() for _, step in subject.steps):
        raise CheckFailedError(f"none of {len(subject.texts)} texts is changed")


@CHECKS.add("set `takes` and `gives` on the class, and nowhere else: bsm checks a pipeline by them")
def refuses_a_wrong_neighbour(subject: StepSubject) -> None:
    """The step takes and returns the kinds of its class: a pipeline with another step before it is refused."""
    cls = subject.cls
    for params, step in subject.steps:
        if (step.takes, step.gives) != (cls.takes, cls.gives):
            raise CheckFailedError(
                f"with {params!r} the step takes {step.takes} and returns {step.gives}, "
                f"the class takes {cls.takes} and returns {cls.gives}"
            )


def _compare_elsewhere(subject: StepSubject, params: Mapping[str, Any], expected: Sequence[Any], *through: Any) -> None:
    """Check that another process, or a function such as ``in_a_worker`` there, returns the expected results."""
    try:
        got = elsewhere(*through, results_of, subject.component, params, subject.texts)
    except ElsewhereError as error:
        raise CheckFailedError(f"with {params!r}: {error}") from error
    _compare(subject.values(), expected, "here", got, "in the other process")


def _compare(values: Sequence[Any], expected: Sequence[Any], here: str, got: Sequence[Any], there: str) -> None:
    """Check that values have the same results in two places; the places are named in the failure."""
    for value, one, other in zip(values, expected, got, strict=True):
        if one != other:
            raise CheckFailedError(f"{shown(value)} returns {shown(one)} {here}, {shown(other)} {there}")


def shown(value: Any) -> str:
    """Return a value for messages: in ASCII, at most 120 characters."""
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
