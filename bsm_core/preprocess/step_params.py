"""Building a text step: its parameters come from its entry in the config and from the artifact, and are checked."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bsm_core.artifact.config import StepSpec
from bsm_core.errors import BSMError, PipelineError, nearest
from bsm_core.preprocess.steps import StepContext, TextStep
from bsm_core.runtime.validation import problems_of


def build_step(cls: type[TextStep], spec: StepSpec, context: StepContext, where: str) -> TextStep:
    """Build a step from its entry in the config and from what the artifact provides.

    Args:
        cls: Class of the step.
        spec: Entry of the step in the config.
        context: Values that the artifact provides.
        where: Config key of the list of steps, for errors.

    Raises:
        PipelineError: The class is incomplete, or parameters are wrong; the error lists all of them.
    """
    if lacking := sorted(cls.__abstractmethods__):
        raise PipelineError(
            f"text step {spec.name!r} does not define {', '.join(lacking)}",
            where=where,
            fix=f"define it in {cls.__module__}:{cls.__qualname__}; a step with process_batch needs it too",
        )
    parameters = inspect.signature(cls).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if unknown := [name for name in cls.uses if name not in named]:
        near = {name: nearest(name, named) for name in unknown}
        raise PipelineError(
            f"text step {spec.name!r} names in `uses` what its __init__ does not take: {', '.join(unknown)}",
            where=where,
            details=[f"{name}: did you mean {other!r}?" for name, other in near.items() if other],
            fix=f"name parameters of __init__ in `uses` of {cls.__module__}:{cls.__qualname__}",
        )
    accepted = [name for name in named if name != "tokenizer" or "tokenizer" not in cls.uses]
    cause: Exception | None = None
    try:
        params, problems = _read_params(cls, spec, accepted)
        if not problems:
            return cls(**{**context.provide(cls.uses), **params})
    except BSMError:
        raise
    except Exception as error:  # noqa: BLE001 - the __init__ of a plugin may raise anything
        problems, cause = [f"{type(error).__name__}: {error}"], error
    raise PipelineError(
        f"text step {spec.name!r} cannot be built",
        where=where,
        details=problems,
        fix=f"its parameters are: {', '.join(accepted) or 'none'}",
    ) from cause


def used_params(cls: type[TextStep], spec: StepSpec, context: StepContext) -> dict[str, Any]:
    """Return the value of every parameter of a step: from the config, from the artifact, or the default."""
    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**defaults, **context.provide(cls.uses), **spec.params}


def _read_params(cls: type[TextStep], spec: StepSpec, accepted: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters, converted to the types of their annotations, and one line for each problem."""
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
            found = problems_of(error)
            problems += [str(replace(p, key=f"{name}.{p.key}" if p.key else name)) for p in found]
    return params, problems


def _hints(cls: type[TextStep], names: Collection[str]) -> dict[str, Any]:
    """Return the type hints of some parameters.

    Hints of other parameters are not resolved: they may name types that are imported for type checking only.
    """
    init = inspect.unwrap(cls.__init__)
    annotations = {n: hint for n, hint in getattr(init, "__annotations__", {}).items() if n in names}
    return typing.get_type_hints(SimpleNamespace(__annotations__=annotations), getattr(init, "__globals__", {}))
