from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import worker
from data import FEATURES, ID

from bsm_core import Predictor, train

EXAMPLE = Path(__file__).parents[3] / "examples" / "reviews"


@pytest.fixture
def job(tmp_path):
    """The example's artifact on reviews of one chunk and of two, and on one without text."""
    rows = pd.read_csv(EXAMPLE / "reviews.csv", dtype={ID: str}).head(24)
    rows.loc[3, "Review Text"] = None
    rows.loc[5, "Review Text"] = rows.loc[5, "Review Text"] * 3
    rows.to_parquet(tmp_path / "all.parquet", index=False)
    rows.head(4).to_parquet(tmp_path / "few.parquet", index=False)
    return {
        "rival": "by_length",
        "flags": [],
        "precision": "fp32",
        "device": "cpu",
        "artifact": str(EXAMPLE / "model.tar.gz"),
        "table": str(tmp_path / "all.parquet"),
        "few": str(tmp_path / "few.parquet"),
        "output": str(tmp_path / "output"),
    }


def written(job) -> pd.DataFrame:
    return pd.read_parquet(Path(job["output"]) / worker.PREDICTIONS)


def test_a_rival_gives_the_artifacts_probabilities(job):
    figures = worker.rival(job)
    rows = pd.read_parquet(job["table"])
    expected = Predictor.from_artifact(job["artifact"]).predict(rows)
    found = written(job)
    assert found[ID].tolist() == rows[ID].tolist()
    np.testing.assert_allclose(found[expected.columns], expected, rtol=0, atol=1e-5)
    assert figures["rows"] == 24
    assert figures["seconds"] > 0
    assert figures["start_up"] > 0


def test_bsm_is_timed_without_its_start_up(job, monkeypatch):
    clock = iter([(5.0, 9.0), (1.0, 2.0), (7.0, 12.0)])  # of the first few rows, of them again, of all
    monkeypatch.setattr(worker, "_clocked", lambda work: (work(), next(clock))[1])
    figures = worker.bsm({**job, "rival": None})
    assert len(written(job)) == 24
    assert (figures["rows"], figures["seconds"], figures["cpu_seconds"], figures["start_up"]) == (20, 6, 10, 5)
    assert "CPU" in figures["used"]["device"]["used"]


def test_a_run_that_fails_ends_the_worker(job, capsys):
    with pytest.raises(SystemExit) as ended:
        worker.bsm({**job, "rival": None, "artifact": "nowhere"})
    assert ended.value.code == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_loop_without_text(tmp_path, job):
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(40, len(FEATURES))), columns=list(FEATURES))
    rows.insert(0, ID, [f"{i:07d}" for i in range(len(rows))])
    config = {"model_class": "tabular", "tab_field_list": list(FEATURES), "hidden_common_dim": 4, "scaling": "none"}
    labelled = rows.assign(label=[0, 1] * 20)
    train(config | {"label_name": "label", "max_epochs": 1, "seed": 0}, labelled, tmp_path / "model")
    rows.to_parquet(job["table"], index=False)
    rows.head(4).to_parquet(job["few"], index=False)
    worker.pandas_loop({**job, "artifact": str(tmp_path / "model")})
    expected = Predictor.from_artifact(tmp_path / "model").predict(rows)
    np.testing.assert_allclose(written(job)[expected.columns], expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak there")
def test_peak_memory_is_that_of_this_process():
    import resource

    peak = worker.peak_memory()["peak_mb"]
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, rel=0.05)
