from __future__ import annotations

import importlib.metadata
import json
import platform
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.plugins import component

from bsm_core import ArtifactConfig, Registry, Settings
from bsm_core.backends.choose import ChosenBackends
from bsm_core.plugins.hooks import Hooks
from bsm_core.plugins.hookspecs import Committed
from bsm_core.report.binning import Binning, Scored
from bsm_core.runtime.profile import Times
from bsm_core.scoring.engines import finish
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.output.manifest import Attempt, PartRecord, WorkFolder
from bsm_core.scoring.output.row_issues import BadRowLimit, CommitReview
from bsm_core.scoring.output.sink import Sink
from bsm_core.scoring.provenance import record_of
from bsm_core.tables.id_counts import IdCounts

SETTINGS = {
    "job_type": "inference",
    "id_field": "id",
    "model_dir": Path("/m"),
    "device": (0, 2),
    "keep_columns": ("a", "b"),
}


@pytest.fixture
def record(monkeypatch, tmp_path):
    components = [
        record_of(component("model_class", "net", "acme_net:Net", "acme", "2.0"), "net", given={}, used={"lr": 1}),
        record_of(component("step", "shout", "acme_steps:Shout", "acme", "2.0"), "acme/shout", "chat"),
    ]
    monkeypatch.setattr(finish, "components_of", lambda predictor: components)
    monkeypatch.setattr(finish.time, "time", lambda: 11.23456)
    values = {"model_class": "net", "label_name": "y", "multiclass_categories": [3, "x"], "class_names": ["a", "b"]}
    config = ArtifactConfig.from_mapping(values, where="config")
    work = WorkFolder(tmp_path)
    work.path.mkdir()
    for number, encoders in ((1, None), (2, {"precision": "fp32"})):
        work.add(Attempt(number, "here", 70 + number, "2026-11-28T10:00:00", "GPU [0]", encoders))
    for window, number in ((0, 1), (1, 2)):
        work.add(PartRecord(window, 4 - window, window == 1, None, 99, "cd34", {}, number))
    job = SimpleNamespace(
        settings=Settings(**SETTINGS),
        plan={"artifact": {"model.pth": "ab12"}},
        began=10.0,
        sink=Sink(tmp_path, 2),
    )
    run = SimpleNamespace(
        job=job,
        plan=DevicePlan("gpu", (0,)),
        predictor=SimpleNamespace(
            hooks=Hooks(Registry([])),
            preprocessor=SimpleNamespace(config=config),
            probability_names=["prob_class_0", "prob_class_1"],
        ),
        binning=Binning(),
        embeddings=None,
        difference=2.5e-08,
        chosen=ChosenBackends("fp32", {"text": "tuned"}),
        times=Times(),
    )
    counted = Binning().statistics(Scored(0, np.array([[0.25, 0.75]] * 7)))
    committed = Committed(Path("/o/inference_predictions.tsv"), 7, 2, Counter({"text:chat": 3}))
    review = CommitReview(None, BadRowLimit("50%", "csv"), IdCounts(None))
    review.count(counted, {})
    return finish.run_record(run, committed, review)


def test_it_is_json(record):
    assert json.loads(json.dumps(record)) == record


def test_every_setting_with_its_value_defaults_included(record):
    assert set(record["settings"]) == set(Settings.model_fields)
    assert record["settings"]["device"] == [0, 2]
    assert record["settings"]["keep_columns"] == ["a", "b"]
    assert record["settings"]["model_dir"] == "/m"
    assert record["settings"]["window_rows"] == 4096
    assert Settings(**record["settings"]) == Settings(**SETTINGS)


def test_the_devices_asked_for_and_used(record):
    assert record["device"] == {"asked": [0, 2], "used": "GPU [0]"}


def test_who_provided_what(record):
    acme = {"distribution": "acme", "version": "2.0"}
    net = {"object": "acme_net:Net", "column": None, "source": None, "given": {}, "used": {"lr": 1}}
    shout = {"object": "acme_steps:Shout", "column": "chat", "source": None, "given": {}, "used": {}}
    assert record["components"] == [
        {"kind": "model_class", "name": "net", **acme, **net},
        {"kind": "step", "name": "acme/shout", **acme, **shout},
    ]


def test_the_artifact_and_the_versions(record):
    assert record["artifact"] == {"model.pth": "ab12"}
    versions = record["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert versions["bsm-core"] == importlib.metadata.version("bsm-core")
    assert {"lightning", "transformers", "tokenizers", "pyarrow", "numpy"} <= set(versions)


def test_each_attempt_of_the_run_with_its_rows(record):
    first = {"attempt": 1, "host": "here", "process": 71, "began": "2026-11-28T10:00:00", "device": "GPU [0]"}
    second = {**first, "attempt": 2, "process": 72, "encoders": {"precision": "fp32"}, "rows": 3}
    assert record["attempts"] == [{**first, "encoders": None, "rows": 4}, second]


def test_the_labels_and_names_of_the_classes(record):
    assert record["labels"] == {"column": "y", "labels": ["3", "x"], "names": ["a", "b"]}


def test_how_far_off_the_check_rows_were(record):
    assert record["self_check"] == {"largest_difference": 2.5e-08}


def test_what_was_written_and_when(record):
    assert (record["rows"], record["windows"], record["counts"]) == (7, 2, {"text:chat": 3})
    assert (record["output"], record["seconds"]) == ("inference_predictions.tsv", 1.235)
    finished = datetime.fromisoformat(record["finished"])
    assert abs((datetime.now(UTC) - finished).total_seconds()) < 60


def test_the_statistics_with_the_names_of_the_classes(record):
    statistics = record["statistics"]
    assert (statistics["rows"], statistics["classes"], statistics["predicted"]) == (7, ["a", "b"], [0, 7])
    assert statistics["probabilities"][1][75] == 7


def test_what_happened_is_all_there(record):
    assert set(record) == {
        *("settings", "device", "components", "attempts", "artifact", "self_check", "versions", "labels"),
        *("rows", "windows", "counts", "finished", "seconds", "output", "embeddings", "profile", "encoders"),
        "statistics",
    }
