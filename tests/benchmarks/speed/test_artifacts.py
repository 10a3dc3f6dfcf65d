from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from artifacts import write_artifact
from data import FEATURES

from bsm_core import Predictor


def test_the_scores_of_a_fresh_model_are_spread(tmp_path):
    values = np.random.default_rng(0).normal(size=(64, len(FEATURES)))
    rows = pd.DataFrame(values, columns=list(FEATURES))
    folder = write_artifact("tabular", tmp_path / "model", rows)
    probabilities = Predictor.from_artifact(folder).predict(rows)["prob_class_1"]
    odds = np.log(probabilities / (1 - probabilities))
    assert odds.mean() == pytest.approx(0, abs=1e-5)
    assert odds.std() == pytest.approx(0.5, abs=1e-5)
    assert (folder / "self_check.json").exists()


def test_the_example_is_taken_as_it_is(tmp_path):
    folder = write_artifact("tiny", tmp_path / "model", pd.DataFrame())
    assert Predictor.from_artifact(folder).model.config.hidden_common_dim == 32
