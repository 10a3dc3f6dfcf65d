"""The goldens as models of MLflow: loaded by ``mlflow.pyfunc``, predicted by the command, served, and in Spark."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

mlflow = pytest.importorskip("mlflow")

from bsm_core.integrations.mlflow import log_model, save_model  # noqa: E402

GOLDENS = Path(__file__).parents[1] / "data/goldens"
ARTIFACT = GOLDENS / "bimodal_bert/model"
SECONDS = 240
"""How long the server may take to start."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The model in a folder."""
    path = tmp_path_factory.mktemp("mlflow") / "model"
    save_model(ARTIFACT, path)
    return path


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_parquet(GOLDENS / "golden.parquet")


def off(probabilities: object) -> float:
    """The largest difference from the goldens, of the first rows."""
    found = np.asarray(probabilities)
    want = pd.read_parquet(GOLDENS / "bimodal_bert/expected.parquet").iloc[: len(found), 1:]
    return float(np.abs(found - want.to_numpy()).max())


def test_pyfunc_gives_the_goldens_numbers_for_every_kind_of_table(saved, rows):
    model = mlflow.pyfunc.load_model(str(saved))
    text = pd.read_csv(GOLDENS / "golden.csv", dtype=str)
    guessed = pd.read_csv(GOLDENS / "golden.csv")
    for data in (rows, text, guessed, rows.to_dict("list"), rows.to_dict("records")):
        found = model.predict(data)
        assert list(found.columns) == ["prob_class_0", "prob_class_1"]
        assert off(found) < 1e-5


def test_the_model_says_what_it_reads_and_holds_no_code(saved):
    model = mlflow.pyfunc.load_model(str(saved), model_config={"batch_size": 3})
    assert model._model_impl.predictor.model.token_budget.tokens == 3 * 64
    signature = model.metadata.signature
    config = json.loads((saved / "data/artifact/hyperparameters.json").read_text())
    assert signature.inputs.input_names() == [*config["tab_field_list"], config["text_name"]]
    assert signature.outputs.to_dict() == [
        {"type": "double", "name": name, "required": True} for name in ("prob_class_0", "prob_class_1")
    ]
    assert not [file.name for file in saved.rglob("*") if file.suffix in (".pkl", ".py")]
    requirements = (saved / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} >= {"bsm-core", "torch", "transformers", "numpy"}
    assert not [line for line in requirements if "+" in line]


def test_a_logged_model_has_what_made_it_as_tags(tmp_path, monkeypatch, rows):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"file://{tmp_path}/runs")
    try:
        logged = log_model(ARTIFACT, "golden", tags={"team": "reviews"}, metadata={"stage": "trial"})
        tags = mlflow.get_logged_model(logged.model_id).tags
        model = mlflow.pyfunc.load_model(logged.model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    assert (tags["bsm.model_class"], tags["team"]) == ("bimodal_bert", "reviews")
    assert "step html_normalizer of bsm-core" in tags["bsm.components"]
    assert len(tags["bsm.files"]) == 64
    assert model.metadata.metadata["bsm.files"] == tags["bsm.files"]
    assert model.metadata.metadata["stage"] == "trial"
    assert off(model.predict(rows)) < 1e-5


def request_of(rows: pd.DataFrame) -> bytes:
    """Rows as MLflow's servers take them."""
    return json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}).encode()


def probabilities_of(answer: str | bytes) -> list[list[float]]:
    return [list(row.values()) for row in json.loads(answer)["predictions"]]


def test_what_mlflow_models_predict_does(saved, rows, tmp_path):
    """The command starts another process for this function alone."""
    from mlflow.pyfunc.scoring_server import _predict

    (tmp_path / "rows.json").write_bytes(request_of(rows))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for format in ("json", "csv"):
        _predict(str(saved), str(tmp_path / f"rows.{format}"), str(tmp_path / "found.json"), format)
        assert off(probabilities_of((tmp_path / "found.json").read_text())) < 1e-5


@contextlib.contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """Serve a model on this machine, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    command = ["models", "serve", "--model-uri", str(model), "--port", str(port), "--env-manager", "local"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            env={**os.environ, "PATH": path},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    try:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ping", timeout=5):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_a_server_answers_a_request(saved, rows, tmp_path):
    with served(saved, tmp_path / "log.txt") as url:

        def post(content: bytes) -> bytes:
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/invocations", content, headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()

        assert off(probabilities_of(post(request_of(rows)))) < 1e-5
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            post(request_of(rows[["score"]]))
        assert "dialogue" in caught.value.read().decode()


def test_a_udf_of_spark(saved, rows, monkeypatch):
    pyspark = pytest.importorskip("pyspark")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    builder = pyspark.sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    with builder.getOrCreate() as spark:
        udf = mlflow.pyfunc.spark_udf(spark, str(saved), result_type="array<double>", env_manager="local")
        frame = spark.read.parquet(str(GOLDENS / "golden.parquet")).coalesce(1)
        names = mlflow.pyfunc.load_model(str(saved)).metadata.get_input_schema().input_names()
        found = frame.select(udf(pyspark.sql.functions.struct(*names)).alias("probabilities")).collect()
    assert off([row["probabilities"] for row in found]) < 1e-5
