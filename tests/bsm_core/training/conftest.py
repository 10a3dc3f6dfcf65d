"""Tests of what needs a model class of ``bsm_plugins_models`` are left out where the core is installed alone."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDS_MODEL_CLASSES = [
    "features/test_fit_scaling.py",
    "importing",
    "optional/test_calibration.py",
    "proposal/test_propose.py",
    "test_baselines.py",
    "test_model_defaults.py",
]
collect_ignore = [] if find_spec("bsm_plugins_models.text") else NEEDS_MODEL_CLASSES


@pytest.fixture
def output(tmp_path):
    """Where the artifact goes; nothing else is in its folder."""
    (tmp_path / "jobs").mkdir()
    return tmp_path / "jobs" / "model"
