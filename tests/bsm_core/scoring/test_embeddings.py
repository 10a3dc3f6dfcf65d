"""Runs with ``--emit embeddings``: the file of the embeddings beside the predictions, from every engine."""

from __future__ import annotations

import importlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.toy import toy_rows, write_toy_artifact

from bsm_core.cli import main
from bsm_core.cli.terminal.run_views import summary_view
from bsm_core.errors import DataError, SinkError, UsageError
from bsm_core.predictor import Predictor
from bsm_core.runtime import durable
from bsm_core.scoring.comparing.compare import compare
from bsm_core.scoring.dry_run import dry_run
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.output.merge import merge
from bsm_core.scoring.output.sink import Sink
from bsm_core.scoring.run_events import Finished

NAME = "inference_embeddings.parquet"
TYPES = {"id": pa.string(), "embedding_chat": pa.list_(pa.float32(), 4), "embedding": pa.list_(pa.float32(), 6)}


def toy_class():
    """The model class of the toy plugin; it can be imported inside a test."""
    return importlib.import_module("toy_bsm_model").ToyModel


class Stopped(BaseException):
    """Takes the place of a kill, in this process."""


@pytest.fixture
def emit(data):
    """Runs a job on 23 rows in windows of three, and asks for embeddings."""

    def start(**flags):
        return data(**{"window_rows": 3, "device": "cpu", "emit": "embeddings", **flags})

    start.out, start.data, start.artifact, start.plain = data.out, data.data, data.artifact, data
    return start


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def vectors(path):
    """The arrays of a file of embeddings by column, and its ids."""
    table = pq.read_table(path)
    assert {field.name: field.type for field in table.schema} == TYPES
    arrays = {name: np.array(table[name].to_pylist(), np.float32) for name in [*TYPES][1:]}
    return table["id"].to_pylist(), arrays


def test_the_vectors_are_those_of_the_predictor_and_the_scores_those_of_a_plain_run(emit):
    plain = emit.plain(window_rows=3, device="cpu").path.read_bytes()
    done = emit(run_record=True)
    assert done.path.read_bytes() == plain
    assert done.embeddings == emit.out / NAME
    ids, found = vectors(done.embeddings)
    rows = toy_rows(23)
    assert ids == [*rows["id"]]
    expected = Predictor.from_artifact(emit.artifact).embed(rows)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)
    assert (found["embedding"][:, :4] == found["embedding_chat"]).all()
    record = json.loads((emit.out / "run.json").read_text())
    assert (record["output"], record["embeddings"]) == ("inference_predictions.csv", NAME)
    assert listing(emit.out) == ["_HEALTH", "_SUCCESS", NAME, "inference_predictions.csv", "run.json"]


def test_a_run_without_the_flag_removes_the_embeddings_of_an_earlier_one(emit):
    emit()
    done = emit.plain(device="cpu", run_record=True)
    assert done.embeddings is None
    assert json.loads((emit.out / "run.json").read_text())["embeddings"] is None
    assert NAME not in listing(emit.out)


@pytest.mark.parametrize("window", [0, 5, "commit"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(emit, monkeypatch, window):
    whole = {name: (emit().path.parent / name).read_bytes() for name in (NAME, "inference_predictions.csv")}
    shutil.rmtree(emit.out)
    write, commit = Sink.write_part, Sink.commit

    def write_part(self, part):
        if part.window == window:
            raise Stopped
        write(self, part)

    def stopped_commit(self, *args):
        if window == "commit":
            raise Stopped
        return commit(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "write_part", write_part)
        patch.setattr(Sink, "commit", stopped_commit)
        with pytest.raises(Stopped):
            emit()
    assert not (emit.out / NAME).exists()
    emit(resume="require" if window else "auto")
    assert {name: (emit.out / name).read_bytes() for name in whole} == whole


def test_parts_of_a_run_without_embeddings_are_not_those_of_one_with_them(emit, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(Sink, "commit", lambda *args: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            emit.plain(window_rows=3, device="cpu")
    assert emit().rows == 23
    assert "setting emit: is new" in caplog.text
    assert len(vectors(emit.out / NAME)[0]) == 23


@pytest.mark.parametrize("failing", [NAME, "inference_predictions.csv"])
def test_a_commit_that_fails_promises_neither_file(emit, monkeypatch, failing):
    replace = durable.replace

    def fail(temporary, path):
        if path.name == failing:
            raise OSError(28, "No space left on device")
        replace(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace", fail)
        with pytest.raises(SinkError):
            emit()
    assert "_SUCCESS" not in listing(emit.out)
    assert "inference_predictions.csv" not in listing(emit.out)
    assert emit(resume="require").rows == 23
    assert {NAME, "_SUCCESS", "inference_predictions.csv"} < {*listing(emit.out)}
    assert ".bsm" not in listing(emit.out)


def test_processes_write_the_bytes_of_one(emit):
    one = emit(output_dir=emit.out.parent / "one").embeddings.read_bytes()
    assert emit(devices=2).embeddings.read_bytes() == one
    assert emit(num_workers=2, output_dir=emit.out.parent / "workers").embeddings.read_bytes() == one


def test_a_window_that_kills_its_actors_has_no_vectors(emit, monkeypatch):
    lost, wait = [], Scorer.wait_for_others

    def lose(scorer):
        window = next(scorer.source.windows(scorer.job.columns, rows=3))
        lost.append(scorer.part_without_scores(window, "the actor died that scored the row"))
        wait(scorer)

    monkeypatch.setattr(Scorer, "wait_for_others", lose)
    emit()
    assert lost[0].embeddings["embedding"].to_pylist() == [None] * 3
    assert lost[0].embeddings["id"].to_pylist() == ["000", "001", "002"]
    assert lost[0].packed(1).record.rows == 3


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_shards_are_merged_to_the_bytes_of_one_run(run, format):
    rows = toy_rows(23)
    for number, (begin, end) in enumerate([(0, 9), (9, 10), (10, 10), (10, 23)]):
        part = rows[begin:end]
        path = run.data / f"{number}.{format}"
        part.to_csv(path, index=False) if format == "csv" else part.to_parquet(path)
    flags = {"emit": "embeddings", "window_rows": 4, "device": "cpu", "run_record": True}
    whole = run(output_dir=run.out.parent / "whole", **flags).embeddings.read_bytes()
    for number in (1, 0):
        done = run(shard=f"{number}/2", **flags)
        assert done.embeddings.name == f"inference_embeddings-0000{number}-of-00002.parquet"
    assert "_SUCCESS" in listing(run.out)
    path, count = merge(run.out)
    assert (count, (run.out / NAME).read_bytes()) == (23, whole)
    assert json.loads((run.out / "run.json").read_text())["embeddings"] == NAME
    with done.embeddings.open("r+b") as file:
        file.seek(40)
        file.write(b"xy")
    with pytest.raises(DataError, match="shard 0/2: the file was changed after the shard was done"):
        merge(run.out)
    run(device="cpu")
    assert listing(run.out) == ["_HEALTH", "_SUCCESS", path.name]


def test_a_row_for_which_the_model_fails_has_no_vectors(emit, monkeypatch):
    classify = toy_class().classify_rows

    def failing(self, fused):
        return classify(self, fused).masked_fill(fused[:, 4:5] == 1.0, float("nan"))

    monkeypatch.setattr(toy_class(), "classify_rows", failing)
    emit(on_bad_row="null", output_format="parquet")
    table = pq.read_table(emit.out / NAME)
    scores = pq.read_table(emit.out / "inference_predictions.parquet")["prob_class_0"]
    assert [i for i, score in enumerate(scores.to_pylist()) if score is None] == [4]
    for name in ("embedding_chat", "embedding"):
        assert [i for i, value in enumerate(table[name].to_pylist()) if value is None] == [4]


def test_rows_in_windows_that_fail_whole_have_no_vectors(emit, monkeypatch):
    def failing(self, texts, features):
        raise ValueError("no")

    known = {"embedding_chat": 4, "embedding": 6}
    monkeypatch.setattr(Predictor, "embedding_sizes", property(lambda self: known))
    monkeypatch.setattr(toy_class(), "fuse_rows", failing)
    emit(on_bad_row="null", max_bad_rows="100%")
    assert pq.read_table(emit.out / NAME)["embedding"].null_count == 23


def test_a_table_without_rows_has_the_columns(run):
    toy_rows(0).to_csv(run.data / "t.csv", index=False)
    run(emit="embeddings", device="cpu")
    assert vectors(run.out / NAME)[0] == []


def test_the_first_rows_alone(emit):
    emit(limit=4)
    assert vectors(emit.out / NAME)[0] == ["000", "001", "002", "003"]


def test_the_variable_asks_too_and_the_log_names_the_file(emit, caplog, quiet_log, monkeypatch, capsys):
    monkeypatch.setenv("EMIT", "Embeddings")
    places = ["--model-dir", emit.artifact, "--data-dir", emit.data, "--output-dir", emit.out]
    assert main(["run", "--job_type", "testing", "--id-field", "id", *map(str, places)]) == 0
    assert f"embeddings: {emit.out / NAME}" in capsys.readouterr().err


def test_a_dry_run_names_the_file_and_writes_none(emit):
    outline = dry_run(
        {"model_dir": emit.artifact, "data_dir": emit.data, "output_dir": emit.out, "emit": "embeddings"},
        {"ID_FIELD": "id"},
    )
    assert ("embeddings", str(emit.out / NAME)) in outline.entries()
    assert not (emit.out / NAME).exists()


@pytest.mark.parametrize("dry", [False, True])
def test_a_class_without_parts_is_an_error_before_the_first_row(emit, monkeypatch, dry):
    monkeypatch.setattr(toy_class(), "forward", lambda self, batch: batch.features, raising=False)
    flags = {"model_dir": emit.artifact, "data_dir": emit.data, "output_dir": emit.out, "emit": "embeddings"}
    with pytest.raises(UsageError, match="'toy_model' has no embeddings: it has a method forward of its own"):
        dry_run(flags, {"ID_FIELD": "id"}) if dry else emit()
    assert (emit.out / "_FAILURE").exists() is not dry


def test_an_id_with_the_name_of_a_vector_is_an_error(run):
    toy_rows(3).rename(columns={"id": "embedding"}).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(DataError, match="the id column has the name of embeddings: embedding"):
        run({"ID_FIELD": "embedding"}, emit="embeddings", device="cpu")


def test_ids_that_are_no_text_are_escaped(run):
    content = toy_rows(2).to_csv(index=False).encode().replace(b"001,", b"caf\xe9,", 1)
    (run.data / "t.csv").write_bytes(content)
    run(emit="embeddings", device="cpu")
    assert vectors(run.out / NAME)[0] == ["000", "caf\\xe9"]


def test_ids_of_parquet_keep_their_type(run):
    rows = toy_rows(3)
    rows["id"] = [7, 8, 9]
    rows.to_parquet(run.data / "t.parquet")
    run(emit="embeddings", device="cpu", output_format="csv")
    assert pq.read_table(run.out / NAME)["id"].to_pylist() == [7, 8, 9]


def test_folders_with_embeddings_can_be_compared(emit):
    emit()
    emit.plain(device="cpu", output_dir=emit.out.parent / "other")
    assert compare(emit.out, emit.out.parent / "other").differing == 0


def test_vectors_of_a_model_with_more_classes(run):
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    artifact = write_toy_artifact(run.out.parent / "three", num_classes=3, is_binary=False)
    run(model_dir=artifact, emit="embeddings", device="cpu")
    assert len(vectors(run.out / NAME)[0]) == 5


def test_embeddings_that_are_the_data_are_not_replaced(emit):
    path = emit().embeddings
    with pytest.raises(UsageError, match=f"the run would replace or remove {NAME}, which is one of its inputs"):
        emit.plain(data_dir=path)
    assert path.exists()


def test_the_summary_in_a_terminal_names_the_file():
    done = Finished(Path("out/p.csv"), 3, 0, 1.0, "CPU", "auto", {}, embeddings=Path("out/e.parquet"))
    screen = Console(width=100, record=True, file=io.StringIO())
    screen.print(summary_view(done, 100))
    assert "embeddings   out/e.parquet" in screen.export_text()
    assert done.data()["embeddings"] == "out/e.parquet"
