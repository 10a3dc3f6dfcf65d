from __future__ import annotations

import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.operations import Operations
from support.plugins import component, run_python, write_plugin
from support.toy import SITE, toy_rows, write_toy_artifact
from support.training import PAIR, labelled_rows

from bsm_core import Predictor, cli, train
from bsm_core.artifact import Artifact, pack
from bsm_core.errors import (
    AmbiguousComponentError,
    ConfigError,
    DataError,
    MissingColumnsError,
    ModelFailedError,
    PipelineError,
    UnknownModelClassError,
    UnknownStepError,
    UsageError,
    WeightsMismatchError,
)
from bsm_core.plugins.registry import Registry
from bsm_core.predictor.model_building import building
from bsm_core.preprocess.findings import Issue


@pytest.fixture
def predictor(toy_artifact):
    return Predictor.from_artifact(toy_artifact)


def test_initial_weights_are_not_drawn_where_the_artifact_has_them(toy_artifact):
    with Operations() as operations:
        predictor = Predictor.from_artifact(toy_artifact)
    assert operations.random == 0
    with Operations() as operations:
        type(predictor.model)(predictor.model.config)
    assert operations.random


def test_a_frame_of_probabilities_with_the_index_of_the_rows(predictor):
    rows = toy_rows(6).set_index(pd.Index(list("abcdef")))
    got = predictor.predict(rows)
    assert list(got.columns) == ["prob_class_0", "prob_class_1"]
    assert got.index.tolist() == list("abcdef")
    assert (got["prob_class_0"] == 1 - got["prob_class_1"]).all()
    assert got["prob_class_1"].nunique() == 6


def test_frames_tables_and_types_agree(predictor):
    rows = toy_rows(12)
    want = predictor.predict(rows).to_numpy()
    typed = rows.assign(amount=pd.to_numeric(rows["amount"]))
    for same in (typed, pa.Table.from_pandas(rows), pa.Table.from_pandas(typed), rows[rows.columns[::-1]]):
        assert np.array_equal(predictor.predict(same).to_numpy(), want)


def test_a_row_does_not_depend_on_its_neighbours_or_the_batch_size(predictor, toy_artifact):
    rows = toy_rows(9)
    want = predictor.predict(rows).to_numpy()
    alone = np.concatenate([predictor.predict(rows.iloc[[i]]).to_numpy() for i in range(9)])
    turned = predictor.predict(rows.iloc[::-1]).to_numpy()[::-1]
    small = Predictor.from_artifact(toy_artifact, batch_size=1)
    assert small.model.token_budget.tokens == 8
    for other in (alone, turned, small.predict(rows).to_numpy()):
        assert np.abs(other - want).max() < 1e-6


def test_the_vectors_of_rows(predictor):
    rows = toy_rows(9)
    found = predictor.embed(rows)
    assert {name: (vectors.shape, vectors.dtype) for name, vectors in found.items()} == {
        "embedding_chat": ((9, 4), np.float32),
        "embedding": ((9, 6), np.float32),
    }
    assert predictor.embedding_sizes == {"embedding_chat": 4, "embedding": 6}
    assert found["embedding"][3, 4:].tolist() == [0.75, 0.5]
    alone = predictor.embed(rows.iloc[[3]])
    np.testing.assert_allclose(alone["embedding"][0], found["embedding"][3], atol=1e-6)
    assert {name: len(vectors) for name, vectors in predictor.embed(rows[:0]).items()} == dict.fromkeys(found, 0)
    assert pickle.loads(pickle.dumps(predictor)).embed(rows)["embedding"].tolist() == found["embedding"].tolist()


def test_the_issues_of_rows_that_are_embedded_are_told(predictor):
    issues = []
    predictor.embed(toy_rows(2).assign(amount=["many", "1"]), on_issue=issues.append)
    assert [(issue.row, issue.column) for issue in issues] == [(0, "amount")]


def test_a_row_for_which_the_model_fails_has_no_vectors(toy_artifact, monkeypatch):
    predictor = Predictor.from_artifact(toy_artifact, on_bad_row="null")
    fuse = type(predictor.model).fuse_rows

    def failing(self, texts, features):
        if (features[:, 0] == 1.0).any():
            raise ValueError("no")
        return fuse(self, texts, features)

    monkeypatch.setattr(type(predictor.model), "fuse_rows", failing)
    found = predictor.embed(toy_rows(9))
    assert np.isnan(found["embedding"]).all(axis=1).nonzero()[0].tolist() == [4]
    assert np.isnan(found["embedding_chat"]).all(axis=1).nonzero()[0].tolist() == [4]
    all_failed = predictor.embed(toy_rows(9).iloc[[4]])
    assert np.isnan(all_failed["embedding"]).all()


def test_a_model_class_without_parts_has_no_vectors(predictor, monkeypatch):
    monkeypatch.setattr(type(predictor.model), "forward", lambda self, batch: batch.features, raising=False)
    with pytest.raises(UsageError, match="'toy_model' has no embeddings: it has a method forward of its own"):
        predictor.embed(toy_rows(2))


def test_no_rows(predictor):
    assert predictor.predict(toy_rows(3).iloc[:0]).shape == (0, 2)


def test_an_archive_is_read_and_nothing_of_it_is_left(toy_artifact, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    archive = pack(toy_artifact, tmp_path / "model.tar.gz")
    got = Predictor.from_artifact(archive).predict(toy_rows(4))
    assert np.array_equal(got.to_numpy(), Predictor.from_artifact(toy_artifact).predict(toy_rows(4)).to_numpy())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_all_missing_columns_are_named_with_who_wants_them(predictor):
    with pytest.raises(MissingColumnsError) as caught:
        predictor.predict(toy_rows(2).drop(columns=["channel"]).rename(columns={"chat": "chats"}))
    assert caught.value.details == (
        "'channel', wanted by config.tab_field_list",
        "'chat', wanted by config.text_name; did you mean 'chats'?",
        "columns found: 'id', 'chats', 'amount', 'extra'",
    )


@pytest.mark.parametrize("of", [lambda frame: frame, lambda frame: pa.table(list(frame.T.to_numpy()), list(frame))])
def test_a_column_that_is_there_twice_is_the_error_it_is_on_the_command_line(predictor, of):
    rows = toy_rows(2)
    twice = of(pd.concat([rows, rows[["chat"]], rows[["extra"]]], axis=1))
    with pytest.raises(DataError, match="columns that occur more than once: 'chat'"):
        predictor.predict(twice)
    assert predictor.predict(of(pd.concat([rows, rows[["extra"]]], axis=1))).shape == (2, 2)


@pytest.mark.parametrize("data", [[1, 2], None, "rows.csv"], ids=repr)
def test_what_is_no_table_is_named(predictor, data):
    with pytest.raises(UsageError, match=f"{type(data).__name__} is not a table") as caught:
        predictor.predict(data)
    assert caught.value.fix == "pass a frame of pandas, polars or pyarrow, a dict of columns or a list of dicts"


@pytest.mark.parametrize("size", [0, -1, 2.0, "8"], ids=repr)
def test_a_batch_size_that_is_none_is_not_blamed_on_the_artifact(toy_artifact, size):
    with pytest.raises(UsageError, match=f"batch_size={size!r}"):
        Predictor.from_artifact(toy_artifact, batch_size=size)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu", "tpu:x", "meta", "", 3], ids=repr)
def test_a_device_that_is_not_there_names_those_that_are(toy_artifact, monkeypatch, device):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError) as caught:
        Predictor.from_artifact(toy_artifact, device=device)
    assert caught.value.what == f"there is no device {device!r}"
    assert caught.value.fix == "use one of 'auto', 'cpu'"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="'auto', 'cpu', 'cuda', 'cuda:0', 'cuda:1'"):
        Predictor.from_artifact(toy_artifact, device="cuda:2")


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "cuda"), (3, "cuda")])
def test_auto_is_a_gpu_where_there_is_one(toy_artifact, monkeypatch, gpus, device):
    import torch

    moved = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, where: moved.append(where))
    monkeypatch.setattr(Predictor, "choose_backends", lambda self, *asked: None)
    Predictor.from_artifact(toy_artifact, device="auto")
    assert moved[-1] == device


def test_half_a_surrogate_pair_loses_no_row(predictor):
    rows = toy_rows(3).astype(object)
    rows["channel"] = pd.Series(["web", "\ud83d", "shop"], dtype=object)
    rows["chat"] = pd.Series(["hello", "half \ud83d", "there"], dtype=object)
    assert predictor.predict(rows).notna().all().all()


def test_mixed_python_values_lose_no_row(predictor, caplog):
    rows = toy_rows(4).astype(object)
    rows.at[1, "chat"] = ["not", "text"]
    rows.loc[2, "chat"] = None
    rows.loc[3, "amount"] = [1]
    with caplog.at_level(logging.WARNING, "bsm"):
        got = predictor.predict(rows)
    want = predictor.predict(toy_rows(4).assign(chat=["hello", "", "", "hello"], amount=["", "0.25", "0.5", ""]))
    assert np.array_equal(got.to_numpy(), want.to_numpy())
    told = "row 1: column 'chat', step 'read': a value of type list is not text; its text is taken as empty"
    assert told in caplog.text
    assert "column 'amount': 1 cell(s) that cannot be used" in caplog.text
    assert "row 2" not in caplog.text


def test_a_step_that_raises_names_row_and_step(predictor, caplog):
    rows = toy_rows(3)
    rows.loc[1, "chat"] = "no!"
    with caplog.at_level(logging.WARNING, "bsm"):
        predictor.predict(rows)
    assert "row 1: column 'chat', step 'toy_tokens': ValueError: no shouting" in caplog.text


# Building


def test_an_unknown_model_class_names_the_nearest(toy_artifact, tmp_path):
    broken = write_toy_artifact(tmp_path / "broken", model_class="toy_modl")
    with pytest.raises(UnknownModelClassError, match="did you mean 'toy_model'") as caught:
        Predictor.from_artifact(broken)
    assert "config.model_class" in str(caught.value)


def test_an_unknown_step_names_the_nearest_and_the_key(toy_site, tmp_path):
    broken = write_toy_artifact(tmp_path / "broken", text_processing_steps=["toy_token"])
    with pytest.raises(UnknownStepError, match="did you mean 'toy_tokens'") as caught:
        Predictor.from_artifact(broken)
    assert "config.text_processing_steps" in str(caught.value)


def test_steps_that_do_not_end_in_tokens(toy_site, tmp_path):
    broken = write_toy_artifact(tmp_path / "broken", text_processing_steps=["toy_trap"])
    with pytest.raises(PipelineError, match="end with text, the model needs tokens"):
        Predictor.from_artifact(broken)


def test_a_clash_is_found_before_anything_loads(toy_site, tmp_path, monkeypatch):
    artifact = write_toy_artifact(tmp_path / "model")
    write_plugin(tmp_path / "site", "acme-clash", {"toy_tokens": "no_such_module:Nothing"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(AmbiguousComponentError, match="acme-clash/toy_tokens"):
        Predictor.from_artifact(artifact, registry=Registry.discover())
    chosen = write_toy_artifact(tmp_path / "chosen", text_processing_steps=["toy-bsm/toy_tokens"])
    assert Predictor.from_artifact(chosen, registry=Registry.discover()).predict(toy_rows(2)).shape == (2, 2)


def test_the_model_class_config_is_checked_before_the_weights(toy_site, tmp_path):
    import torch

    broken = write_toy_artifact(tmp_path / "broken", size=4)
    stored = torch.load(broken / "model_artifacts.pth", weights_only=True)
    stored["config"]["size"] = "many"
    torch.save(stored, broken / "model_artifacts.pth")
    with pytest.raises(ConfigError, match="size") as caught:
        Predictor.open(broken)
    assert caught.value.where == "the artifact's config and text_encoder/config.json"


def test_weights_that_do_not_fit_are_listed(toy_site, tmp_path):
    broken = write_toy_artifact(tmp_path / "broken", tab_field_list=["amount"])
    import torch

    from bsm_core.artifact import save_artifact

    config = json.loads((broken / "hyperparameters.json").read_text())
    weights = {"embedding.weight": torch.zeros(128, 4), "head.weight": torch.zeros(2, 9), "more": torch.zeros(1)}
    save_artifact(tmp_path / "worse", config=config, state_dict=weights, risk_tables={}, impute={})
    with pytest.raises(WeightsMismatchError) as caught:
        Predictor.from_artifact(tmp_path / "worse")
    for name in ("head.bias", "head.weight", "more"):
        assert name in str(caught.value)


TWO_FIELDS = {
    "primary_text_name": "chat",
    "secondary_text_name": "notes",
    "primary_text_processing_steps": ["toy_trap", "toy_tokens"],
    "secondary_text_processing_steps": ["toy_trap", "toy_trap", "toy_tokens"],
}
RESOLVED = [
    ("model_class", "toy_model", "config.model_class"),
    ("step", "toy_trap", "config.primary_text_processing_steps"),
    ("step", "toy_tokens", "config.primary_text_processing_steps"),
]


@pytest.fixture
def resolved(monkeypatch):
    """The names that were resolved, in order, with the places where they stand."""
    calls = []
    resolve = Registry.resolve

    def count(registry, kind, name, *, where=None):
        calls.append((kind, name, where))
        return resolve(registry, kind, name, where=where)

    monkeypatch.setattr(Registry, "resolve", count)
    return calls


def test_every_name_is_resolved_once(toy_site, tmp_path, resolved):
    artifact = write_toy_artifact(tmp_path / "model", **TWO_FIELDS)
    resolved.clear()
    predictor = Predictor.open(artifact)
    assert set(predictor.preprocessor.pipelines) == {"chat", "notes"}
    assert resolved == RESOLVED
    resolved.clear()
    assert pickle.loads(pickle.dumps(predictor.preprocessor)).pipelines["notes"](["hi"])[1] == []
    assert resolved == []


@pytest.mark.parametrize("command", [["inspect"], ["pack", "new"], ["pack", "new", "--data", "rows.csv"]], ids=" ".join)
def test_a_command_on_an_artifact_resolves_every_name_once(toy_site, tmp_path, monkeypatch, resolved, command):
    write_toy_artifact(tmp_path / "model", **TWO_FIELDS)
    toy_rows().assign(notes="").to_csv(tmp_path / "rows.csv")
    monkeypatch.chdir(tmp_path)
    resolved.clear()
    assert cli.main([command[0], "model", *command[1:]]) == 0
    assert resolved == RESOLVED


def test_a_training_job_resolves_every_name_once(toy_site, tmp_path, resolved):
    train(PAIR, labelled_rows(), tmp_path / "model")
    steps = ["toy_encode", "toy_clean", "toy_split"]
    assert [(kind, name) for kind, name, _ in resolved] == [("model_class", "toy_pair"), *(("step", s) for s in steps)]


def test_two_unknown_names_are_one_error(toy_site, tmp_path):
    steps = ["toy_token", "acme_gone", "toy_token"]
    broken = write_toy_artifact(tmp_path / "broken", text_processing_steps=steps)
    with pytest.raises(UnknownStepError, match="no text step 'toy_token'") as caught:
        Predictor.open(broken)
    assert caught.value.details[1:] == ("no text step 'acme_gone' (config.text_processing_steps)",)


def test_an_artifact_without_text_steps_that_tokenize_needs_no_tokenizer(toy_artifact):
    assert not (toy_artifact / "tokenizer").exists()


def test_import_of_the_public_names_is_lazy():
    code = "import sys, bsm_core; from bsm_core import TextStep, hookimpl; print('torch' in sys.modules)"
    assert run_python(code, SITE) == "False"


def test_a_model_class_that_cannot_be_built_says_which(toy_artifact, monkeypatch):
    import toy_bsm_model

    monkeypatch.setattr(toy_bsm_model.ToyModel, "__init__", lambda self, config: [][1])
    with pytest.raises(ConfigError, match="'toy_model' cannot be built: IndexError"):
        Predictor.from_artifact(toy_artifact)


def fails(batch):
    raise ValueError("boom in forward")


def lacks_a_row(batch):
    import torch

    return torch.zeros(batch.rows - 1, 2)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (fails, "failed: ValueError: boom in forward"),
        (lacks_a_row, "returned float32 [2, 2] as logits, expected floats [3, 2]"),
    ],
)
def test_a_model_class_that_fails_is_named_with_its_distribution(predictor, monkeypatch, forward, words):
    import toy_bsm_model

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", lambda self, batch: forward(batch))
    with pytest.raises(ModelFailedError) as caught:
        predictor.predict(toy_rows(3))
    assert f"model class 'toy_model' {words} (toy_bsm_model:ToyModel of toy-bsm 1.0)" in str(caught.value)


def test_probabilities_that_are_no_numbers_are_an_error(predictor):
    predictor.model.head.bias.data[0] = float("nan")
    with pytest.raises(ModelFailedError, match="infinite for 3 of 3 rows") as caught:
        predictor.predict(toy_rows(3))
    assert caught.value.details == ("rows: 0, 1, 2",)


def test_every_issue_is_handed_over_and_nothing_is_logged(predictor, caplog):
    rows = toy_rows(40).astype(object)
    rows["chat"] = "no!"
    rows.loc[3, "amount"] = "many"
    issues = []
    with caplog.at_level(logging.INFO, "bsm"):
        predictor.predict(rows, on_issue=issues.append)
    assert [(issue.row, issue.column) for issue in issues] == sorted(
        [(row, "chat") for row in range(40)] + [(3, "amount")], key=lambda cell: cell[0]
    )
    assert issues[4] == Issue(3, "amount", "feature", "not a number", "many")
    assert not caplog.text


def fails_for_large_numbers(self, batch):
    if (batch.features > 1e20).any():
        raise OverflowError("too large")
    return batch.features


def test_a_row_for_which_the_model_fails_is_named_or_has_no_probabilities(toy_artifact, monkeypatch, caplog):
    import toy_bsm_model

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", fails_for_large_numbers)
    rows = toy_rows(6).assign(amount=["1", "2", "1e30", "3", "4", "5"])
    with pytest.raises(ModelFailedError, match="OverflowError: too large") as caught:
        Predictor.from_artifact(toy_artifact).predict(rows)
    assert caught.value.details[-2:] == ("rows: 2", "row 2 (large numbers: 'amount' 1e+30)")
    assert 'pass on_bad_row="null" to Predictor.from_artifact' in str(caught.value)
    assert "--" not in str(caught.value)
    predictor = Predictor.from_artifact(toy_artifact, on_bad_row="null")
    issues = []
    got = predictor.predict(rows, on_issue=issues.append)
    assert got.isna().any(axis=1).tolist() == [False, False, True, False, False, False]
    assert issues == [Issue(2, "", "model", "OverflowError: too large (large numbers: 'amount' 1e+30)")]
    predictor.predict(rows)
    assert "row 2: OverflowError: too large (large numbers: 'amount' 1e+30); its probabilities are empty" in caplog.text
    predictor.predict(rows.head(0), on_issue=pytest.fail)
    with pytest.raises(UsageError, match="on_bad_row='drop' cannot be used"):
        Predictor.from_artifact(toy_artifact, on_bad_row="drop")


def test_an_on_issue_that_is_no_function_is_a_usage_error(toy_artifact):
    with pytest.raises(UsageError, match="on_issue='x' cannot be used") as caught:
        Predictor.from_artifact(toy_artifact).predict(toy_rows(2), on_issue="x")
    assert "pass a function" in str(caught.value)


def test_the_row_of_an_issue_is_a_position_and_advice_names_no_flags(toy_artifact, caplog):
    rows = toy_rows(3).assign(amount=["1", "2,5", "3,5"]).set_index(pd.Index([30, 20, 10]))
    predictor, issues = Predictor.from_artifact(toy_artifact), []
    predictor.predict(rows, issues.append)
    assert [(issue.row, issue.value) for issue in issues if issue.column == "amount"] == [(1, "2,5"), (2, "3,5")]
    predictor.predict(rows)
    assert "pass numbers and not text, or set csv_decimal in the artifact's config" in caplog.text
    assert "--csv" not in caplog.text


def test_arrays_in_the_config_become_lists(toy_site, tmp_path):
    import torch

    artifact = write_toy_artifact(tmp_path / "model")
    stored = torch.load(artifact / "model_artifacts.pth", weights_only=True)
    stored["config"] |= {"extra": np.arange(3.0), "more": {"inner": torch.tensor([1, 2])}}
    torch.save(stored, artifact / "model_artifacts.pth")
    config = Artifact.load(artifact).raw_config
    assert (config["extra"], config["more"]) == ([0.0, 1.0, 2.0], {"inner": [1, 2]})
    assert type(config["extra"]) is list


def test_the_weights_are_in_memory_once(toy_site, tmp_path):
    predictor = Predictor.open(write_toy_artifact(tmp_path / "model"))
    assert vars(predictor.artifact).keys().isdisjoint({"weights", "embedding_mat", "model_artifacts"})
    assert predictor.artifact.weights.keys() == predictor.model.state_dict().keys()  # which reads them again


# What training shares


def test_what_is_raised_while_a_model_is_built_is_an_error_of_its_config():
    with (
        pytest.raises(ConfigError, match="model class 'x' cannot be built: KeyError: 'size'") as caught,
        building("x", "here", "mend it"),
    ):
        {}["size"]
    assert (caught.value.where, caught.value.fix) == ("here", "mend it")
    with pytest.raises(DataError, match="ours"), building("x", "here", "mend it"):
        raise DataError("ours")


def test_a_predictor_takes_its_registry_along_to_another_process(toy_site, tmp_path):
    names = [*Registry.discover().components, component("step", "mine", "support.steps:Upper")]
    artifact = write_toy_artifact(tmp_path / "model", text_processing_steps=["mine", "toy_tokens"])
    predictor = Predictor.from_artifact(artifact, registry=Registry(names))
    assert pickle.loads(pickle.dumps(predictor)).predict(toy_rows(3)).equals(predictor.predict(toy_rows(3)))


def test_threads_that_share_a_predictor_learn_of_their_own_rows(toy_artifact, monkeypatch):
    """Each thread has its own number of rows, of which two are at fault; the threads are scored at the same time."""
    import toy_bsm_model

    forward, together = toy_bsm_model.ToyModel.forward, threading.Barrier(6)
    first = threading.local()

    def fails(self, batch):
        if not hasattr(first, "seen"):
            first.seen = together.wait(60)
        if (batch.features > 1e20).any():
            raise OverflowError("too large")
        return forward(self, batch)

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", fails)
    predictor = Predictor.from_artifact(toy_artifact, on_bad_row="null")

    def failed_rows(number):
        found = []
        rows = toy_rows(9 + number).assign(amount="1")
        rows.loc[[number, number + 3], "amount"] = "1e30"
        frame = predictor.predict(rows, found.append)
        assert frame.index[frame.isna().any(axis=1)].tolist() == [number, number + 3]
        return [issue.row for issue in found]

    with ThreadPoolExecutor(6) as threads:
        assert [*threads.map(failed_rows, range(6))] == [[number, number + 3] for number in range(6)]


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_pickled_predictor_scores_the_same_in_another_process(toy_artifact, tmp_path, backend):
    predictor = Predictor.from_artifact(toy_artifact, backend=backend)
    expected = predictor.predict(toy_rows(6))
    copied = pickle.loads(pickle.dumps(predictor))
    pd.testing.assert_frame_equal(copied.predict(toy_rows(6)), expected, check_exact=True)
    (tmp_path / "predictor.pkl").write_bytes(pickle.dumps(predictor))
    toy_rows(6).to_csv(tmp_path / "rows.csv", index=False)
    run_python(
        f"import pickle, pandas; p = pickle.load(open({str(tmp_path / 'predictor.pkl')!r}, 'rb'))\n"
        f"rows = pandas.read_csv({str(tmp_path / 'rows.csv')!r}, dtype=str, keep_default_na=False)\n"
        f"p.predict(rows).to_pickle({str(tmp_path / 'got.pkl')!r})",
        SITE,
    )
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "got.pkl"), expected, check_exact=True)
