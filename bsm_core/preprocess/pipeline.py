"""Pipelines: the steps of a text field, checked when the pipeline is built, run a column at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

from bsm_core.artifact.config import ArtifactConfig, StepSpec, TextField
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.errors import PipelineError, StepFailedError
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.preprocess.findings import Issue
from bsm_core.preprocess.step_params import build_step, used_params
from bsm_core.preprocess.steps import Kind, StepContext, TextStep
from bsm_core.preprocess.tracing.traced_chunks import TracedChunk, has_places, is_traced, traced_chunks
from bsm_core.preprocess.tracing.traced_text import TracedText
from bsm_core.runtime.profile import Times

ROWS_AT_ONCE = 256
"""Number of distinct texts that go through a pipeline together.

Large enough for speed, and small enough that the objects which a tokenizer makes of the texts are freed soon.
"""

Fit: TypeAlias = Literal["as_is", "each", "wrap"]
"""How a step is applied to a value: to the value itself, to each text in a list, or to a list of the one text."""


@dataclass(frozen=True)
class PipelineStep:
    """A step of a pipeline.

    Attributes:
        name: Name of the step in the config.
        component: Component to which the name was resolved.
        given: Parameters in the config.
        used: All parameters: from the config, from the artifact, and defaults.
        step: The step itself.
        fit: How the step is applied to the values that the steps before it return.
    """

    name: str
    component: Component
    given: Mapping[str, Any]
    used: Mapping[str, Any]
    step: TextStep
    fit: Fit

    def apply(self, values: Sequence[Any]) -> list[Any]:
        """Return the result of the step for each value, in order."""
        if self.fit == "each":
            flat = iter(self._run([text for row in values for text in row]))
            return [[next(flat) for _ in row] for row in values]
        return self._run([[v] for v in values] if self.fit == "wrap" else values)

    def trace(self, value: Any, result: Any) -> Any:
        """Return the result of the step for a value of :class:`TracedText`.

        Args:
            value: The value.
            result: Result for the plain value. It is returned if the step fails on the value, or if another result
                shows that the step tells traced from plain text.
        """
        try:
            [traced] = self.apply([value])
        except _BatchFailedError:
            return result
        return traced if traced == result else result

    def _run(self, values: Sequence[Any]) -> list[Any]:
        try:
            results = list(self.step.process_batch(values))
        except Exception as error:
            raise _BatchFailedError(self.name, f"{type(error).__name__}: {error}") from error
        if len(results) != len(values):
            raise StepFailedError(
                f"text step {self.name!r} returned {len(results)} results for {len(values)} values",
                fix="process_batch must return one result for every value, in order",
            )
        expected = str if self.step.gives is Kind.TEXT else list
        for result in results:
            if not isinstance(result, expected):
                reason = f"the result has type {type(result).__name__} and is not {self.step.gives.value}"
                raise _BatchFailedError(self.name, reason)
        return results


class _BatchFailedError(Exception):
    """Error of a step on at least one value of a batch. Arguments: the step's name and the reason."""


class Pipeline:
    """The steps of one text field, built and checked.

    One thread at a time runs the steps, so a step need not be thread-safe: a Hugging Face tokenizer is not.

    Args:
        specs: The field's steps as the config lists them.
        context: Values that the artifact provides to the steps.
        registry: Registry in which step names are resolved. None: the registry of the process.
        where: Config key of the list of steps, for errors.
        must_give: Kind of value that the last step must return. None: any kind.
        components: Components of the steps if their names are resolved already.

    Raises:
        PipelineError: The list is empty, a parameter is wrong, or two neighboring steps do not fit together.
        UnknownComponentError: No plugin provides a step of that name.
        StepFailedError: A step fails on empty text.

    Example:
        Run the steps of a text field::

            upper = Pipeline([StepSpec("text_upper")], StepContext("chat"), must_give=None)
            texts, issues = upper(["hello", "there"])
    """

    def __init__(
        self,
        specs: Sequence[StepSpec],
        context: StepContext,
        *,
        registry: Registry | None = None,
        where: str = "text_processing_steps",
        must_give: Kind | None = Kind.TOKENS,
        components: Sequence[Component] | None = None,
    ) -> None:
        if not specs:
            raise PipelineError(f"column {context.column!r} has no steps", where=where, fix="list at least one step")
        registry = registry or default_registry()
        self.context = context
        self.components = list(components or (registry.resolve("step", spec.name, where=where) for spec in specs))
        self.steps: list[PipelineStep] = []
        build = partial(Pipeline, tuple(specs), context, registry=registry, where=where, must_give=must_give)
        self._rebuild = partial(build, components=self.components)
        self._one_thread = threading.Lock()
        kind, previous = Kind.TEXT, "the column"
        for spec, component in zip(specs, self.components, strict=True):
            step = build_step(registry.load(component, TextStep), spec, context, where)
            fit = fit_of(kind, previous, spec.name, step, where)
            used = used_params(type(step), spec, context)
            self.steps.append(PipelineStep(spec.name, component, spec.params, used, step, fit))
            kind = kind if fit == "each" else step.gives
            previous = spec.name
        if must_give is not None and kind is not must_give:
            raise PipelineError(
                f"the steps of column {context.column!r} end with {kind.value}, the model needs {must_give.value}",
                where=where,
                fix=f"end the list with a step that gives {must_give.value}",
            )
        try:
            self._empty = self._apply([""], Times())[0]
        except _BatchFailedError as error:
            name, reason = error.args
            raise StepFailedError(f"text step {name!r} fails on empty text: {reason}", where=where) from error

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process imports and builds the steps again: objects of plugins are never pickled.
        return self._rebuild, ()

    def __call__(self, texts: Sequence[str], times: Times | None = None) -> tuple[list[Any], list[Issue]]:
        """Run all steps on a column, once for each distinct text.

        Args:
            texts: The text of each row.
            times: Object to which the time of each step is added.

        Returns:
            The result of each row, and an issue for each row on which a step failed: its result is that of empty text.
            Rows with equal text share one result object.
        """
        times = Times() if times is None else times
        numbers: dict[str, int] = {}
        rows = [numbers.setdefault(text, len(numbers)) for text in texts]
        distinct = list(numbers)
        issues: list[Issue] = []
        results: list[Any] = []
        with self._one_thread:
            for start in range(0, len(distinct), ROWS_AT_ONCE):
                results += self._isolate(distinct[start : start + ROWS_AT_ONCE], start, issues, times)
        failed = {issue.row: issue for issue in issues}
        return [results[number] for number in rows], [
            replace(failed[number], row=row) for row, number in enumerate(rows) if number in failed
        ]

    def trace(self, text: str) -> list[TracedChunk]:
        """Return the chunks of one cell, with the place of each token in the cell.

        The token ids are those that a call returns. Each step runs twice, with plain text and with
        :class:`TracedText`; where the second result is another one, the places are lost. If a step fails on the text,
        the chunks are those of empty text.

        Raises:
            PipelineError: The last step does not give tokens.
        """
        if self.steps[-1].step.gives is not Kind.TOKENS:
            raise PipelineError(
                f"the steps of column {self.context.column!r} give no tokens, so none can be traced",
                fix=f"end the list with a step that gives {Kind.TOKENS.value}",
            )
        value: Any = text
        traced: Any = TracedText(text)
        lost_by: str | None = None
        with self._one_thread:
            try:
                for step in self.steps:
                    [value] = step.apply([value])
                    before, traced = traced, step.trace(traced, value)
                    if has_places(before) and not is_traced(traced):
                        lost_by = lost_by or step.name
            except _BatchFailedError:
                traced, lost_by = self._empty, None
        return traced_chunks(traced, self.context.tokenizer, lost_by)

    def _isolate(self, texts: Sequence[str], start: int, issues: list[Issue], times: Times) -> list[Any]:
        """Run all steps; if one fails, halve the texts until each failing text is alone."""
        try:
            return self._apply(texts, times)
        except _BatchFailedError as error:
            if len(texts) > 1:
                half = len(texts) // 2
                head = self._isolate(texts[:half], start, issues, times)
                return head + self._isolate(texts[half:], start + half, issues, times)
            step, reason = error.args
            issues.append(Issue.of(start, self.context.column, step, reason, texts[0]))
            return [self._empty]

    def _apply(self, values: Sequence[Any], times: Times) -> list[Any]:
        for step in self.steps:
            with times.of(f"{self.context.column}: {step.name}"):
                values = step.apply(values)
        return list(values)


def text_pipelines(
    config: ArtifactConfig,
    tokenizer: Callable[[TextField], Any],
    registry: Registry | None = None,
    names: ResolvedNames | None = None,
) -> dict[str, Pipeline]:
    """Return the checked pipeline of each text field, by column.

    Args:
        config: The artifact's config.
        tokenizer: Function that returns the tokenizer of a field. Called only for fields with a step that uses it.
        registry: Registry in which step names are resolved. None: the registry of the process.
        names: The names in the config, if they are resolved already.
    """
    registry = registry or default_registry()
    names = names or ResolvedNames(registry, None, config.text_fields)
    return {text.column: text_pipeline(config, text, tokenizer, registry, names) for text in config.text_fields}


def text_pipeline(
    config: ArtifactConfig,
    text: TextField,
    tokenizer: Callable[[TextField], Any],
    registry: Registry,
    names: ResolvedNames,
) -> Pipeline:
    """Return the checked pipeline of a text field. See :func:`text_pipelines` for the arguments."""
    components, where = names.steps(text), f"config.{text.steps_key}"
    needed = "tokenizer" in params_used(components, registry)
    context = StepContext(text.column, tokenizer(text) if needed else None, config.as_mapping())
    return Pipeline(text.steps, context, registry=registry, where=where, components=components)


def params_used(components: Iterable[Component], registry: Registry) -> set[str]:
    """Return the names of all parameters that the artifact provides to these steps: their :attr:`TextStep.uses`."""
    return {name for component in components for name in registry.load(component, TextStep).uses}


def fit_of(kind: Kind, previous: str, name: str, step: TextStep, where: str) -> Fit:
    """Return how a step is applied to values of a kind.

    Args:
        kind: Kind of the values.
        previous: Name of the step that returns them.
        name: Name of the step.
        step: The step.
        where: Config key of the list of steps, for errors.

    Raises:
        PipelineError: The step cannot be applied to these values.
    """
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
