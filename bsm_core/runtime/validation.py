"""Validation errors of pydantic as data, and as one error for the person who wrote the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bsm_core.errors import BSMError, ConfigError, short_repr

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """A key whose value cannot be used, or that is missing. ``str()`` makes a line of it.

    Attributes:
        key: Path of the key, such as ``"text_processing_steps.1"``; empty where the values contradict each other.
        message: What is wrong with the value.
        value: The value as ``repr`` shows it, shortened; empty for a missing key.
    """

    key: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        value = f" (it is {self.value})" if self.value else ""
        return f"{self.key}: {self.message}{value}" if self.key else self.message


def problems_of(error: ValidationError) -> list[Problem]:
    """Return the problems of a validation error, each once, in order."""
    return list(dict.fromkeys(map(_problem, error.errors(include_url=False))))


def check_values(model: type[M], values: Mapping[str, Any]) -> tuple[M | None, list[Problem]]:
    """Build a pydantic model from values that a person wrote.

    Returns:
        The model and no problems, or None and what is wrong.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, problems_of(error)


def validated(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Build a pydantic model from a config.

    Args:
        model: The model.
        values: The config.
        where: Name or files of the config in the error.

    Raises:
        ConfigError: Keys are missing or wrong; ``details`` has a line for each.
    """
    checked, problems = check_values(model, values)
    if checked is None:
        what, details = f"{len(problems)} problem(s) in the config", list(map(str, problems))
        raise ConfigError(what, where=where, details=details, fix="correct these keys")
    return checked


def _problem(found: Any) -> Problem:
    key = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return Problem(key, "missing")
    error = found.get("ctx", {}).get("error")
    if isinstance(error, BSMError):  # the value is shown beside the message, so its place is not needed
        message = "; ".join(filter(None, (error.what, *error.details, error.fix)))
    else:
        message = found["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    return Problem(key, message, short_repr(found["input"]))
