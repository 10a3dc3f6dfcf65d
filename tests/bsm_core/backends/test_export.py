from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from support.encoders import BranchingModel, MeanModel, mean_model

from bsm_core import Predictor, cli
from bsm_core.artifact.files import exported
from bsm_core.artifact.provenance_file import read_provenance
from bsm_core.backends import onnx_runtime as onnx_backend
from bsm_core.backends.export import export
from bsm_core.errors import UsageError
from bsm_core.scoring.self_check import add_check
from bsm_core.testing import isolated_registry, toy_artifact

ROWS = pd.DataFrame({"text": ["hello", "is this on", None, "hello again and again"]})


@pytest.fixture
def packages():
    for name in onnx_backend.PACKAGES:
        pytest.importorskip(name)


@pytest.fixture
def registry():
    with isolated_registry(model_classes={"mean": MeanModel, "branching": BranchingModel}) as registry:
        yield registry


@pytest.fixture
def artifact(registry, tmp_path):
    folder = toy_artifact(tmp_path, mean_model(), model_class="mean")
    add_check(folder, ROWS)
    return folder


def test_an_exported_artifact_gives_the_same(packages, artifact, tmp_path, capsys):
    new = tmp_path / "new"
    assert cli.main(["export", str(artifact), str(new)]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{new}\n", "")
    assert [path.relative_to(new).as_posix() for path in exported(new).values()] == ["onnx/text.onnx"]
    assert read_provenance(new).files.keys() >= {"onnx/text.onnx", "self_check.json", "model.safetensors"}
    predictor = Predictor.from_artifact(new, backend="onnx")
    assert predictor.model.text.backend.name == "onnx"
    frame = predictor.predict(ROWS)  # another number of chunks, of other lengths, than was exported
    pd.testing.assert_frame_equal(frame, Predictor.from_artifact(artifact, backend="eager").predict(ROWS), atol=1e-6)


def test_without_the_packages_it_says_what_to_install(artifact, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_backend, "PACKAGES", ("no_such_onnx",))
    assert cli.main(["export", str(artifact), str(tmp_path / "new")]) == 2
    assert "pip install 'bsm-core[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_model_without_encoders_has_nothing_to_export(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_backend, "PACKAGES", ())
    folder = toy_artifact(tmp_path)
    with pytest.raises(UsageError, match="no text encoder to export"):
        export(Predictor.from_artifact(folder).model, folder)


def test_an_encoder_that_cannot_be_exported_is_an_error(packages, registry, tmp_path):
    folder = toy_artifact(tmp_path, mean_model(BranchingModel), model_class="branching")
    with pytest.raises(UsageError, match="encoder 'text' cannot be exported") as caught:
        export(Predictor.from_artifact(folder).model, folder)
    assert caught.value.where == "class BranchingEncoder"
    assert caught.value.details[0].startswith("PyTorch's exporter: ")


def test_an_encoder_of_transformers_that_cannot_be_exported_is_named_by_its_type(
    packages, registry, tmp_path, monkeypatch
):
    def fails(*_, **__):
        raise RuntimeError("Failed to export the model\n\nsee the traceback") from ValueError("step 1\nno fft_fftn")

    monkeypatch.setattr("torch.onnx.export", fails)
    folder = toy_artifact(tmp_path, mean_model(BranchingModel), model_class="branching")
    model = Predictor.from_artifact(folder).model
    monkeypatch.setattr(model.text.table, "config", SimpleNamespace(model_type="fnet"), raising=False)
    with pytest.raises(UsageError, match="of the type 'fnet' cannot be exported to ONNX") as caught:
        export(model, folder)
    assert [*caught.value.details] == ["PyTorch's exporter: no fft_fftn"]
    assert "without --backend onnx" in caught.value.fix
