from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, PositiveInt, ValidationError, model_validator

from bsm_core.errors import ConfigError, UsageError
from bsm_core.runtime.validation import Problem, check_values, problems_of, validated


class Sizes(BaseModel):
    name: str
    sizes: list[PositiveInt] = []
    limits: tuple[int, int] = (0, 1)

    @model_validator(mode="after")
    def _agree(self) -> Sizes:
        if len(self.sizes) == 1:
            raise ValueError("one size is too few")
        return self


def test_each_problem_has_its_key_and_value():
    _, problems = check_values(Sizes, {"sizes": [1, 0], "limits": 3})
    assert problems == [
        Problem("name", "missing"),
        Problem("sizes.1", "Input should be greater than 0", "0"),
        Problem("limits", "Input should be a valid list", "3"),
    ]
    assert list(map(str, problems))[:2] == ["name: missing", "sizes.1: Input should be greater than 0 (it is 0)"]


def test_an_error_of_ours_is_one_line_with_its_advice():
    def refused(value: str) -> str:
        raise UsageError("no place", where=value, details=["it is far"], fix="name another one")

    class Places(BaseModel):
        place: Annotated[str, AfterValidator(refused)]

    _, [problem] = check_values(Places, {"place": "moon"})
    assert str(problem) == "place: no place; it is far; name another one (it is 'moon')"


def test_a_contradiction_has_no_key_and_shows_no_values():
    _, [problem] = check_values(Sizes, {"name": "a", "sizes": [1]})
    assert (problem.key, str(problem)) == ("", "one size is too few")


def test_right_values_have_no_problem():
    assert check_values(Sizes, {"name": "a"}) == (Sizes(name="a"), [])


def test_a_long_value_is_shortened():
    with pytest.raises(ValidationError) as caught:
        Sizes.model_validate({"name": "a", "sizes": "x" * 1000})
    [problem] = problems_of(caught.value)
    assert len(problem.value) == 80
    assert problem.value.endswith("...")


def test_a_config_error_lists_all_problems():
    with pytest.raises(ConfigError) as caught:
        validated(Sizes, {"sizes": [0]}, where="config")
    assert caught.value.details == ("name: missing", "sizes.0: Input should be greater than 0 (it is 0)")
    assert (caught.value.what, caught.value.where) == ("2 problem(s) in the config", "config")
