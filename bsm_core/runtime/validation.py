"""Pydantic's complaints about values that a person wrote, as one error for that person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bsm_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Build a pydantic model, turning its complaints into one :class:`ConfigError`, a line for each key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(map(_describe, error.errors()))  # a key that two text fields share is said once
        raise ConfigError(
            f"{len(problems)} problem(s) in the config of the artifact",
            where=where,
            details=list(problems),
            fix="correct these keys in hyperparameters.json or model_artifacts.pth and pack the artifact again",
        ) from None


def _describe(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    if problem["type"] == "missing":
        return f"{path}: missing"
    return f"{path}: {message} (it is {_shortened(repr(problem['input']))})" if path else message


def _shortened(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
