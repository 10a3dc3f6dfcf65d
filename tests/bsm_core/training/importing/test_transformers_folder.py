from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.classifiers import save_classifier
from transformers import AutoTokenizer

from bsm_core.artifact import Artifact
from bsm_core.errors import (
    ArtifactError,
    ConfigError,
    CorruptArtifactError,
    MissingArtifactFilesError,
    TokenizerError,
    UnsafeArtifactError,
    UsageError,
    WeightsMismatchError,
)
from bsm_core.training import import_model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("saved") / "classifier", labels=("bad", "fine", "good"))


@pytest.fixture
def source(classifier, tmp_path):
    return shutil.copytree(classifier, tmp_path / "classifier")


def change(source: Path, **values) -> None:
    """Set keys of ``config.json``; a key whose value is None is removed."""
    path = source / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def weights_of(source: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(source / "model.safetensors")


def imported(source: Path, **options) -> Artifact:
    artifact = import_model(source, source.parent / "artifact", text_column="review", **options)
    return Artifact.load(artifact)


def refused(source: Path, error: type[Exception], **options) -> str:
    with pytest.raises(error) as caught:
        imported(source, **options)
    assert not (source.parent / "artifact").exists()
    assert [path.name for path in source.parent.iterdir()] == ["classifier"]  # nothing is left behind
    return str(caught.value)


def test_what_the_artifact_holds(source):
    artifact = imported(source)
    config = artifact.config
    assert (config.model_class, config.text_name, config.max_sen_len) == ("transformers_classifier", "review", 512)
    assert (config.num_classes, config.is_binary, config.classes) == (3, False, ["bad", "fine", "good"])
    assert [step.name for step in config.text_processing_steps] == ["tokenizer"]
    assert not any(path.name.endswith((".pkl", "model.pth")) for path in artifact.folder.rglob("*"))
    own = weights_of(source)
    assert artifact.weights.keys() == {f"classifier.model.{name}" for name in own}
    assert all(torch.equal(artifact.weights[f"classifier.model.{name}"], value) for name, value in own.items())
    assert artifact.provenance is not None
    assert artifact.provenance.components[0].object == "bsm_plugins_models.text:TransformersClassifier"
    assert str(source) not in (artifact.folder / "hyperparameters.json").read_text()


def test_the_same_source_makes_the_same_bytes(source, tmp_path):
    one, other = (import_model(source, tmp_path / f"{name}.tar.gz", text_column="review") for name in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("form", ["shards", "bin", "bin shards", "archive"])
def test_the_forms_of_weights(source, form):
    weights = weights_of(source)
    want = {f"classifier.model.{name}": value for name, value in weights.items()}
    if form != "archive":
        (source / "model.safetensors").unlink()
    if form == "bin":
        torch.save(weights, source / "pytorch_model.bin")
    elif form in ("shards", "bin shards"):
        first, end = ("pytorch_model", "bin") if form == "bin shards" else ("model", "safetensors")
        index = {name: f"{first}-0000{1 + i % 2}-of-00002.{end}" for i, name in enumerate(weights)}
        for shard in set(index.values()):
            part = {name: value for name, value in weights.items() if index[name] == shard}
            torch.save(part, source / shard) if end == "bin" else safetensors.torch.save_file(part, source / shard)
        (source / f"{first}.{end}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    if form == "archive":
        source = Path(shutil.make_archive(str(source.parent / "packed"), "gztar", source))
    artifact = imported(source)
    assert artifact.weights.keys() == want.keys()
    assert all(torch.equal(artifact.weights[name], value) for name, value in want.items())


def test_an_archive_whose_weights_have_another_name_is_to_be_unpacked(source):
    torch.save(weights_of(source), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    packed = Path(shutil.make_archive(str(source.parent / "packed"), "gztar", source))
    with pytest.raises(MissingArtifactFilesError) as caught:
        imported(packed)
    assert caught.value.fix == "if the archive has them, unpack it, and give the folder"


def test_the_encoder_limits_the_length(source, tmp_path_factory):
    short = save_classifier(tmp_path_factory.mktemp("short") / "classifier", max_position_embeddings=40)
    assert imported(short).config.max_sen_len == 40
    told = refused(source, UsageError, max_sen_len=600)
    assert "max_sen_len is 600, the encoder has positions for 512 tokens" in told
    assert "the tokenizer adds 2 special tokens" in refused(source, UsageError, max_sen_len=2)
    assert imported(source, max_sen_len=20).config.max_sen_len == 20


def test_the_tokenizer_limits_the_length(source):
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 8}))
    assert imported(source).config.max_sen_len == 8


def test_links_to_places_outside_are_refused(source, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret.json"
    secret.write_text("{}")
    (source / "tokenizer_link.json").symlink_to(secret)
    (source / ".token.json").symlink_to(secret)
    told = refused(source, UnsafeArtifactError)
    assert "2 file(s) are links to places outside of the folder" in told
    assert f"tokenizer_link.json -> {secret}" in told


def test_links_into_a_hugging_face_cache(source, tmp_path):
    (tmp_path / "blobs").mkdir()
    snapshot = tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for path in source.iterdir():
        (snapshot / path.name).symlink_to(shutil.copy(path, tmp_path / "blobs"))
    assert import_model(snapshot, tmp_path / "artifact", text_column="review").is_dir()


def test_a_hyperparameters_file_of_another_tool(source):
    (source / "hyperparameters.json").write_text('{"epochs": "3"}')
    assert imported(source).config.model_class == "transformers_classifier"


def test_weights_that_transformers_does_not_use_are_passed_over(source, caplog):
    weights = weights_of(source) | {"cls.predictions.bias": torch.ones(3)}
    safetensors.torch.save_file(weights, source / "model.safetensors")
    imported(source)
    assert "no place for are passed over: 'classifier.model.cls.predictions.bias'" in caplog.text


def test_nothing_is_said_of_names_that_are_those_of_transformers(source, caplog):
    caplog.set_level("INFO")
    imported(source)
    assert "the names of all weights" not in caplog.text


def test_weights_under_the_names_of_the_code_that_a_type_comes_from(tmp_path):
    source = save_classifier(tmp_path / "classifier", "gte")
    weights = weights_of(source)
    assert any("qkv_proj" in name for name in weights)
    half = {name: value.half() for name, value in weights.items()}
    safetensors.torch.save_file(half, source / "model.safetensors", {"format": "pt"})
    assert {value.dtype for value in imported(source).weights.values()} == {torch.float32}
    shutil.rmtree(tmp_path / "artifact")
    del weights["classifier.bias"]
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    told = refused(source, WeightsMismatchError)
    assert "in 1 place(s)" in told
    assert "missing: classifier.model.classifier.bias [2]" in told
    change(source, intermediate_size=20)
    assert "mlp.down_proj.weight is [16, 24], the model has [16, 20]" in refused(source, WeightsMismatchError)


@pytest.mark.parametrize("family", ["bert", "gte"])
def test_quantized_weights_are_refused(family, tmp_path):
    source = save_classifier(tmp_path / "classifier", family)
    weights = weights_of(source)
    name = next(name for name, value in weights.items() if value.ndim == 2 and "attention" in name)
    for dtype in (torch.float8_e4m3fn, torch.int8):
        small = {**weights, name: weights[name].to(dtype)}
        safetensors.torch.save_file(small, source / "model.safetensors", {"format": "pt"})
        refused(source, WeightsMismatchError)
    for end in ("SCB", "weight_scale_inv", "qzeros", "weight.absmax"):
        scaled = {**weights, f"{name.removesuffix('weight')}{end}": torch.ones(16)}
        safetensors.torch.save_file(scaled, source / "model.safetensors", {"format": "pt"})
        assert "save it dequantized" in refused(source, WeightsMismatchError)
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    change(source, quantization_config={"quant_method": "fp8"})
    assert "the weights are quantized ({'quant_method': 'fp8'})" in refused(source, ConfigError)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ({"problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({"problem_type": "regression"}, "regression"),
        ({"id2label": {"0": "score"}}, "regression (1 label(s))"),
        ({"id2label": {"0": "a", "2": "b"}}, "expected a name for each class"),
        ({"id2label": ["a", "b"]}, "expected a name for each class"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 2}, "id2label names 3 classes, num_labels is 2"),
        ({"id2label": {"0": "a", "1": "a", "2": "c"}}, "id2label has 3 names, 2 of them different"),
        ({"id2label": {"0": "a", "1": "", "2": "c"}}, "in which a class has no name"),
        ({"id2label": {"0": "a", "1": None, "2": "c"}}, "in which a class has no name"),
        ({"id2label": {"0": "a", "1": ["b"], "2": "c"}}, "in which a class has no name"),
        ({"model_type": "new", "auto_map": {"AutoModel": "code.New"}}, "code of its own, in auto_map"),
        ({"model_type": "gpt2"}, "bsm does not support model_type 'gpt2'"),
        ({"model_type": None}, "no sequence classifier of model_type"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"num_hidden_layers": 10**5}, "num_hidden_layers is 100000"),
    ],
)
def test_configs_that_cannot_be_used(source, values, told):
    change(source, **values)
    assert told in refused(source, ConfigError)


def test_code_of_a_known_type_is_not_run_and_said(source, caplog):
    change(
        source,
        auto_map={"AutoModelForSequenceClassification": "code.Evil"},
        architectures=["EvilForSequenceClassification"],
    )
    (source / "code.py").write_text("raise SystemExit(7)\n")
    imported(source)
    assert "comes with code of its own, which bsm never runs" in caplog.text
    assert "saved as a EvilForSequenceClassification; BertForSequenceClassification is used" in caplog.text


@pytest.mark.parametrize("labels", [2, 4])
def test_names_of_another_number_of_classes(source, labels):
    change(source, id2label={str(i): str(i) for i in range(labels)})
    told = refused(source, WeightsMismatchError)
    assert f"shape: classifier.model.classifier.weight is [3, 16], the model has [{labels}, 16]" in told
    assert f"its id2label names {labels} classes" in told


def test_missing_weights_are_listed(source):
    weights = weights_of(source)
    del weights["classifier.bias"], weights["bert.pooler.dense.bias"]
    safetensors.torch.save_file(weights, source / "model.safetensors")
    told = refused(source, WeightsMismatchError)
    assert "missing: classifier.model.classifier.bias [3]" in told
    assert "missing: classifier.model.bert.pooler.dense.bias [16]" in told
    assert "2 place(s)" in told


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_pickled_code_is_not_run(source, capsys):
    (source / "model.safetensors").unlink()
    torch.save({"classifier.weight": Evil()}, source / "pytorch_model.bin")
    assert "refers to 'print'" in refused(source, UnsafeArtifactError)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refused(source, ArtifactError)
    assert capsys.readouterr().out == ""


def test_no_tokenizer(source):
    for path in source.glob("token*"):
        path.unlink()
    assert "the folder has no tokenizer" in refused(source, TokenizerError)


def test_no_weights(source):
    (source / "model.safetensors").unlink()
    assert "pytorch_model.bin" in refused(source, MissingArtifactFilesError)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        ({"weight_map": {"a": "../outside.safetensors"}}, CorruptArtifactError),
        ({"weight_map": {"a": "gone.safetensors"}}, MissingArtifactFilesError),
        ({"weight_map": {"a": 3}}, CorruptArtifactError),
        ({"weight_map": {"nobody.has": "shard.safetensors"}}, CorruptArtifactError),
        ({}, CorruptArtifactError),
    ],
)
def test_indexes_of_shards_that_cannot_be_used(source, index, error):
    (source / "model.safetensors").rename(source / "shard.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(source, error)


def test_a_tokenizer_of_another_model(source):
    change(source, vocab_size=20)
    assert "has 90 tokens, the encoder has 20" in refused(source, CorruptArtifactError)


def test_tokens_that_were_added_later(source, caplog):
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(source)
    imported(source)
    assert "the tokenizer has 2 added tokens for which the encoder has no vectors" in caplog.text


def test_an_artifact_is_asked_for_where_a_classifier_is(source):
    with pytest.raises(MissingArtifactFilesError) as caught:
        Artifact.load(source)
    assert "`bsm import FOLDER NEW --text-column COLUMN`" in caught.value.fix


def test_the_column_is_needed_and_a_config_is_not_taken(source, tmp_path):
    with pytest.raises(UsageError, match="text_column is missing"):
        import_model(source, tmp_path / "artifact")
    assert "config cannot be used" in refused(source, UsageError, config="config.json")
    assert "max_sen_len=0" in refused(source, UsageError, max_sen_len=0)
