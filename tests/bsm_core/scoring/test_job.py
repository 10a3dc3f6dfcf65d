from __future__ import annotations

import ast
import gzip
import hashlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.mounts import seeing_empty
from support.plugins import run_python
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core import Artifact, Predictor, Settings
from bsm_core.artifact import pack
from bsm_core.errors import (
    BSMError,
    CorruptArtifactError,
    DataError,
    EngineError,
    MissingArtifactFilesError,
    MissingColumnsError,
    MixedFormatsError,
    ModelFailedError,
    NoInferenceDataError,
    SelfCheckError,
    SinkError,
    UsageError,
)
from bsm_core.preprocess.loader import WindowLoader
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.scorer import _loader_workers
from bsm_core.scoring.provenance import add_provenance
from bsm_core.scoring.self_check import add_check

ENV = {"ID_FIELD": "id"}


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"id": str}, keep_default_na=False)


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def failed(run, kind, env=ENV, **flags):
    """The error of a run that must fail. It leaves ``_FAILURE`` with its one line, and the parts that are done."""
    with pytest.raises(kind) as caught:
        run(env, **flags)
    text = (run.out / "_FAILURE").read_text()
    if ".bsm" in listing(run.out):
        assert listing(run.out) == [".bsm", "_FAILURE"]
        assert "rows are done: with the same files and settings" in text
        assert text.startswith(caught.value.one_line())
    else:
        assert listing(run.out) == ["_FAILURE"]
        assert text == caught.value.one_line() + "\n"
    return caught.value


# What is written


@pytest.mark.parametrize("window_rows", [1, 7, 4096])
@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
def test_every_row_in_order_in_every_format(run, format, window_rows):
    rows = toy_rows()
    if format == "parquet":
        rows.to_parquet(run.data / "t.parquet")
    else:
        rows.to_csv(run.data / f"t.{format}", sep="\t" if format == "tsv" else ",", index=False)
    done = run(window_rows=window_rows)
    assert listing(run.out) == ["_HEALTH", "_SUCCESS", f"inference_predictions.{format}"]
    got = read(done.path)
    assert list(got.columns) == ["id", "prob_class_0", "prob_class_1"]
    assert got["id"].tolist() == rows["id"].tolist()
    want = Predictor.from_artifact(run.artifact).predict(rows)
    assert (got[want.columns] - want).abs().to_numpy().max() < 1e-6
    assert (done.rows, done.windows) == (23, -(-23 // window_rows))
    assert done.classes == tuple(int((want.to_numpy().argmax(axis=1) == number).sum()) for number in (0, 1))


def test_the_output_format_is_a_setting(run):
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    path = run({**ENV, "OUTPUT_FORMAT": "parquet"}).path
    assert pq.read_schema(path).names == ["id", "prob_class_0", "prob_class_1"]
    assert read(path)["id"].tolist() == toy_rows(5)["id"].tolist()


def test_strange_ids_come_out_byte_for_byte(run):
    ids = [b"00123", b"9007199254740993", b"NA", b"1e5", b"  x ", b"", b"00123", '"q,é"'.encode(), b"\xff"]
    quoted = [b'"' + i.replace(b'"', b'""') + b'"' for i in ids]
    body = b"\n".join(i + b",hi,1,web" for i in quoted)
    (run.data / "t.csv").write_bytes(b"id,chat,amount,channel\n" + body + b"\n")
    lines = run().path.read_bytes().splitlines()[1:]
    assert [line.rsplit(b",", 2)[0] for line in lines] == [*ids[:7], b'"""q,\xc3\xa9"""', b"\xff"]


def test_kept_columns_stand_between_id_and_probabilities(run):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    got = read(run(keep_columns="extra,amount").path)
    assert list(got.columns) == ["id", "extra", "amount", "prob_class_0", "prob_class_1"]
    assert got["extra"].tolist() == ["never, read"] * 3
    everything = read(run(keep_columns="all").path)
    assert list(everything.columns)[:5] == ["id", "chat", "amount", "channel", "extra"]


def test_part_files_compressed_and_plain_are_one_table(run):
    rows = toy_rows(9)
    (run.data / "b").mkdir()
    (run.data / "_SUCCESS").touch()
    rows[:4].to_csv(run.data / "a.csv", index=False)
    with gzip.open(run.data / "b/part.csv.gz", "wt") as file:
        rows[4:].to_csv(file, index=False)
    assert read(run(window_rows=3).path)["id"].tolist() == rows["id"].tolist()


def test_a_header_only_table(run):
    toy_rows(0).to_csv(run.data / "t.csv", index=False)
    done = run()
    assert done.path.read_text() == "id,prob_class_0,prob_class_1\n"
    assert (run.out / "_SUCCESS").exists()


def test_an_archive_in_a_read_only_folder(run, tmp_path):
    (tmp_path / "packed").mkdir()
    pack(run.artifact, tmp_path / "packed/model.tar.gz")
    (tmp_path / "packed").chmod(0o500)
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    before = listing(tmp_path / "packed")
    assert run(model_dir=tmp_path / "packed").rows == 3
    assert listing(tmp_path / "packed") == before


def test_the_record_says_what_was_asked_and_what_was_used(run):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    run(run_record=True, device="2", num_workers=0)
    record = json.loads((run.out / "run.json").read_text())
    assert record["device"] == {"asked": 2, "used": "1 CPU process(es)"}
    assert record["rows"] == 3
    assert record["components"][0]["object"] == "toy_bsm_model:ToyModel"
    assert record["artifact"].keys() >= {"model.pth", "hyperparameters.json"}


def test_batch_size_comes_from_the_artifact_unless_a_flag_says_so(run):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    sizes = []
    for env, flags in [({"BATCH_SIZE": "9"}, {}), ({"BATCH_SIZE": "9"}, {"batch_size": "2"})]:
        run({**ENV, **env}, run_record=True, **flags)
        sizes.append(json.loads((run.out / "run.json").read_text())["settings"]["batch_size"])
    assert sizes == [4, 2]


def test_loader_workers_change_nothing(run):
    toy_rows().to_csv(run.data / "t.csv", index=False)
    alone = run(window_rows=4).path.read_bytes()
    assert run(window_rows=4, num_workers=2).path.read_bytes() == alone


OWN = {"self-check", "moving", "model", "writing parts", "commit", "total"}
PREPARING = {
    *("reading", "features", "chat: reading", "chat: toy_trap", "chat: toy_tokens", "chat: distinct chunks"),
}


@pytest.mark.parametrize(
    ("flags", "waits"),
    [({}, set()), ({"num_workers": 1}, {"waiting for the loader"}), ({"device": "cpu", "devices": "2"}, set())],
    ids=str,
)
def test_a_profile_says_where_the_time_went(run, caplog, flags, waits):
    toy_rows().to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.INFO, "bsm"):
        done = run(window_rows=4, profile=True, run_record=True, **flags)
    times = json.loads((run.out / "run.json").read_text())["profile"]
    assert set(times) == OWN | PREPARING | waits
    assert all(seconds > 0 for seconds in times.values())
    own = OWN | waits if waits else OWN | PREPARING
    assert sum(times[what] for what in own - {"total"}) < times["total"]
    lines = [line.strip() for line in caplog.text.partition("where the time went")[2].splitlines()]
    if "devices" not in flags:  # there it is another process that says it
        assert all(sum(line.startswith(what) for line in lines) == 1 for what in [*times, "the rest"])
    assert done.counts == {"missing:amount": 5, "unseen:channel": 7}


def test_no_table_of_the_profile_unless_it_is_asked_for(run, caplog):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.INFO, "bsm"):
        run(run_record=True)
    assert json.loads((run.out / "run.json").read_text())["profile"]["model"] > 0
    assert "where the time went" not in caplog.text


@pytest.mark.parametrize(
    ("flags", "used"),
    [
        ({"window_rows": 4}, 3),
        ({"window_rows": 4, "num_workers": 0}, 0),
        ({"window_rows": 23}, 0),  # a single window
    ],
    ids=str,
)
def test_on_a_gpu_several_windows_are_prepared_by_workers(run, monkeypatch, flags, used):
    started = []

    def loader(source, preprocessor, *, num_workers, **options):
        started.append(num_workers)
        return WindowLoader(source, preprocessor, num_workers=0, **options)

    monkeypatch.setattr("bsm_core.scoring.engines.scorer.loader_workers", lambda plan, cores: 3)
    monkeypatch.setattr("bsm_core.scoring.engines.scorer.WindowLoader", loader)
    toy_rows().to_csv(run.data / "t.csv", index=False)
    assert run(**flags).rows == 23
    assert started == [used]


def test_a_model_without_text_has_no_workers_unless_told_so():
    predictor = SimpleNamespace(preprocessor=SimpleNamespace(pipelines={}, keep=("id",)))
    for asked, used in [(None, 0), (2, 2)]:
        settings = Settings(job_type="inference", num_workers=asked)
        assert _loader_workers(settings, DevicePlan("gpu", (0,)), predictor, source=None) == used


def test_odd_cells_are_counted_once_and_lose_no_row(run, caplog):
    rows = toy_rows(9)
    rows.loc[2, "amount"] = "many"
    rows.loc[3, "amount"] = "inf"
    rows.loc[4, "chat"] = "no!"
    rows.to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        done = run(window_rows=3)
    assert done.rows == 9
    assert done.counts == {
        "bad_rows": 3,
        "text:chat": 1,
        "number:amount": 2,
        "reason:toy_tokens:ValueError:chat": 1,
        "reason:feature:not a number:amount": 1,
        "reason:feature:infinite:amount": 1,
        "missing:amount": 2,
        "unseen:channel": 3,
    }
    assert caplog.text.count("column 'amount': 2 cell(s) that cannot be used") == 1
    assert "row '004': column 'chat', step 'toy_tokens'" in caplog.text


def test_only_some_odd_texts_are_named(run, caplog):
    rows = toy_rows(50).assign(chat="!")
    rows.to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        assert run(window_rows=8, max_bad_rows="100%").counts["text:chat"] == 50
    assert caplog.text.count("no shouting") == 20
    assert "column 'chat': 50 text(s) taken as empty or cut" in caplog.text


# What fails


@pytest.mark.parametrize(
    "flags", [{"num_actors": 2}, {"ray_address": "auto"}, {"num_actors": 2, "ray_address": "auto"}]
)
def test_flags_of_ray_without_ray_are_wrong_usage(run, flags):
    run.out.mkdir()
    words = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(flags, reverse=True))
    with pytest.raises(UsageError, match=f"^{words} without --engine ray"):
        run(**flags)
    assert f"{words} without --engine ray" in (run.out / "_FAILURE").read_text()


def test_the_variable_of_a_cluster_of_ray_changes_no_other_run(run):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    assert run(env={"ID_FIELD": "id", "RAY_ADDRESS": "10.0.0.1:6379"}).rows == 3


def test_the_id_field_is_required_and_the_columns_are_listed(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    error = failed(run, MissingColumnsError, env={})
    assert "ID_FIELD is not set" in str(error)
    assert "id, chat, amount, channel, extra" in str(error)
    assert "name any column" in str(error)
    assert "in training" not in str(error)


@pytest.mark.parametrize(("name", "told"), [("id", True), ("customer", False), (["id"], False)])
def test_the_id_of_training_is_named_and_not_taken(run, tmp_path, name, told):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    model = write_toy_artifact(tmp_path / "other", id_name=name)
    assert ("the id in training: id" in str(failed(run, MissingColumnsError, env={}, model_dir=model))) == told


def test_an_id_column_that_is_not_there(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    error = failed(run, MissingColumnsError, env={"ID_FIELD": "customer"})
    assert isinstance(error, KeyError)
    assert "'customer', wanted by --id-field (ID_FIELD)" in str(error)
    assert "'id', 'chat', 'amount'" in str(error)


def test_all_missing_feature_columns_before_the_model_runs(run):
    toy_rows(2)[["id", "extra"]].to_csv(run.data / "t.csv", index=False)
    error = failed(run, MissingColumnsError)
    for name, wants in [("chat", "config.text_name"), ("amount", "config.tab_field_list"), ("channel", "config.tab")]:
        assert name in str(error)
        assert wants in str(error)


def test_all_missing_columns_whoever_wants_them_at_once(run):
    toy_rows(2)[["chat", "extra"]].to_csv(run.data / "t.csv", index=False)
    error = failed(run, MissingColumnsError, env={"ID_FIELD": "customer"}, keep_columns="extra,more,amount")
    assert error.details == (
        "'customer', wanted by --id-field (ID_FIELD)",
        "'more', wanted by --keep-columns",
        "'amount', wanted by --keep-columns and config.tab_field_list",
        "'channel', wanted by config.tab_field_list",
        "columns found: 'chat', 'extra'",
    )


def test_a_kept_column_that_is_not_there(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    assert "--keep-columns" in str(failed(run, MissingColumnsError, keep_columns="extra,more"))


def test_a_column_named_like_a_prediction(run):
    toy_rows(2).assign(prob_class_1="x").to_csv(run.data / "t.csv", index=False)
    assert run().rows == 2
    with pytest.raises(DataError, match="prob_class_1"):
        run(keep_columns="all")


def test_no_data(run):
    assert isinstance(failed(run, NoInferenceDataError), RuntimeError)


def test_two_formats(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    toy_rows(2).to_parquet(run.data / "t.parquet")
    error = failed(run, MixedFormatsError)
    assert "t.csv" in str(error)
    assert "t.parquet" in str(error)


def test_a_ragged_row_says_where_and_leaves_no_output(run):
    toy_rows(30).to_csv(run.data / "t.csv", index=False)
    with (run.data / "t.csv").open("a") as file:
        file.write("031,short\n")
    error = failed(run, DataError, window_rows=5)
    assert "t.csv" in str(error)
    assert "32" in str(error)


def test_a_byte_that_no_parquet_text_holds_is_found_before_its_window_is_scored(run, monkeypatch):
    rows = "".join(f"{i:03},hi,1,web\n" for i in range(9))
    (run.data / "t.csv").write_bytes(b"id,chat,amount,channel\n" + rows.encode().replace(b"001", b"00\xff"))
    monkeypatch.setattr(
        "bsm_core.scoring.output.sink.Sink.write_part", lambda *a, **k: pytest.fail("a part was written")
    )
    error = failed(run, DataError, env={**ENV, "OUTPUT_FORMAT": "parquet"}, window_rows=3)
    assert error.where == f"{run.data / 't.csv'}, line 3, column 'id'"
    assert "00\\xff" in error.what


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_what_is_kept_and_in_which_format_changes_no_probability(run, format):
    rows = toy_rows()
    rows.to_csv(run.data / "t.csv", index=False)
    got = read(run(output_format=format, keep_columns="all", window_rows=5).path)
    want = Predictor.from_artifact(run.artifact).predict(rows)
    assert (got[want.columns] - want).abs().to_numpy().max() < 1e-6


def test_files_that_may_hold_rows_and_are_not_read_are_named_once(run, caplog):
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    (run.data / "more.json").write_text("[1]")
    with caplog.at_level(logging.WARNING, "bsm"):
        assert run().rows == 4
    assert caplog.text.count(str(run.data / "more.json")) == 1


@pytest.fixture
def hashed(run, monkeypatch):
    """Counts how often each file of the artifact is hashed in this process."""
    counts = Counter()
    digest = hashlib.file_digest

    def count(file, algorithm):
        if run.artifact in Path(file.name).parents:
            counts[Path(file.name).relative_to(run.artifact).as_posix()] += 1
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return counts


@pytest.mark.parametrize("flags", [{}, {"device": "cpu", "devices": "2"}], ids=str)
def test_each_file_of_the_artifact_is_hashed_once_for_the_record_and_for_strict(run, hashed, flags):
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    add_provenance(run.artifact, Predictor.open(run.artifact))
    hashed.clear()
    run(run_record=True, strict=True, window_rows=2, **flags)
    record = json.loads((run.out / "run.json").read_text())
    assert hashed == dict.fromkeys(record["artifact"], 1)
    assert hashed.keys() >= {"model.pth", "model_artifacts.pth", "provenance.json"}


def test_hashes_travel_to_the_processes_of_a_run(run, hashed):
    artifact = Artifact.load(run.artifact)
    hashes = dict(artifact.hashes)
    hashed.clear()
    assert pickle.loads(pickle.dumps(artifact)).hashes == hashes
    assert not hashed


COUNTS_OPENED_FILES = """
    import os, sys
    from collections import Counter

    artifact, data, out = {artifact!r}, {data!r}, {out!r}
    opened = Counter()

    def count(event, arguments):
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = os.path.abspath(arguments[0])
            if path.startswith(artifact + os.sep):
                opened[os.path.relpath(path, artifact)] += 1

    sys.addaudithook(count)
    from bsm_core.scoring import job

    places = dict(model_dir=artifact, data_dir=data, output_dir=out)
    job.run(dict(job_type="inference", device="cpu", **places), dict(ID_FIELD="id"))
    print(dict(opened))
"""


def test_each_file_of_the_artifact_is_read_once_and_hashed_once(run):
    """Counted are files that Python opens: ``model.pth``, but not ``model.safetensors``, which Rust opens."""
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    add_check(run.artifact, toy_rows())
    (run.artifact / "model.safetensors").unlink()
    places = {"artifact": str(run.artifact), "data": str(run.data), "out": str(run.out)}
    opened = ast.literal_eval(run_python(COUNTS_OPENED_FILES.format(**places), SITE))
    read_by_every_run = {"model_artifacts.pth", "hyperparameters.json", "model.pth", "self_check.json"}
    assert opened.keys() >= read_by_every_run | {"risk_table_map.json", "impute_dict.json"}
    assert all(opened[name] == 2 for name in read_by_every_run)  # once to read it, once to hash it for the plan
    assert set(opened.values()) <= {1, 2}


def test_missing_artifact_files_are_all_named(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    for name in ("model.pth", "model.safetensors", "hyperparameters.json"):
        (run.artifact / name).unlink()
    error = failed(run, MissingArtifactFilesError)
    assert isinstance(error, FileNotFoundError)
    assert "hyperparameters.json" in str(error)
    assert "model.pth" in str(error)


def test_an_artifact_whose_categories_are_texts_needs_no_tables(run, caplog):
    write_toy_artifact(run.artifact, tab_field_list=["amount"], cat_field_list=["chat"])
    for table in run.artifact.glob("risk_table_map.*"):
        table.unlink()
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        assert run(device="cpu").rows == 5
    assert "no risk_table_map.pkl; no feature needs it" in caplog.text


def test_an_earlier_run_leaves_neither_marker(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    run(run_record=True)
    (run.data / "t.csv").write_text("id,chat\n")
    with pytest.raises(BSMError):
        run()
    assert listing(run.out) == ["_FAILURE", "inference_predictions.csv"]
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    assert run().rows == 4
    assert listing(run.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv"]


def test_a_prediction_file_of_another_format_goes_when_the_new_one_is_there(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    run()
    run(output_format="parquet")
    assert listing(run.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.parquet"]


def test_wrong_usage_makes_no_folder(run):
    with pytest.raises(UsageError):
        run(device="many")
    assert not run.out.exists()


def test_wrong_usage_leaves_no_marker_of_an_earlier_run(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    run()
    with pytest.raises(UsageError):
        run(device="many")
    assert listing(run.out) == ["_FAILURE", "inference_predictions.csv"]
    assert "UsageError" in (run.out / "_FAILURE").read_text()


@pytest.mark.parametrize("inside", [".", "out", "a/b/../c"])
def test_an_output_folder_inside_the_data_folder_is_refused_and_nothing_is_touched(run, tmp_path, inside):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    (tmp_path / "link").symlink_to(run.data)
    for data, out in [(run.data, run.data / inside), (tmp_path / "link", run.data / inside)]:
        with pytest.raises(UsageError, match="inside the data folder") as caught:
            run(data_dir=data, output_dir=out)
        assert "--output-dir" in caught.value.fix
    assert listing(run.data) == ["t.csv"]


def test_a_pattern_of_the_data_must_not_match_what_the_run_writes(run):
    (run.data / "in").mkdir()
    toy_rows(2).to_csv(run.data / "in" / "part-0.csv", index=False)
    (run.data / "out").mkdir()
    for pattern in ("**/*.csv", "*"):
        with pytest.raises(UsageError, match="matches files that the run writes, such as inference_predictions"):
            run(data_dir=run.data / pattern, output_dir=run.data / "out")
        assert listing(run.data / "out") == []
    issues = run.data / "in" / "part-issues.csv"
    with pytest.raises(UsageError, match="row issues cannot be written to this folder"):
        run(data_dir=run.data / "*" / "part-*.csv", output_dir=run.data / "out", row_issues=issues)
    for _ in range(2):
        assert run(data_dir=run.data / "*" / "part-*.csv", output_dir=run.data / "out").rows == 2


def test_an_output_folder_may_hold_the_data_or_stand_beside_the_file(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    assert run(data_dir=run.data / "t.csv", output_dir=run.data).rows == 2
    (run.data / "deep").mkdir()
    (run.data / "t.csv").rename(run.data / "deep/t.csv")
    assert run(data_dir=run.data / "deep", output_dir=run.data).rows == 2


def test_an_output_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="file"):
        run(output_dir=tmp_path / "file/out")


def test_a_bug_leaves_a_failure_too(run, monkeypatch):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr("bsm_core.scoring.engines.scorer.Predictor.load", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    assert (run.out / "_FAILURE").read_text() == "ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_probabilities_that_are_no_numbers_fail_the_run_and_rows_are_named(run, monkeypatch, format):
    import toy_bsm_model

    forward = toy_bsm_model.ToyModel.forward
    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", lambda self, batch: forward(self, batch) * float("inf"))
    write = {"csv": partial(pd.DataFrame.to_csv, index=False), "parquet": pd.DataFrame.to_parquet}[format]
    write(toy_rows(7), run.data / f"t.{format}")
    error = failed(run, ModelFailedError, window_rows=4)
    assert "model class 'toy_model' returned probabilities that are NaN or infinite for 4 of 4 rows" in str(error)
    assert "rows: '000', '001', '002', '003'" in str(error)


def test_a_model_class_that_fails_is_named(run, monkeypatch):
    import toy_bsm_model

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", lambda self, batch: [][1])
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    error = failed(run, ModelFailedError)
    assert "'toy_model' failed: IndexError" in str(error)
    assert "of toy-bsm 1.0" in str(error)
    assert isinstance(error.__cause__, IndexError)


# Self-check


@pytest.fixture
def changed(run):
    """The artifact's imputation value is no longer what it was when its check rows were made."""
    add_check(run.artifact, toy_rows())
    (run.artifact / "impute_dict.json").write_text('{"amount": 99}')
    (run.artifact / "impute_dict.pkl").unlink()
    toy_rows(12).to_csv(run.data / "t.csv", index=False)


@pytest.mark.parametrize("flags", [{}, {"num_workers": 1}, {"device": "cpu", "devices": "2"}], ids=str)
def test_an_artifact_that_gives_other_numbers_scores_no_window(run, changed, monkeypatch, flags):
    monkeypatch.setattr(
        "bsm_core.scoring.output.sink.Sink.write_part", lambda *a, **k: pytest.fail("a part was written")
    )
    error = failed(run, SelfCheckError, window_rows=3, **flags)
    assert "off by " in error.what
    assert "features differ: 'amount'" in str(error)


def test_an_artifact_is_run_without_its_check_when_told_so(run, changed):
    assert run(self_check=False, run_record=True).rows == 12
    assert json.loads((run.out / "run.json").read_text())["self_check"] is None


@pytest.mark.parametrize("flags", [{}, {"device": "cpu", "devices": "2"}], ids=str)
def test_check_rows_that_hold_change_nothing_but_the_record(run, caplog, flags):
    toy_rows(12).to_csv(run.data / "t.csv", index=False)
    without = run(window_rows=3, run_record=True, **flags)
    bytes_without = without.path.read_bytes()
    assert json.loads((run.out / "run.json").read_text())["self_check"] is None
    add_check(run.artifact, toy_rows().assign(chat="!", amount="many"))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "bsm"):
        done = run(window_rows=3, run_record=True, **flags)
    assert (done, done.path.read_bytes(), caplog.text) == (without, bytes_without, "")
    assert json.loads((run.out / "run.json").read_text())["self_check"]["largest_difference"] < 1e-6


def test_check_rows_that_cannot_be_read_fail_the_run(run):
    toy_rows(2).to_csv(run.data / "t.csv", index=False)
    (run.artifact / "self_check.json").write_text("{}")
    assert "self_check.json" in str(failed(run, CorruptArtifactError))
    assert run(self_check=False).rows == 2


# Several processes


def test_two_processes_write_the_same_bytes(run, monkeypatch, capfd, caplog):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    (run.data / "more.json").write_text("[1]")
    one = run(device="cpu", window_rows=3).path.read_bytes()
    (run.out / "inference_predictions.csv").unlink()
    caplog.clear()
    capfd.readouterr()
    done = run(device="cpu", devices="2", window_rows=3, run_record=True)
    assert "more.json" not in capfd.readouterr().err  # this process says it, and none of the others
    assert ["more.json" in line for line in caplog.messages].count(True) == 1
    assert done.path.read_bytes() == one
    assert (done.rows, done.windows) == (40, 14)
    assert json.loads((run.out / "run.json").read_text())["device"]["used"] == "2 CPU process(es)"
    assert listing(run.out) == ["_HEALTH", "_SUCCESS", "inference_predictions.csv", "run.json"]


@pytest.mark.parametrize(
    ("text", "words"), [("KILL", "was killed by SIGKILL"), ("STOP", "exited with 3"), ("LEAVE", "SystemExit: 0")]
)
def test_a_rank_that_dies_fails_the_run(run, text, words):
    rows = toy_rows(12)
    rows.loc[7, "chat"] = text
    rows.to_csv(run.data / "t.csv", index=False)
    error = failed(run, BSMError, device="cpu", devices="2", window_rows=3)
    assert words in str(error)
    assert type(error) is EngineError
    assert "Traceback" not in str(error)


def test_an_error_of_a_rank_is_the_error_of_the_run(run):
    toy_rows(12).to_csv(run.data / "t.csv", index=False)
    with (run.data / "t.csv").open("a") as file:
        file.write("031,short\n")
    assert "line 14" in str(failed(run, DataError, device="cpu", devices="2", window_rows=3))


def test_processes_that_cannot_be_connected_fall_back_to_one(run, monkeypatch, caplog):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "no-such-interface")
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        assert run(device="cpu", devices="2", run_record=True).rows == 5
    assert "could not be connected" in caplog.text
    assert json.loads((run.out / "run.json").read_text())["device"]["used"] == "1 CPU process(es)"


def test_loader_workers_need_no_shared_memory(run):
    start = seeing_empty("/dev/shm")  # of 1 MB
    rows = toy_rows(1000)
    rows["chat"] = [f"{i} {'long ' * 400}" for i in range(len(rows))]  # 8 MB of tokens
    rows.to_csv(run.data / "t.csv", index=False)
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", "id", "--device", "cpu"]
    places = ["--model-dir", run.artifact, "--data-dir", run.data, "--output-dir", run.out]
    subprocess.run([*start, *command, *places, "--num-workers", "2", "--window-rows", "250"], check=True)
    assert pd.read_csv(run.out / "inference_predictions.csv", dtype=str)["id"].tolist() == rows["id"].tolist()


def test_a_rank_with_much_to_say_is_heard(run):
    header = ",".join(f"column_{i:05d}" for i in range(20_000))
    (run.data / "t.csv").write_text(header + "\n")
    assert "column_19999" in str(failed(run, MissingColumnsError, device="cpu", devices="2").details)


# Interruption


@pytest.fixture
def waiting(toy_site, tmp_path):
    """Starts a run that waits in its first window, in a step; kills it at the end."""
    processes = []
    artifact = tmp_path / "model"
    (tmp_path / "data").mkdir()
    toy_rows(3).to_csv(tmp_path / "data/t.csv", index=False)
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", "id"]
    places = ["--model-dir", artifact, "--data-dir", tmp_path / "data", "--output-dir", tmp_path / "out"]

    def start(*flags, step="toy_wait"):
        write_toy_artifact(artifact, text_processing_steps=[step, "toy_tokens"])
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*command, *places, *flags], env={**os.environ}, **pipes)
        processes.append(process)
        assert process.stdout.readline() == b"waiting\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_watcher_that_is_killed_takes_its_ranks_along(waiting, tmp_path):
    process = waiting("--device", "cpu", "--devices", "2")
    process.kill()
    process.communicate(timeout=30)  # ends when nobody holds the pipes any more, ranks included
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_run_that_is_killed_takes_its_loader_workers_along(waiting, tmp_path):
    process = waiting("--device", "cpu", "--num-workers", "2")
    process.kill()
    process.communicate(timeout=30)
    assert not (tmp_path / "out/_SUCCESS").exists()


def children(parent):
    """The ids of the ranks or loader workers of a process, in the order of their start."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "ppid,pid,args"], stdout=subprocess.PIPE, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines() if "spawn_main" in line]
    return sorted(int(pid) for ppid, pid, _ in rows if int(ppid) == parent)


def test_a_rank_that_is_terminated_fails_the_run(waiting, tmp_path):
    """The second rank has no window: it waits for the first in C code, where no signal handler of Python runs."""
    process = waiting("--device", "cpu", "--devices", "2")
    os.kill(children(process.pid)[1], signal.SIGTERM)
    errors = process.communicate(timeout=10)[1].decode()
    assert process.returncode == 1
    assert "EngineError: process 2 of 2 (rank 1) was killed by SIGTERM" in errors
    assert "process 2 of 2 (rank 1) was killed by SIGTERM" in (tmp_path / "out/_FAILURE").read_text()


def test_a_loader_worker_that_is_killed_is_named(waiting, tmp_path):
    process = waiting("--device", "cpu", "--num-workers", "1")
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 1
    assert f"EngineError: a worker process that prepares windows died: process {worker} was killed by SIGKILL" in errors
    assert listing(tmp_path / "out") == ["_FAILURE"]


@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_run_that_is_terminated_leaves_a_failure(waiting, tmp_path, devices):
    process = waiting("--device", "cpu", "--devices", devices)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in errors
    assert listing(tmp_path / "out") == ["_FAILURE"]
    assert (tmp_path / "out/_FAILURE").read_text() == "Interrupted: SIGTERM\n"


def test_a_run_that_swallows_the_signal_ends_all_the_same(waiting, tmp_path):
    process = waiting("--device", "cpu", step="toy_swallow")
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    errors = process.communicate(timeout=30)[1]
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.endswith(b"interrupted by SIGTERM\n")
    assert "_SUCCESS" not in listing(tmp_path / "out")
    assert (tmp_path / "out/_FAILURE").read_text() == "Interrupted: SIGTERM\n"


SWALLOWS = """
import time

print("importing", flush=True)
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        pass
"""


@pytest.mark.usefixtures("hangup_not_ignored")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_imports_leaves_a_failure_whatever_swallows_it(tmp_path, number):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/torch.py").write_text(SWALLOWS)
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", "id"]
    places = ["--model-dir", tmp_path / "model", "--data-dir", tmp_path / "data", "--output-dir", tmp_path / "new"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *places], env=environment, **pipes) as process:
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(number)
        errors = process.communicate(timeout=5)[1]
    assert process.returncode == 128 + number
    assert errors == f"interrupted by {number.name}\n".encode()
    assert (tmp_path / "new/_FAILURE").read_text() == f"Interrupted: {number.name}\n"
