"""What a text step must do."""

from __future__ import annotations

import copy
import importlib
import json
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

from bsm_core.config import StepSpec
from bsm_core.errors import BSMError, PipelineError, PluginError
from bsm_core.steps import ROWS_AT_ONCE, Kind, StepContext, TextStep, build_step, fit_of
from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError, Subject
from bsm_core.testing.elsewhere import SECONDS, ElsewhereError, elsewhere
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
"""Ordinary texts, from which values of the other kinds are made."""


class StepSubject(Subject):
    """A text step, built with each of its :attr:`~bsm_core.TextStep.example_params`.

    Args:
        load: Gives the class.
        label: What the report calls it.
    """

    checks = CHECKS

    def __init__(self, load: Callable[[], type[TextStep]], label: str) -> None:
        super().__init__()
        self._load = load
        self.label = label

    @cached_property
    def cls(self) -> type[TextStep]:
        """The class."""
        return self._load()

    @cached_property
    def unavailable(self) -> str | None:
        """Why the class cannot be loaded, where that is so; the check of its distribution says it as well."""
        try:
            _ = self.cls
        except PluginError as error:
            return f"it cannot be loaded: {error.one_line()}"
        return None

    @cached_property
    def steps(self) -> list[tuple[Mapping[str, Any], TextStep]]:
        """The step with each set of parameters."""
        return [(params, _build(self.cls, params)) for params in self.cls.example_params]

    @property
    def texts(self) -> Sequence[str]:
        """Texts that it can be expected to take."""
        return (*self.cls.example_texts, "") if self.cls.example_texts else TEXTS

    def values(self, texts: Sequence[str] | None = None) -> list[Any]:
        """Values of the kind that it takes; of :attr:`texts` where None."""
        texts = self.texts if texts is None else texts
        return [value for text in texts for value in values_of(self.cls.takes, text)]


def values_of(kind: Kind, text: str) -> Iterator[Any]:
    """Values of a kind that hold a text; of empty text also a list of nothing."""
    if kind is Kind.TEXT:
        yield text
        return
    if not text:
        yield []
    if kind is Kind.ROLE_MESSAGES:
        yield [{"role": "customer", "content": text}, {"role": "", "content": "hi"}]
    elif kind is Kind.TOKENS:
        yield [[2, *(3 + ord(c) % 60 for c in text[:14]), 3], [2, 3]]
    else:
        yield [text, "hi", "and so on"]


def _is(kind: Kind, value: Any) -> bool:
    """Whether a value is of a kind, to its depth."""
    if kind is Kind.TEXT:
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if kind is Kind.TOKENS:
        return all(isinstance(chunk, list) and all(type(i) is int for i in chunk) for chunk in value)
    if kind is Kind.ROLE_MESSAGES:
        return all(isinstance(m, dict) and all(isinstance(m.get(k), str) for k in ("role", "content")) for m in value)
    return all(isinstance(item, str) for item in value)


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
            _build(subject.cls, params)
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
                    raise CheckFailedError(f"{_shown(value)}: {type(error).__name__}: {error}") from error
            except Exception as error:
                raise CheckFailedError(f"{_shown(value)}: {type(error).__name__}: {error}") from error


@CHECKS.add("give a result for no text, of the kind that `gives` says: a missing text is empty text", gate=True)
def works_on_empty_text(subject: StepSubject) -> None:
    """Empty text, which missing text is too, gives a result."""
    _hostile("", subject, may_refuse=False)


@CHECKS.add("take no **kwargs: a parameter that is misspelled must be an error and not be lost")
def refuses_unknown_parameters(subject: StepSubject) -> None:
    """A parameter that the step does not know is refused, by name."""
    for params in subject.cls.example_params:
        try:
            subject.cls(**{**_provided(subject.cls), **params, UNKNOWN: 1})
        except (TypeError, ValueError, BSMError):
            pass
        else:
            raise CheckFailedError(f"{subject.cls.__name__}({UNKNOWN}=1) is accepted")
        try:
            _build(subject.cls, {**params, UNKNOWN: 1})
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
            raise CheckFailedError(f"with {params!r}: {_shown(before)} became {_shown(values)}")


@CHECKS.add(
    "let process_batch give one result for each value, in order, that depends on that value alone, as process does"
)
def batch_equals_row_by_row(subject: StepSubject) -> None:
    """A batch gives what its rows give one by one, in order, whatever stands beside them."""
    for params, step in subject.steps:
        fresh = _build(subject.cls, params)  # it has seen nothing else
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
                    raise CheckFailedError(f"{_shown(value)} alone gives {_shown(one)}, in a batch {_shown(other)}")


@CHECKS.add("return an empty list for an empty list")
def takes_an_empty_batch(subject: StepSubject) -> None:
    """No values give no results."""
    for _, step in subject.steps:
        if (got := list(step.process_batch([]))) != []:
            raise CheckFailedError(f"process_batch([]) gives {_shown(got)}")


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


def results_in_here(module: str, name: str, params: Mapping[str, Any], texts: Sequence[str]) -> list[Any]:
    """The results of a step in this process; the class is found by its name."""
    cls: Any = reduce(getattr, name.split("."), importlib.import_module(module))
    values = [value for text in texts for value in values_of(cls.takes, text)]
    return list(_build(cls, params).process_batch(values))


def results_in_a_worker(*arguments: Any) -> list[Any]:
    """The same in a worker that this process spawns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, *arguments), daemon=True)  # as the data loader's are
    worker.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            raise ElsewhereError(f"no answer of the worker in {SECONDS:g} s")
        failed, answer = ours.recv()
    except EOFError:
        worker.join(1)
        raise ElsewhereError(f"the worker ended with status {worker.exitcode}") from None
    finally:
        worker.kill()  # it may have left a thread behind
        worker.join()
    if failed:
        raise ElsewhereError(answer)
    return list(answer)


def _work(pipe: Any, *arguments: Any) -> None:
    try:
        pipe.send((False, results_in_here(*arguments)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        pipe.send((True, f"{type(error).__name__}: {error}"))


def _by_name(subject: StepSubject) -> list[tuple[str, str, Mapping[str, Any], Sequence[str]]]:
    """What another process needs to know, for each set of parameters."""
    cls = subject.cls
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise CheckSkippedError(f"{cls.__qualname__} is defined where no other process finds it: put it into a module")
    return [(cls.__module__, cls.__qualname__, params, subject.texts) for params, _ in subject.steps]


def _compare(subject: StepSubject, wanted: Sequence[Any], got: Sequence[Any]) -> None:
    for value, one, other in zip(subject.values(), wanted, got, strict=True):
        if one != other:
            raise CheckFailedError(f"{_shown(value)} gives {_shown(one)} here, {_shown(other)} there")


def _one(step: TextStep, value: Any, params: Mapping[str, Any]) -> None:
    """The result of one value, as the host asks for it, is of the step's kind."""
    results = list(step.process_batch([value]))
    if len(results) != 1:
        raise CheckFailedError(f"with {params!r}: {_shown(value)} gives {len(results)} results")
    for result in results:
        if not _is(type(step).gives, result):
            raise CheckFailedError(
                f"with {params!r}: {_shown(value)} gives {_shown(result)}, no {type(step).gives.value}"
            )


def _build(cls: type[TextStep], params: Mapping[str, Any]) -> TextStep:
    return build_step(cls, StepSpec(cls.__name__, params), _context(cls), "example_params")


def _context(cls: type[TextStep]) -> StepContext:
    tokenizer = toy_tokenizer() if "tokenizer" in cls.uses else None
    return StepContext("text", tokenizer, {**CONFIG, "chunk_trancate": False, "max_total_chunks": 5})


def _provided(cls: type[TextStep]) -> dict[str, Any]:
    context = _context(cls)
    return {name: value for name in cls.uses if (value := context.provide(name)) is not None}


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
