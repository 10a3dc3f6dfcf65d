"""Artifacts as training jobs write them, and the probabilities of each row computed by itself in float32.

To keep the archives small, what no row of the input reaches is zeros in them: embeddings of tokens that no text has, of
positions beyond ``max_sen_len``, and the ``embedding_mat`` that training started from. The three cases of
``bimodal_bert`` are as they were.
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from support.processes import descendants

from bsm_core import Artifact, Predictor
from bsm_core.artifact import unpacked
from bsm_core.errors import UsageError
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.runtime.cpus import cores
from bsm_core.scoring import job

GOLDENS = Path(__file__).parents[1] / "data/goldens"
CASES = sorted(path.parent.name for path in GOLDENS.glob("*/expected.parquet"))


def score(case, tmp_path, format="csv", **flags):
    (tmp_path / "data").mkdir()
    shutil.copy(GOLDENS / f"golden.{format}", tmp_path / "data")
    places = {"model_dir": GOLDENS / case / "model", "data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    return job.run({"job_type": "validation", "device": "cpu", **places, **flags}, {"ID_FIELD": "order_id"}).path


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"order_id": str})


def check(case, path):
    got, want = read(path), pd.read_parquet(GOLDENS / case / "expected.parquet")
    assert list(got.columns) == list(want.columns)
    assert got["order_id"].tolist() == want["order_id"].tolist()
    assert (got.iloc[:, 1:] - want.iloc[:, 1:]).abs().to_numpy().max() < 1e-5


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("case", CASES)
def test_every_case_in_every_format(case, format, tmp_path):
    check(case, score(case, tmp_path, format))


@pytest.mark.parametrize("case", ["bimodal_bert_trunc", "lstm", "trimodal_bert"])
def test_every_token_of_a_cell_has_a_place(case):
    """But for special tokens, and the chunk of a cell without text."""
    rows = pd.read_parquet(GOLDENS / "golden.parquet")
    with unpacked(GOLDENS / case / "model") as folder:
        artifact = Artifact.load(folder)
        for column, pipeline in text_pipelines(artifact.config, artifact.tokenizer).items():
            cells = rows[column].fillna("").tolist()
            traced = [pipeline.trace(cell) for cell in cells]
            assert [[chunk.ids for chunk in chunks] for chunks in traced] == pipeline(cells)[0]
            for chunks in traced:
                assert {chunk.lost_by for chunk in chunks} == {None}
                tokens = [
                    token for chunk in chunks for token in zip(chunk.tokens, chunk.places, chunk.words, strict=True)
                ]
                added = [text for text, place, word in tokens if place is None and word is not None]
                assert added == [] or added == [text for text, _, word in tokens if word is not None] == ["."]
        artifact.release()


def test_there_are_cases_of_every_class_that_training_jobs_write():
    assert len(CASES) == 12


@pytest.mark.parametrize("flags", [{"batch_size": 1}, {"batch_size": 7, "window_rows": 7}], ids=str)
@pytest.mark.parametrize("case", ["bimodal_bert", "bimodal_cnn", "lstm", "trimodal_cross_attn"])
def test_neither_batch_nor_window_changes_a_score(case, flags, tmp_path):
    check(case, score(case, tmp_path, **flags))


def test_a_worker_changes_no_score(tmp_path):
    check("bimodal_bert", score("bimodal_bert", tmp_path, num_workers=1))


def test_processes_and_actors_of_ray_write_the_bytes_of_one_process(tmp_path, monkeypatch):
    """Ray starts on this machine, and ends with the run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ways = {"one": {}, "two": {"devices": 2}}
    if find_spec("ray") and cores() > 1:
        ways["ray"] = {"engine": "ray", "num_actors": 2}
    for way, flags in reversed(ways.items()):
        (tmp_path / way).mkdir()
        check("trimodal_cross_attn", score("trimodal_cross_attn", tmp_path / way, window_rows=11, **flags))
    assert len({(tmp_path / way / "out/inference_predictions.csv").read_bytes() for way in ways}) == 1
    assert not [command for command in descendants(os.getpid()).values() if "ray" in command.partition(" ")[0]]


def test_the_python_api_gives_the_same(tmp_path):
    rows = pd.read_parquet(GOLDENS / "golden.parquet")
    got = Predictor.from_artifact(GOLDENS / "bimodal_bert/model").predict(rows)
    want = pd.read_parquet(GOLDENS / "bimodal_bert/expected.parquet").iloc[:, 1:]
    assert (got - want).abs().to_numpy().max() < 1e-5


def test_threads_get_the_bytes_of_one():
    """The case has a backend that changes settings of the process, and a tokenizer that changes its own."""
    rows = pd.read_parquet(GOLDENS / "golden.parquet")
    predictor = Predictor.from_artifact(GOLDENS / "bimodal_bert/model", backend="tuned")
    parts = [rows.iloc[start:] for start in range(6)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # several streams
    try:
        alone = [predictor.predict_proba(part) for part in parts]
        with ThreadPoolExecutor(6) as threads:
            together = list(threads.map(predictor.predict_proba, parts * 3))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found, want) for found, want in zip(together, alone * 3, strict=True))


def test_copies_and_files_give_the_same():
    predictor = Predictor.from_artifact(GOLDENS / "trimodal_bert/model")
    want = pd.read_parquet(GOLDENS / "trimodal_bert/expected.parquet")
    for each in (predictor, copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        tables = each.score(GOLDENS / "golden.csv", id_field="order_id", window_rows=25)
        found = pa.concat_tables(tables).to_pandas()
        assert found["order_id"].tolist() == want["order_id"].tolist()
        assert (found.iloc[:, 1:] - want.iloc[:, 1:]).abs().to_numpy().max() < 1e-5


def test_a_precision_that_the_model_has_not_is_said_in_the_folder_of_an_earlier_run(tmp_path):
    out = score("bimodal_cnn", tmp_path).parent
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(UsageError, match="cannot be computed in int8 here"):
        score("bimodal_cnn", tmp_path, precision="int8")
    assert "cannot be computed in int8 here" in (out / "_FAILURE").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["_FAILURE", "inference_predictions.csv"]
