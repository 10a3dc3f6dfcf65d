"""The contract's script: its functions one by one and in the contract's order, and the script as it is started."""

from __future__ import annotations

import gzip
import importlib.util
import inspect
import logging
import os
import shutil
import tarfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from support.plugins import run_python
from support.processes import python
from torch.utils.data import DataLoader

from bsm_core import Batch, BSMDataset, ModelBase
from bsm_core.errors import DataError, MissingArtifactFilesError, SinkError, UsageError

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/pytorch_model_inference.py"
GOLDENS = ROOT / "tests/data/goldens"
MODEL = GOLDENS / "bimodal_bert/model"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pytorch_model_inference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def artifacts(script):
    return script.load_model_artifacts(MODEL)


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    caplog.set_level(logging.INFO, "bsm")
    return caplog


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are so many GPUs."""

    def pretend(count):
        properties = SimpleNamespace(name="Accelerator", total_memory=16 * 2**30)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: properties)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)

    return pretend


def expected():
    return pd.read_parquet(GOLDENS / "bimodal_bert/expected.parquet")


def test_the_functions_of_the_contract_with_its_arguments(script):
    arguments = {
        "load_model_artifacts": ["model_dir"],
        "_detect_file_format": ["file_path"],
        "load_dataframe_with_format": ["file_path"],
        "save_dataframe_with_format": ["df", "output_path", "format_str"],
        "data_preprocess_pipeline": ["config", "tokenizer"],
        "create_bsm_dataset": ["config", "inference_data_dir", "filename"],
        "apply_preprocessing_artifacts": ["bsm_dataset", "processors", "config"],
        "create_dataloader": ["bsm_dataset", "config"],
        "bsm_collate_batch": ["samples"],
        "setup_device_environment": ["device"],
        "model_inference": ["model", "dataloader", "accelerator", "device", "model_log_path"],
        "generate_predictions": ["model", "dataloader", "device", "accelerator"],
        "save_predictions": ["ids", "y_prob", "id_col", "output_dir", "input_format"],
    }
    for name, names in arguments.items():
        assert list(inspect.signature(getattr(script, name)).parameters) == names
    others = {"create_health_check_file", "is_main_process", "run_batch_inference"}
    assert sorted(script.__all__) == sorted(arguments.keys() | others)


# In the contract's order


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
def test_from_the_artifact_to_the_file_as_the_contract_tells_it(script, artifacts, tmp_path, format):
    model, config, tokenizer, processors = artifacts
    df, found = script.load_dataframe_with_format(GOLDENS / f"golden.{format}")
    assert found == format
    tokenizer, pipelines = script.data_preprocess_pipeline(config, tokenizer)
    dataset = script.create_bsm_dataset(config, GOLDENS, f"golden.{format}")
    for column, pipeline in pipelines.items():
        dataset.add_pipeline(column, pipeline)
    script.apply_preprocessing_artifacts(dataset, processors, config)
    loader = script.create_dataloader(dataset, config)
    assert len(dataset) == 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y_prob = script.generate_predictions(model, loader, *script.setup_device_environment("cpu"))
    assert y_prob.shape == (60, 2)
    assert y_prob.dtype == np.float64
    assert script.save_predictions(df["order_id"], y_prob, "order_id", tmp_path / "out", format) is None
    got, _ = script.load_dataframe_with_format(tmp_path / f"out/inference_predictions.{format}")
    want = expected()
    assert list(got.columns) == list(want.columns) == ["order_id", "prob_class_0", "prob_class_1"]
    assert got["order_id"].tolist() == want["order_id"].tolist()
    assert np.abs(got.iloc[:, 1:].astype(float) - want.iloc[:, 1:]).to_numpy().max() < 1e-5


# load_model_artifacts


def test_the_artifact(artifacts):
    model, config, tokenizer, processors = artifacts
    assert isinstance(model, ModelBase)
    assert not model.training
    assert config["model_class"] == "bimodal_bert"
    assert config["max_sen_len"] == 64
    assert tokenizer("hello")["input_ids"]
    assert set(processors) == {"numerical_processors", "risk_processors"}
    assert {"amount", "age_days"} <= set(processors["numerical_processors"])
    assert {"channel", "country"} <= set(processors["risk_processors"])


def test_an_archive_is_extracted_elsewhere(script, artifacts, tmp_path):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        for path in MODEL.iterdir():
            archive.add(path, path.name)
    tmp_path.chmod(0o500)
    try:
        model, config, _, _ = script.load_model_artifacts(tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]
    assert config == artifacts[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), artifacts[0].parameters(), strict=True))


def test_missing_files_are_all_named(script, tmp_path):
    shutil.copy(MODEL / "hyperparameters.json", tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        script.load_model_artifacts(tmp_path)
    assert isinstance(caught.value, MissingArtifactFilesError)
    assert "model.pth" in str(caught.value)
    assert "model_artifacts.pth" in str(caught.value)


# Files


@pytest.mark.parametrize(
    ("name", "format"), [("a.csv", "csv"), ("a.TSV", "tsv"), ("x/a.parquet", "parquet"), ("a.csv.gz", "csv")]
)
def test_the_format_is_that_of_the_name(script, name, format):
    assert script._detect_file_format(name) == format
    assert script._detect_file_format(Path(name)) == format


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.jsonl", b'{"id": "007"}\n', "csv"),
        ("a.ndjson.gz", gzip.compress(b'{"id": "007"}\n', mtime=0), "csv"),
        ("part-00000", b"id\tx\n007\t1\n", "tsv"),
    ],
)
def test_the_format_is_that_in_which_the_frame_is_saved(script, tmp_path, name, content, format):
    (tmp_path / name).write_bytes(content)
    assert script._detect_file_format(tmp_path / name) == format
    frame, found = script.load_dataframe_with_format(tmp_path / name)
    assert found == format
    assert frame["id"].tolist() == ["007"]
    assert script.save_dataframe_with_format(frame, tmp_path / "out", found).suffix == f".{format}"


def test_no_data_file(script):
    with pytest.raises(DataError, match="not a data file"):
        script._detect_file_format("a.json")


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_cells_stay_as_they_are_typed(script, tmp_path, format):
    frame = pd.DataFrame({"id": ["00123", "NA", "1e5", "  x ", ""], "x": ["1", "", "2.50", '"q"', "a,b\tc"]})
    path = script.save_dataframe_with_format(frame, tmp_path / "a", format)
    assert path == tmp_path / f"a.{format}"
    got, found = script.load_dataframe_with_format(path)
    assert found == format
    pd.testing.assert_frame_equal(got, frame, check_dtype=False)


def test_numbers_are_numbers_and_the_id_is_text(script, tmp_path, monkeypatch):
    rows = ["key,age,amount,score,zip,note", "17,1,2.50,NA,01234,x", "18,,-3,1e5,99999,7", "19, 3 ,,0.5,1,"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("ID_FIELD", "key")
    frame, _ = script.load_dataframe_with_format(tmp_path / "a.csv")
    assert frame["key"].tolist() == ["17", "18", "19"]
    assert frame["zip"].tolist() == ["01234", "99999", "1"]
    assert frame["note"].tolist() == ["x", "7", ""]
    assert {name: str(frame[name].dtype) for name in ("age", "amount", "score")} == {
        "age": "Int64",
        "amount": "float64",
        "score": "float64",
    }
    told = frame[["age", "amount", "score"]].describe()
    assert told.loc["count"].tolist() == [2, 2, 2]
    assert told.loc["mean"].tolist() == [2, -0.25, 50000.25]
    assert frame[["age", "amount", "score"]].isna().sum().tolist() == [1, 1, 1]

    monkeypatch.delenv("ID_FIELD")
    frame, _ = script.load_dataframe_with_format(tmp_path / "a.csv")
    assert frame["amount"].tolist()[:2] == [2.5, -3]
    assert frame["score"].tolist() == ["NA", "1e5", "0.5"]  # it may be the id


IDS = [["00123", "1"], ["9007199254740993"], ["NA", "1"], ["1e5"], ["  x "], ["  7"], ["", "+1"], ["true"]]


@pytest.mark.parametrize("ids", IDS, ids=str)
def test_what_may_be_an_id_is_written_as_it_was_read(script, tmp_path, monkeypatch, ids):
    monkeypatch.delenv("ID_FIELD", raising=False)
    before = "".join(f"{cell},2\n" for cell in ["key", *ids])
    (tmp_path / "a.csv").write_text(before)
    frame, format = script.load_dataframe_with_format(tmp_path / "a.csv")
    assert frame["key"].tolist() == ids
    assert script.save_dataframe_with_format(frame, tmp_path / "b.csv", format).read_text() == before


@pytest.mark.parametrize("name", ["id", "ID", "order_id", "customerId", "customer-Id"])
def test_without_the_variable_a_name_that_ends_in_id_is_that_of_an_id(script, tmp_path, monkeypatch, name):
    monkeypatch.delenv("ID_FIELD", raising=False)
    (tmp_path / "a.csv").write_text(f"{name},paid\n12,1\n,2\n")
    frame, _ = script.load_dataframe_with_format(tmp_path / "a.csv")
    assert frame[name].tolist() == ["12", ""]
    assert frame["paid"].tolist() == [1, 2]


def test_numbers_of_json_lines_and_nullable_ones_of_parquet(script, tmp_path, monkeypatch):
    monkeypatch.setenv("ID_FIELD", "key")
    (tmp_path / "a.jsonl").write_text('{"key": 7, "age": 1}\n{"key": 8, "age": null}\n')
    pq.write_table(pa.table({"key": [7, None], "age": pa.array([1, None], pa.uint8())}), tmp_path / "a.parquet")
    for name, keys, kind in (("a.jsonl", ["7", "8"], "Int64"), ("a.parquet", [7, None], "UInt8")):
        frame, _ = script.load_dataframe_with_format(tmp_path / name)
        assert frame["key"].tolist() == keys
        assert str(frame["age"].dtype) == kind
        assert frame["age"].describe()["count"] == 1


def test_the_folder_of_a_file_is_made(script, tmp_path):
    path = script.save_dataframe_with_format(pd.DataFrame({"a": [1]}), tmp_path / "new/folder/a", "tsv")
    assert path.read_text() == "a\n1\n"
    with pytest.raises(SinkError, match="could not be written"):
        script.save_dataframe_with_format(pd.DataFrame({"a": [1]}), path / "a", "csv")


def test_parquet_keeps_types_and_the_ids_of_a_column_with_nulls(script, tmp_path):
    frame = pd.DataFrame({"id": [9007199254740993, 2], "x": [0.5, 1.5], "s": ["a", None]})
    path = script.save_dataframe_with_format(frame, str(tmp_path / "a.csv"), "parquet")
    assert path == tmp_path / "a.parquet"
    got, found = script.load_dataframe_with_format(str(path))
    assert found == "parquet"
    pd.testing.assert_frame_equal(got, frame, check_dtype=False)
    assert got["id"].dtype == np.int64

    frame["id"] = pd.array([9007199254740993, None], dtype="Int64")
    got, _ = script.load_dataframe_with_format(script.save_dataframe_with_format(frame, path, "parquet"))
    assert got["id"].tolist() == [9007199254740993, None]
    assert pq.read_schema(script.save_dataframe_with_format(got, path, "parquet")).field("id").type == "int64"


def test_a_folder_in_which_a_column_has_two_types(script, tmp_path):
    pq.write_table(pa.table({"id": ["a"], "x": [2**53 + 1], "y": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["b"], "x": [0.5], "y": [2]}), tmp_path / "b.parquet")
    frame, _ = script.load_dataframe_with_format(tmp_path)
    assert frame.to_dict("list") == {"id": ["a", "b"], "x": [2**53 + 1, 0.5], "y": [1, 2]}


def test_a_format_that_is_none(script, tmp_path):
    with pytest.raises(DataError, match="not a data file"):
        script.save_dataframe_with_format(pd.DataFrame({"a": [1]}), tmp_path / "a", "json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_utf8(script, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,name\n1,caf\xe9\n")
    with pytest.raises(DataError, match="column 'name' is not UTF-8"):
        script.load_dataframe_with_format(tmp_path / "a.csv")


def test_a_column_that_is_there_twice(script, tmp_path):
    (tmp_path / "a.csv").write_text("id,id\n1,2\n")
    with pytest.raises(DataError, match="more than once: 'id'"):
        script.load_dataframe_with_format(tmp_path / "a.csv")


# Preprocessing


def test_the_pipelines_of_a_bimodal_config(script, artifacts):
    _, config, tokenizer, _ = artifacts
    same, pipelines = script.data_preprocess_pipeline(config, tokenizer)
    assert same is tokenizer
    assert list(pipelines) == ["dialogue"]
    tokens, failed = pipelines["dialogue"](["[bom] hello <b>world</b> [eom]", ""])
    assert len(tokens) == 2
    assert tokens[0][0][1:-1] == tokenizer("hello world", add_special_tokens=False)["input_ids"]
    assert not failed


def test_the_pipelines_of_a_trimodal_config(script, artifacts):
    _, _, tokenizer, _ = artifacts
    texts = {"primary_text_name": "chat", "secondary_text_name": "events"}
    _, pipelines = script.data_preprocess_pipeline({"model_class": "trimodal_bert", **texts}, tokenizer)
    full = ["dialogue_splitter", "html_normalizer", "emoji_remover", "text_normalizer", "dialogue_chunker", "tokenizer"]
    assert {column: [c.name for c in pipeline.components] for column, pipeline in pipelines.items()} == {
        "chat": full,
        "events": [full[0], *full[3:]],
    }
    steps = {"primary_text_processing_steps": full[-2:], "secondary_text_processing_steps": None}
    _, pipelines = script.data_preprocess_pipeline({"model_class": "trimodal_bert", **texts, **steps}, tokenizer)
    assert [c.name for c in pipelines["chat"].components] == full[-2:]
    assert len(pipelines["events"].components) == 4


def test_the_dataset_needs_no_label_and_fills_missing_categories(script, artifacts, tmp_path):
    table = pa.table({"order_id": ["1", "2"], "channel": ["web", None], "amount": [1.0, None]})
    pq.write_table(table, tmp_path / "rows.parquet")
    config = {**artifacts[1], "cat_field_list": ["channel", "not_there"]}
    dataset = script.create_bsm_dataset(config, str(tmp_path), "rows.parquet")
    assert isinstance(dataset, BSMDataset)
    assert dataset.rows == 2
    assert dataset.columns["channel"].to_pylist() == ["web", ""]
    assert dataset.columns["amount"].to_pylist() == [1.0, None]
    script.create_bsm_dataset({**config, "cat_field_list": None}, tmp_path, "rows.parquet")


def test_processors_are_registered_where_the_dataset_has_the_feature_and_it_is_no_text(script, artifacts):
    _, config, _, processors = artifacts
    risk = next(iter(processors["risk_processors"].values()))
    impute = next(iter(processors["numerical_processors"].values()))
    dataset = script.create_bsm_dataset(config, GOLDENS, "golden.parquet")
    added = []
    dataset.add_pipeline = lambda name, processor: added.append((name, processor))
    some = {
        "numerical_processors": {"amount": impute, "not_there": impute},
        "risk_processors": {"dialogue": risk, "channel": risk, "not_there": risk},
    }
    assert script.apply_preprocessing_artifacts(dataset, some, config) is None
    assert added == [("amount", impute), ("channel", risk)]


def test_the_loader_keeps_the_order_and_tells_of_odd_cells(script, artifacts, tmp_path, log):
    _, config, tokenizer, processors = artifacts
    rows = pd.read_csv(GOLDENS / "golden.csv", dtype=str, keep_default_na=False)[:4]
    rows["amount"] = ["0.5", "many", "12.5", "-3"]
    script.save_dataframe_with_format(rows, tmp_path / "rows", "csv")
    dataset = script.create_bsm_dataset(config, tmp_path, "rows.csv")
    for column, pipeline in script.data_preprocess_pipeline(config, tokenizer)[1].items():
        dataset.add_pipeline(column, pipeline)
    script.apply_preprocessing_artifacts(dataset, processors, config)
    loader = script.create_dataloader(dataset, config)
    assert isinstance(loader, DataLoader)
    (batch,) = loader
    assert isinstance(batch, Batch)
    assert batch.rows == 4
    assert batch.features.shape == (4, 7)
    amounts = batch.features[:, config["tab_field_list"].index("amount")].tolist()
    assert [amounts[i] for i in (0, 2, 3)] == [0.5, 12.5, -3.0]
    assert "column 'amount': 1 cell(s)" in log.text


def dataset_of(script, artifacts, rows, folder):
    """The first rows of the goldens as a dataset that is ready to be loaded."""
    _, config, tokenizer, processors = artifacts
    pq.write_table(pq.read_table(GOLDENS / "golden.parquet").slice(0, rows), folder / "rows.parquet")
    dataset = script.create_bsm_dataset(config, folder, "rows.parquet")
    for column, pipeline in script.data_preprocess_pipeline(config, tokenizer)[1].items():
        dataset.add_pipeline(column, pipeline)
    script.apply_preprocessing_artifacts(dataset, processors, config)
    return dataset


def test_the_loader_has_the_batch_size_of_the_config(script, artifacts, tmp_path):
    model, config, _, _ = artifacts
    dataset = dataset_of(script, artifacts, 7, tmp_path)
    found = {}
    for size in (3, 32, None):
        loader = script.create_dataloader(dataset, {**config, "batch_size": size})
        assert loader.batch_size == (size or 32)
        assert loader.dataset is dataset
        assert loader.collate_fn is script.bsm_collate_batch
        assert [batch.rows for batch in loader] == ([3, 3, 1] if size == 3 else [7])
        found[size] = script.generate_predictions(model, loader, "cpu", "cpu")
    assert np.abs(found[3] - found[32]).max() < 2e-6
    assert np.abs(found[3] - expected().iloc[:7, 1:]).to_numpy().max() < 1e-5


def test_a_row_of_the_dataset(script, artifacts, tmp_path):
    _, config, tokenizer, _ = artifacts
    dataset = dataset_of(script, artifacts, 3, tmp_path)
    first = dataset[0]
    assert first["order_id"] == expected()["order_id"][0]
    assert all(set(chunk) == {"input_ids", "attention_mask"} for chunk in first["dialogue"])
    ids = first["dialogue"][0]["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert "help" in tokenizer.decode(ids)
    assert first["dialogue"][0]["attention_mask"] == [1] * len(ids)
    assert all(isinstance(first[name], float) for name in config["tab_field_list"])
    batch = script.bsm_collate_batch([dataset[2], dataset[0]])
    whole, _ = dataset.to_batch()
    assert torch.equal(batch.features, whole.features[[2, 0]])
    rows = whole.texts["dialogue"].to_rows()
    assert batch.texts["dialogue"].to_rows() == [rows[2], rows[0]]
    assert batch.names([0, 1]) == [2, 0]


# Devices


@pytest.mark.parametrize(
    ("device", "count", "setting"),
    [
        ("auto", 4, (4, "gpu")),
        ("auto", 1, (1, "gpu")),
        ("auto", 0, ("cpu", "cpu")),
        ("cpu", 4, ("cpu", "cpu")),
        ("gpu", 4, (1, "gpu")),
        ("cuda", 4, (1, "gpu")),
        (2, 4, (2, "gpu")),
        ("2", 4, (2, "gpu")),
        ([0, 2], 4, ([0, 2], "gpu")),
        ("[0,2]", 4, ([0, 2], "gpu")),
        (4, 2, (2, "gpu")),
        ([0, 2], 1, ([0], "gpu")),
        (2, 0, ("cpu", "cpu")),
        ("gpu", 0, ("cpu", "cpu")),
    ],
)
def test_the_device_and_the_accelerator(script, gpus, log, device, count, setting):
    gpus(count)
    assert script.setup_device_environment(device) == setting
    assert torch.backends.cudnn.benchmark == (setting[1] == "gpu")
    assert ("asked for" in log.text) == ((device, count) in [(4, 2), ([0, 2], 1), (2, 0), ("gpu", 0)])


def test_the_gpus_are_named(script, gpus, log):
    gpus(3)
    script.setup_device_environment([0, 2])
    assert [r.getMessage() for r in log.records] == ["GPU 0: Accelerator, 16.0 GiB", "GPU 2: Accelerator, 16.0 GiB"]


def test_no_device(script):
    with pytest.raises(UsageError, match="many"):
        script.setup_device_environment("many")


# Predictions


def test_predictions_of_no_rows(script, artifacts, tmp_path):
    model, config, tokenizer, _ = artifacts
    (tmp_path / "a.csv").write_text((GOLDENS / "golden.csv").read_text().splitlines()[0] + "\n")
    dataset = script.create_bsm_dataset(config, tmp_path, "a.csv")
    for column, pipeline in script.data_preprocess_pipeline(config, tokenizer)[1].items():
        dataset.add_pipeline(column, pipeline)
    y_prob = script.generate_predictions(model, script.create_dataloader(dataset, config), "cpu", "cpu")
    assert y_prob.shape == (0, 2)
    script.save_predictions([], y_prob, "order_id", tmp_path, "tsv")
    assert (tmp_path / "inference_predictions.tsv").read_text() == "order_id\tprob_class_0\tprob_class_1\n"


def test_inference_as_the_contract_calls_it_without_the_gpus(script, artifacts, tmp_path, log):
    loader = script.create_dataloader(dataset_of(script, artifacts, 2, tmp_path), artifacts[1])
    y_pred, _ = script.model_inference(artifacts[0], loader, accelerator="gpu", device=4, model_log_path=None)
    assert np.abs(y_pred - expected().iloc[:2, 1:]).to_numpy().max() < 1e-5
    assert "4" in log.text
    assert "using 1 CPU process(es)" in log.text
    assert script.is_main_process()


def test_only_one_process_is_the_main_one(script, monkeypatch):
    monkeypatch.setattr(script.rank_zero_only, "rank", 1)
    assert not script.is_main_process()


def test_predictions_are_written_with_their_ids(script, tmp_path, log):
    probabilities = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], dtype=np.float32)
    script.save_predictions(["007", "b,c"], probabilities, "customer", str(tmp_path / "out"), "csv")
    path = tmp_path / "out/inference_predictions.csv"
    assert path.read_text() == ('customer,prob_class_0,prob_class_1,prob_class_2\n007,0.25,0.5,0.25\n"b,c",1,0,0\n')
    assert [p.name for p in (tmp_path / "out").iterdir()] == [path.name]
    assert str(path) in log.text


def test_predictions_that_cannot_be_written(script, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError):
        script.save_predictions(["1"], np.ones((1, 2)), "id", tmp_path / "file", "csv")


def test_the_health_check(script, tmp_path):
    script.create_health_check_file(tmp_path)
    assert (tmp_path / "_HEALTH").read_text().startswith("healthy: 20")
    assert (tmp_path / "_SUCCESS").read_bytes() == b""


# What the contract's document shows, as it stands


def test_its_algorithms(script, artifacts, tmp_path):
    model, config, tokenizer, processors = artifacts
    shutil.copy(GOLDENS / "golden.parquet", tmp_path / "data.parquet")
    bsm_dataset = script.create_bsm_dataset(config, tmp_path, "data.parquet")
    tokenizer, text_pipelines = script.data_preprocess_pipeline(config, tokenizer)

    # "BSMDataset Pipeline Registration"
    for text_field, pipeline in text_pipelines.items():
        bsm_dataset.add_pipeline(text_field, pipeline)
    for feature, processor in processors["numerical_processors"].items():
        if feature in bsm_dataset:
            bsm_dataset.add_pipeline(feature, processor)
    text_field_names = {config.get("text_name"), config.get("primary_text_name"), config.get("secondary_text_name")}
    for feature, processor in processors["risk_processors"].items():
        if feature not in text_field_names and feature in bsm_dataset:
            bsm_dataset.add_pipeline(feature, processor)

    # "Multi-GPU Distributed Inference with Synchronization", where there is no GPU
    ids = script.load_dataframe_with_format(tmp_path / "data.parquet")[0]["order_id"]
    dataloader = script.create_dataloader(bsm_dataset, config)
    y_pred, _ = script.model_inference(model, dataloader, accelerator="gpu", device=4)
    if script.is_main_process():
        script.save_predictions(ids, y_pred, "order_id", tmp_path / "out", "csv")
        script.create_health_check_file(tmp_path / "out")
    if dist.is_initialized():
        dist.barrier()
    got = pd.read_csv(tmp_path / "out/inference_predictions.csv", dtype={"order_id": str}, keep_default_na=False)
    assert got["order_id"].tolist() == expected()["order_id"].tolist()
    assert np.abs(got.iloc[:, 1:] - expected().iloc[:, 1:]).to_numpy().max() < 1e-5
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"_SUCCESS", "_HEALTH"}


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_its_troubleshooting(script, artifacts, monkeypatch, format):
    monkeypatch.setenv("ID_FIELD", "order_id")
    model, config, _, processors = artifacts
    df, _ = script.load_dataframe_with_format(GOLDENS / f"golden.{format}")
    assert config.get("text_name") in df.columns.tolist()
    assert "BertTextEncoder" in str(model)
    tab_field_list = config["tab_field_list"]
    numbers = [name for name in tab_field_list if name not in processors["risk_processors"]]
    told = df[tab_field_list].describe()
    raw = pd.read_parquet(GOLDENS / "golden.parquet")[numbers].astype(float)
    assert numbers == told.columns.tolist()
    assert np.allclose(told.loc["mean"], raw.mean())
    assert df[numbers].isna().sum().tolist() == raw.isna().sum().tolist()


def test_its_errors(script, artifacts, tmp_path):
    shutil.copytree(MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer"))
    with pytest.raises(OSError, match="tokenizer"):
        script.load_model_artifacts(tmp_path / "model")
    (tmp_path / "data").mkdir()
    places = {"model_dir": MODEL, "data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    with pytest.raises(RuntimeError, match="no data file"):
        script.run_batch_inference({"ID_FIELD": "order_id"}, job_type="inference", **places)
    (tmp_path / "data/a.csv").write_text("order_id,dialogue\n1,a\n")
    with pytest.raises(KeyError, match="'amount'"):
        script.create_dataloader(script.create_bsm_dataset(artifacts[1], tmp_path / "data", "a.csv"), artifacts[1])


# The whole job


def test_run_batch_inference(script, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copy(GOLDENS / "golden.csv", tmp_path / "data")
    places = {"model_dir": MODEL, "data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    env = {"ID_FIELD": "order_id", "OUTPUT_FORMAT": "parquet"}
    assert script.run_batch_inference(env, job_type="inference", device="cpu", **places) is None
    got = pd.read_parquet(tmp_path / "out/inference_predictions.parquet")
    assert got["order_id"].tolist() == expected()["order_id"].tolist()
    assert (got.iloc[:, 1:] - expected().iloc[:, 1:]).abs().to_numpy().max() < 1e-5
    assert (tmp_path / "out/_SUCCESS").exists()
    with pytest.raises(UsageError, match="model_dir"):
        script.run_batch_inference(env, job_type="inference", model_dri=MODEL)


def test_wrong_flags_do_not_wait_for_torch():
    code = f"""
        import runpy, sys
        sys.argv = ["script", "--job_type", "guessing"]
        try:
            runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
        except SystemExit as end:
            print(end.code, "torch" in sys.modules)
    """
    assert run_python(code) == "2 False"


def test_the_script_as_the_contract_starts_it(tmp_path):
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "data").mkdir()
    shutil.copy(GOLDENS / "golden.tsv", tmp_path / "data")
    (tmp_path / "data/_SUCCESS").touch()
    env = {
        "ID_FIELD": "order_id",
        "DEVICE": "cpu",
        "ACCELERATOR": "auto",
        "BATCH_SIZE": "32",
        "NUM_WORKERS": "0",
    }
    command = [SCRIPT, "--job_type", "inference"]
    places = [word for n in ("model", "data", "output") for word in (f"--{n}-dir", str(tmp_path / n))]
    done = python(*command, *places, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "output").iterdir()) == [
        *("_HEALTH", "_SUCCESS", "inference_predictions.tsv")
    ]
    assert len((tmp_path / "output/inference_predictions.tsv").read_text().splitlines()) == 61
    assert "Warning" not in done.stderr
