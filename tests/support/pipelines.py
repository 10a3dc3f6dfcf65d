"""Pipelines of the steps in ``support.steps``."""

from __future__ import annotations

import pytest
from support.plugins import step_registry

from bsm_core import Kind, Pipeline
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import PipelineError
from bsm_core.preprocess.steps import StepContext

NAMES = [
    "Upper", "Quiet", "Split", "Roles", "Chunk", "Tokenize", "Typed", "Picky", "Abstract", "NotOnEmpty", "Number",
    "Nothing", "Drops", "Generates", "Together", "Words", "Fresh", "Sees",
]  # fmt: skip
REGISTRY = step_registry(
    {
        **{name.lower(): f"support.steps:{name}" for name in NAMES},
        "shout": "upper",
        "no_step": "pathlib:Path",
    }
)


def lengths(text: str) -> list[int]:
    """A tokenizer that can be pickled."""
    return [len(text)]


CONTEXT = StepContext("chat", tokenizer=lengths, config={"max_sen_len": 4, "batch_size": None})


def pipeline(*steps: str | StepSpec, must_give: Kind | None = None, context: StepContext = CONTEXT) -> Pipeline:
    specs = [StepSpec(step) if isinstance(step, str) else step for step in steps]
    return Pipeline(specs, context, registry=REGISTRY, where="config.steps", must_give=must_give)


def refusal(*steps: str | StepSpec, must_give: Kind | None = None, context: StepContext = CONTEXT) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        pipeline(*steps, must_give=must_give, context=context)
    assert caught.value.where == "config.steps"
    return caught.value
