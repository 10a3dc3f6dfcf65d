from __future__ import annotations

import pytest
from support.windows import CONFIG

from bsm_core import Pipeline
from bsm_core.artifact.config import StepSpec
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.steps import StepContext


@pytest.fixture
def pipeline(toy_site):
    return Pipeline([StepSpec("toy_tokens")], StepContext("chat"))


@pytest.fixture
def preprocessor(pipeline):
    tables = {"channel": {"bins": {"web": 0.5}, "default_bin": 0.25}, "chat": {"bins": {}, "default_bin": 9.0}}
    return Preprocessor(CONFIG, {"chat": pipeline}, {"amount": 2.0}, tables, keep=["id"])
