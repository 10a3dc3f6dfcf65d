"""Text steps and the pipelines they form.

A step turns one kind of value into another, a column at a time. A :class:`Pipeline` is the list of steps of one text
field; it is checked when it is built and never loses a row when it runs.
"""

from __future__ import annotations

import inspect
import json
import typing
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from bsm_core.artifact.config import StepSpec
from bsm_core.errors import BSMError, PipelineError, StepFailedError, nearest
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.runtime.profile import Times
from bsm_core.runtime.validation import Problem, problems_of

ROWS_AT_ONCE = 256
"""Rows that go through a pipeline together: enough to be fast, and what a tokenizer makes of them is soon freed."""


class Kind(StrEnum):
    """What a step takes or gives for each row."""

    TEXT = "text"
    """``str``"""
    MESSAGES = "messages"
    """``list[str]``: the turns of a dialogue."""
    ROLE_MESSAGES = "role_messages"
    """``list[dict]``: turns with ``"role"`` and ``"content"``, as in the Hugging Face chat format."""
    CHUNKS = "chunks"
    """``list[str]``: texts short enough for the encoder."""
    TOKENS = "tokens"
    """``list[list[int]]``: token ids of each chunk, special tokens included, no padding."""


class TextStep(ABC):
    """Base class of every text step.

    The parameters of ``__init__`` are the step's parameters in the artifact's config; they are JSON values, checked
    against the annotations. A step from text to text is applied to every message or chunk by itself where it stands
    behind a splitter.

    Attributes:
        takes: Kind of value the step takes for each row.
        gives: Kind of value it gives for each row.
        uses: Names of ``__init__`` parameters that the artifact provides where the step's entry in the config does
            not: ``"tokenizer"`` (the artifact's tokenizer) or any key of the config, such as ``"max_sen_len"``.
        example_params: Sets of parameters that :mod:`bsm_core.testing` builds the step with; to be given where a
            parameter has no default.
        example_texts: Texts that it is built for, where it refuses others; for the kit as well.
    """

    takes: ClassVar[Kind] = Kind.TEXT
    gives: ClassVar[Kind] = Kind.TEXT
    uses: ClassVar[tuple[str, ...]] = ()
    example_params: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    example_texts: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def process(self, value: Any) -> Any:
        """The result for one row. Must depend on ``value`` alone and leave it unchanged."""

    def process_batch(self, values: Sequence[Any]) -> list[Any]:
        """The results for many rows, in order. Override where a column at a time is faster than row by row."""
        return [self.process(value) for value in values]


@dataclass(frozen=True)
class StepContext:
    """What an artifact provides to the steps of one text field.

    Attributes:
        column: The field's column.
        tokenizer: A Hugging Face fast tokenizer.
        config: Config keys the steps may use.
    """

    column: str
    tokenizer: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def provide(self, name: str) -> Any:
        """The value for a parameter named in :attr:`TextStep.uses`; None where the artifact has none."""
        return self.tokenizer if name == "tokenizer" else self.config.get(name)


@dataclass(frozen=True)
class TextFailure:
    """A row whose text was taken as empty.

    Attributes:
        row: Position in the column.
        step: Name of the step that failed.
        reason: Why.
    """

    row: int
    step: str
    reason: str


@dataclass(frozen=True)
class Part:
    """A step of a pipeline, as records describe it.

    Attributes:
        name: The name that the config has.
        component: What it was resolved to.
        given: The parameters that the config gives.
        used: All its parameters: those, what the artifact provides, and defaults.
    """

    name: str
    component: Component
    given: Mapping[str, Any]
    used: Mapping[str, Any]


@dataclass(frozen=True)
class _Stage:
    name: str
    step: TextStep
    fit: str  # "as_is", "each" (text step on every message or chunk) or "wrap" (one text as a list of one)

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        if self.fit == "each":
            flat = iter(self._run([text for row in values for text in row]))
            return [[next(flat) for _ in row] for row in values]
        return self._run([[v] for v in values] if self.fit == "wrap" else values)

    def _run(self, values: Sequence[Any]) -> list[Any]:
        try:
            results = list(self.step.process_batch(values))
        except Exception as error:
            raise _StageError(self.name, f"{type(error).__name__}: {error}") from error
        if len(results) != len(values):
            raise StepFailedError(
                f"text step {self.name!r} gave {len(results)} results for {len(values)} values",
                fix="process_batch must give one result for every value, in order",
            )
        expected = str if self.step.gives is Kind.TEXT else list
        for result in results:
            if not isinstance(result, expected):
                raise _StageError(self.name, f"it gave a {type(result).__name__}, not {self.step.gives.value}")
        return results


class _StageError(Exception):
    """A step raised on some value of a batch."""


class Pipeline:
    """The steps of one text field, built and checked.

    Args:
        specs: The field's steps as the config lists them.
        context: What the artifact provides.
        registry: Where step names are looked up; the process's own where None.
        where: The config key, for errors.
        must_give: Kind the last step must give; None for any.

    Raises:
        PipelineError: The list is empty, a parameter is wrong, or two neighbours do not fit.
        UnknownStepError: No plugin provides a step of that name.
    """

    def __init__(
        self,
        specs: Sequence[StepSpec],
        context: StepContext,
        *,
        registry: Registry | None = None,
        where: str = "text_processing_steps",
        must_give: Kind | None = Kind.TOKENS,
    ) -> None:
        if not specs:
            raise PipelineError(f"column {context.column!r} has no steps", where=where, fix="list at least one step")
        registry = registry or default_registry()
        self._rebuild = partial(Pipeline, tuple(specs), context, registry=registry, where=where, must_give=must_give)
        self.components = [registry.resolve("step", spec.name, where=where) for spec in specs]
        self.context = context
        self.parts: list[Part] = []
        self._stages: list[_Stage] = []
        kind, previous = Kind.TEXT, "the column"
        for spec, component in zip(specs, self.components, strict=True):
            step = build_step(registry.load(component, TextStep), spec, context, where)
            self.parts.append(Part(spec.name, component, spec.params, _used(type(step), spec, context)))
            self._stages.append(_Stage(spec.name, step, fit_of(kind, previous, spec.name, step, where)))
            kind = kind if self._stages[-1].fit == "each" else step.gives
            previous = spec.name
        if must_give is not None and kind is not must_give:
            raise PipelineError(
                f"the steps of column {context.column!r} end with {kind.value}, the model needs {must_give.value}",
                where=where,
                fix=f"end the list with a step that gives {must_give.value}",
            )
        self._empty = self._on_empty(where)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes look the steps up again by name, in the same registry: a plugin's object is never pickled.
        return self._rebuild, ()

    def __call__(self, texts: Sequence[str], times: Times | None = None) -> tuple[list[Any], list[TextFailure]]:
        """Run the column through all steps, each distinct text once.

        Args:
            texts: One text a row.
            times: Where the time of each step is added.

        Returns:
            One result a row, and the rows that a step failed on, whose result is that of empty text. Rows of equal
            text share one result.
        """
        times = Times() if times is None else times
        numbers: dict[str, int] = {}
        rows = [numbers.setdefault(text, len(numbers)) for text in texts]
        distinct = list(numbers)
        failures: list[TextFailure] = []
        results: list[Any] = []
        for start in range(0, len(distinct), ROWS_AT_ONCE):
            results += self._isolate(distinct[start : start + ROWS_AT_ONCE], start, failures, times)
        failed = {failure.row: failure for failure in failures}
        return [results[number] for number in rows], [
            replace(failed[number], row=row) for row, number in enumerate(rows) if number in failed
        ]

    def _isolate(self, texts: Sequence[str], start: int, failures: list[TextFailure], times: Times) -> list[Any]:
        """Run all texts; where a step raises, halve until the rows that it raises on stand alone."""
        try:
            return self._apply(texts, times)
        except _StageError as error:
            if len(texts) > 1:
                half = len(texts) // 2
                head = self._isolate(texts[:half], start, failures, times)
                return head + self._isolate(texts[half:], start + half, failures, times)
            failures.append(TextFailure(start, *error.args))
            return [self._empty]

    def _apply(self, values: Sequence[Any], times: Times) -> list[Any]:
        for stage in self._stages:
            with times.of(f"{self.context.column}: {stage.name}"):
                values = stage(values)
        return list(values)

    def _on_empty(self, where: str) -> Any:
        try:
            return self._apply([""], Times())[0]
        except _StageError as error:
            name, reason = error.args
            raise StepFailedError(f"text step {name!r} fails on empty text: {reason}", where=where) from error


def names_used(specs: Sequence[StepSpec], *, registry: Registry | None = None, where: str) -> set[str]:
    """What the artifact provides to these steps: all their :attr:`TextStep.uses`."""
    registry = registry or default_registry()
    components = [registry.resolve("step", spec.name, where=where) for spec in specs]
    return {name for component in components for name in registry.load(component, TextStep).uses}


def fit_of(kind: Kind, previous: str, name: str, step: TextStep, where: str) -> str:
    """How a step is applied to values of ``kind``, or an error when it cannot be."""
    if step.takes is kind:
        return "as_is"
    if step.takes is step.gives is Kind.TEXT and kind in (Kind.MESSAGES, Kind.CHUNKS):
        return "each"
    if kind is Kind.TEXT and step.takes in (Kind.MESSAGES, Kind.CHUNKS):
        return "wrap"
    raise PipelineError(
        f"{name!r} takes {step.takes.value}, but {previous!r} before it gives {kind.value}",
        where=where,
        fix=f"put a step between them that turns {kind.value} into {step.takes.value}, or change their order",
    )


def build_step(cls: type[TextStep], spec: StepSpec, context: StepContext, where: str) -> TextStep:
    """Make a step from its entry in the config and what the artifact provides."""
    if lacking := sorted(cls.__abstractmethods__):
        raise PipelineError(
            f"text step {spec.name!r} lacks {', '.join(lacking)}",
            where=where,
            fix=f"define it in {cls.__module__}:{cls.__qualname__}, also where it stands beside process_batch",
        )
    parameters = inspect.signature(cls).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if unknown := [name for name in cls.uses if name not in named]:
        near = {name: nearest(name, named) for name in unknown}
        raise PipelineError(
            f"text step {spec.name!r} uses what it does not take: {', '.join(unknown)}",
            where=where,
            details=[f"{name}: did you mean {other!r}?" for name, other in near.items() if other],
            fix=f"name parameters of __init__ in `uses` of {cls.__module__}:{cls.__qualname__}",
        )
    accepted = [name for name in named if name != "tokenizer" or "tokenizer" not in cls.uses]
    try:
        params, problems = _read_params(cls, spec, accepted)
        if not problems:
            given = {n: v for n in cls.uses if (v := context.provide(n)) is not None}
            return cls(**{**given, **params})
    except BSMError:
        raise
    except Exception as error:
        raise _cannot_build(spec, where, accepted, [f"{type(error).__name__}: {error}"]) from error
    raise _cannot_build(spec, where, accepted, problems)


def _used(cls: type[TextStep], spec: StepSpec, context: StepContext) -> dict[str, Any]:
    """Every parameter of a step, and its value."""
    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    provided = {name: value for name in cls.uses if (value := context.provide(name)) is not None}
    return {**defaults, **provided, **spec.params}


def _cannot_build(spec: StepSpec, where: str, accepted: list[str], problems: list[str]) -> PipelineError:
    return PipelineError(
        f"text step {spec.name!r} cannot be built",
        where=where,
        details=problems,
        fix=f"its parameters are: {', '.join(accepted) or 'none'}",
    )


def _read_params(cls: type[TextStep], spec: StepSpec, accepted: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The parameters in the types of their annotations, and what is wrong with them, a line each."""
    params, problems = {}, []
    hints = _hints(cls, spec.params.keys() & set(accepted))
    for name, value in spec.params.items():
        if name not in accepted:
            near = nearest(name, accepted)
            problems.append(f"{name}: unknown" + (f"; did you mean {near!r}?" if near else ""))
            continue
        try:
            # As JSON, because a strict check of Python values refuses a JSON list for a tuple.
            params[name] = TypeAdapter(hints.get(name, Any)).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            problems += [_line(name, problem) for problem in problems_of(error)]
    return params, problems


def _line(name: str, problem: Problem) -> str:
    return str(replace(problem, key=f"{name}.{problem.key}" if problem.key else name))


def _hints(cls: type[TextStep], names: Collection[str]) -> dict[str, Any]:
    """Type hints of these parameters alone: another, the tokenizer say, may name a type that only mypy imports."""
    init = inspect.unwrap(cls.__init__)
    annotations = {n: hint for n, hint in getattr(init, "__annotations__", {}).items() if n in names}
    return typing.get_type_hints(SimpleNamespace(__annotations__=annotations), getattr(init, "__globals__", {}))
