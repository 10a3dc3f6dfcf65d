from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from support.toy import toy_rows, write_toy_artifact

from bsm_core import Predictor
from bsm_core.artifact import Artifact
from bsm_core.errors import MissingArtifactFilesError, UsageError
from bsm_core.integrations import mlflow
from bsm_core.scoring.provenance import add_provenance


def test_without_mlflow_the_error_says_what_to_install(toy_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow, "find_spec", lambda name: None)
    for call in (mlflow.save_model, mlflow.log_model):
        with pytest.raises(UsageError, match="needs MLflow") as caught:
            call(toy_artifact, tmp_path / "new")
        assert caught.value.fix == "pip install 'bsm-core[mlflow]'"
    assert not (tmp_path / "new").exists()


def test_an_artifact_that_cannot_be_used_is_not_stored(toy_artifact, tmp_path):
    pytest.importorskip("mlflow")
    (toy_artifact / "hyperparameters.json").unlink()
    with pytest.raises(MissingArtifactFilesError):
        mlflow.save_model(toy_artifact, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_mlflow_loads_scores_as_the_predictor_does(toy_artifact):
    loaded = mlflow._load_pyfunc(str(toy_artifact), {"batch_size": 2, "on_bad_row": "null"})
    assert loaded.predictor.model.token_budget.tokens == 16
    assert loaded.predict(toy_rows(3)).equals(Predictor.from_artifact(toy_artifact, batch_size=2).predict(toy_rows(3)))


def test_tags_are_those_of_the_record_of_what_made_the_artifact(toy_site, tmp_path):
    folder = write_toy_artifact(tmp_path / "model", class_names=["good", "bad"])
    predictor = Predictor.from_artifact(folder)
    tags = mlflow.tags_of(Artifact.load(folder), predictor)
    assert (tags["bsm.model_class"], tags["bsm.classes"]) == ("toy_model", "good, bad")
    assert tags["bsm.components"].split("; ") == [
        "model_class toy_model of toy-bsm 1.0",
        "step toy_trap of toy-bsm 1.0",
        "step toy_tokens of toy-bsm 1.0",
    ]
    assert not [key for key in tags if key.startswith("bsm.trained_with")]
    add_provenance(folder, predictor)
    recorded = mlflow.tags_of(Artifact.load(folder), predictor)
    assert recorded["bsm.trained_with.torch"]
    assert recorded["bsm.files"] != tags["bsm.files"]  # the record is a file, too


def test_requirements_are_versions_that_an_index_has(toy_artifact, monkeypatch):
    versions = {"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "unknown"}
    monkeypatch.setattr(mlflow, "installed", lambda: versions)
    found = mlflow.requirements_of(Predictor.from_artifact(toy_artifact))
    assert [line.partition("==")[0] for line in found] == ["bsm-core", "torch", "toy-bsm"]
    assert "torch==2.13.0" in found


def test_metadata_and_tags_may_be_none(monkeypatch):
    given = []
    stand_in = SimpleNamespace(save_model=lambda path, **options: given.append(options))
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(pyfunc=stand_in))
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", stand_in)
    monkeypatch.setattr(mlflow, "_prepared", lambda artifact: nullcontext(({}, {"bsm.version": "1"})))
    stand_in.log_model = lambda name, **options: given.append(options)
    for metadata in (None, {"team": "reviews"}):
        mlflow.save_model("model", "new", metadata=metadata)
        mlflow.log_model("model", metadata=metadata, tags=None)
        told = {"bsm.version": "1", **(metadata or {})}
        assert given[-2:] == [{"metadata": told}, {"metadata": told, "tags": {"bsm.version": "1"}}]
