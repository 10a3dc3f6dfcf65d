from __future__ import annotations

import math
import multiprocessing
import pickle
import signal

import pyarrow as pa
import pytest
from support.plugins import component, on_path
from torch.utils.data import DataLoader

from bsm_core import ArtifactConfig, BSMDataset, Pipeline
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import ComponentLoadError, DataError, EngineError
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.dataset import NOT_TEXT, Preprocessor, WindowLoader, text_values
from bsm_core.preprocess.features import Imputer, RiskTable
from bsm_core.preprocess.steps import StepContext
from bsm_core.tables import TableSource

CONFIG = ArtifactConfig.from_mapping(
    {"model_class": "toy_model", "text_name": "chat", "tab_field_list": ["amount", "channel"], "max_sen_len": 8},
    where="test",
)


@pytest.fixture
def pipeline(toy_site):
    return Pipeline([StepSpec("toy_tokens")], StepContext("chat"))


@pytest.fixture
def preprocessor(pipeline):
    tables = {"channel": {"bins": {"web": 0.5}, "default_bin": 0.25}, "chat": {"bins": {}, "default_bin": 9.0}}
    return Preprocessor(CONFIG, {"chat": pipeline}, {"amount": 2.0}, tables, keep=["id"])


def write(path, *rows):
    path.write_text("\n".join(["id,chat,amount,channel", *rows]) + "\n")
    return TableSource.open(path)


def decoded(batch):
    text = batch.texts["chat"]
    chunks = [
        "".join(map(chr, text.tokens[a:b]))
        for a, b in zip(text.chunk_offsets[:-1], text.chunk_offsets[1:], strict=True)
    ]
    return [chunks[i] for i in text.chunk_ids]


# Text


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"hi", b"", "é".encode()], pa.binary()),
        pa.array(["hi", None, "é"], pa.string()),
        pa.array(["hi", "", "é"], pa.large_string()),
        pa.array(["hi", None, "é"]).dictionary_encode(),
        pa.chunked_array([["hi"], [None, "é"]]),
        ["hi", None, "é"],
        ["hi", math.nan, "é".encode()],
    ],
    ids=["binary", "string", "large", "dictionary", "chunked", "objects", "nan and bytes"],
)
def test_texts_of_every_type(column):
    assert text_values(column) == (["hi", "", "é"], [])


def test_a_column_of_nulls_is_empty_text_and_no_warning():
    assert text_values(pa.nulls(2)) == (["", ""], [])


def test_undecodable_bytes_lose_their_own_row_alone():
    texts, failures = text_values(pa.array([b"ok", b"\xff\xfe", b"fine"], pa.binary()))
    assert texts == ["ok", "", "fine"]
    assert [(f.row, f.step) for f in failures] == [(1, NOT_TEXT)]
    assert "UTF-8" in failures[0].reason


@pytest.mark.parametrize("column", [pa.array([None, 3]), pa.array([None, [1]]), [None, 3], [None, ["x"]]])
def test_values_that_are_not_text(column):
    texts, failures = text_values(column)
    assert texts == ["", ""]
    assert [f.row for f in failures] == [1]
    assert "is not text" in failures[0].reason


# A window


def test_a_window_becomes_a_batch(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey|you,3,web", "02,hey,,mail")
    (window,) = source.windows(["id", "chat", "amount", "channel"])
    batch = preprocessor(window)
    assert batch.rows == 2
    assert decoded(batch) == ["hey", "you", "hey"]
    assert batch.features.tolist() == [[3.0, 0.5], [2.0, 0.25]]
    assert batch.window.kept.to_pydict() == {"id": [b"01", b"02"]}
    assert (batch.window.index, batch.window.last) == (0, True)
    assert not batch.window.findings.counts()


def test_rows_are_named_by_their_ids_or_else_by_their_place_in_the_table(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey,3,web", '"a""b",hey,,mail', "03,,,")
    columns = ["id", "chat", "amount", "channel"]
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=1)] == [["01"], ['a"b'], ["03"]]
    preprocessor.keep = ()
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=2)] == [[0], [2]]
    assert preprocessor.batch({name: pa.nulls(3) for name in columns}, 3)[0].names([0, 2]) == [0, 2]


def test_a_dataset_is_as_long_as_its_rows():
    assert len(BSMDataset({"chat": ["a", "b"]}, 2, CONFIG)) == 2


def test_findings_name_rows_and_count_cells(preprocessor):
    columns = {
        "chat": pa.array([b"ok", b"\xff", b"no!"], pa.binary()),
        "amount": pa.array([b"1", b"two", b"inf"], pa.binary()),
        "channel": pa.array([b"web"] * 3, pa.binary()),
    }
    batch, findings = preprocessor.batch(columns, 3)
    assert decoded(batch) == ["ok"]
    assert [(f.row, f.step) for f in findings.texts["chat"]] == [(1, NOT_TEXT), (2, "toy_tokens")]
    assert findings.counts() == {"text:chat": 2, "number:amount": 2}
    assert batch.features[:, 0].tolist() == [1.0, 2.0, 2.0]


def test_wanted_columns_and_who_wants_them(preprocessor):
    assert preprocessor.wanted == {
        "amount": "config.tab_field_list",
        "channel": "config.tab_field_list",
        "chat": "config.text_name",
    }


def test_a_text_field_is_never_risk_mapped(pipeline):
    for order in ([pipeline, RiskTable({}, 9.0)], [RiskTable({}, 9.0), pipeline]):
        dataset = BSMDataset({"chat": ["a"], "amount": ["1"], "channel": ["2"]}, 1, CONFIG)
        for processor in order:
            dataset.add_pipeline("chat", processor)
        batch, _ = dataset.to_batch()
        assert decoded(batch) == ["a"]
        assert batch.features.tolist() == [[1.0, 2.0]]


def test_imputation_comes_before_the_risk_table(pipeline):
    dataset = BSMDataset({"chat": ["a"], "amount": [""], "channel": ["1"]}, 1, CONFIG)
    dataset.add_pipeline("chat", pipeline)
    dataset.add_pipeline("amount", RiskTable({"7": 0.75}, 0.0))
    dataset.add_pipeline("amount", Imputer(7.0))
    assert dataset.to_batch()[0].features.tolist() == [[0.75, 1.0]]


def test_missing_categories_are_filled_and_the_label_is_not():
    columns = {name: pa.array(["x", None]) for name in ("channel", "label", "other")}
    dataset = BSMDataset(columns, 2, CONFIG)
    dataset.fill_missing_value(label_name="label", column_cat_name=["channel", "label", "absent"])
    assert dataset.columns["channel"].to_pylist() == ["x", ""]
    assert dataset.columns["label"].to_pylist() == ["x", None]
    assert dataset.columns["other"].to_pylist() == ["x", None]


# The loader


def indices(loader):
    return [(b.window.index, b.window.kept["id"].to_pylist()) for b in loader]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_windows_out(preprocessor, tmp_path, world):
    source = write(tmp_path / "t.csv", *(f"{i},x,1,web" for i in range(11)))
    shares = [indices(WindowLoader(source, preprocessor, rows=2, rank=r, world=world)) for r in range(world)]
    assert [[i for i, _ in share] for share in shares] == [list(range(r, 6, world)) for r in range(world)]
    ids = [i for _, kept in sorted(w for share in shares for w in share) for i in kept]
    assert ids == [str(i).encode() for i in range(11)]


def test_workers_share_them_further_and_look_steps_up_by_name(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", *(f"{i},x{i},1,web" for i in range(11)))
    alone = WindowLoader(source, preprocessor, rows=2, rank=1, world=2)
    helped = WindowLoader(source, preprocessor, rows=2, rank=1, world=2, num_workers=2)
    assert sorted(indices(helped)) == indices(alone)
    assert {i: decoded(b) for b in helped for i in [b.window.index]} == {b.window.index: decoded(b) for b in alone}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_keeps_its_type_and_its_words(preprocessor, tmp_path, workers):
    before = multiprocessing.active_children()
    source = write(tmp_path / "t.csv", "1,x,1,web", "2,ragged")
    with pytest.raises(DataError, match=r"t\.csv.*3|line 3") as caught:
        list(WindowLoader(source, preprocessor, num_workers=workers))
    assert caught.value.__traceback__  # which must not keep the workers
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_are_started_so_that_they_never_see_ctrl_c(preprocessor, tmp_path, monkeypatch, workers):
    blocked = []

    def start(loader):
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return iter([])

    monkeypatch.setattr(DataLoader, "__iter__", start)
    list(WindowLoader(write(tmp_path / "t.csv"), preprocessor, num_workers=workers))
    assert blocked == [workers > 0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_no_plugin_object_is_pickled(preprocessor):
    preprocessor.pipelines["chat"]._stages[0].step.cannot_be_pickled = lambda: None
    assert decoded(
        pickle.loads(pickle.dumps(preprocessor)).batch({"chat": ["q"], "amount": [1], "channel": [""]}, 1)[0]
    ) == ["q"]


def test_a_worker_that_dies_is_an_error_for_people(toy_site, tmp_path):
    config = CONFIG.model_copy(update={"tab_field_list": []})
    trap = Pipeline([StepSpec("toy_trap"), StepSpec("toy_tokens")], StepContext("chat"))
    source = write(tmp_path / "t.csv", "1,KILL,1,web")
    with pytest.raises(EngineError, match="prepares windows died"):
        list(WindowLoader(source, Preprocessor(config, {"chat": trap}, {}, {}, keep=["id"]), num_workers=1))


HERE_ALONE = """
import multiprocessing
from bsm_core import TextStep

if multiprocessing.parent_process():
    raise ValueError("not in a worker")

class Shout(TextStep):
    def process(self, value):
        return value.upper()
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_a_worker_looks_steps_up_in_the_same_registry_and_tells_why_it_cannot(toy_site, tmp_path, breaks):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/acme.py").write_text(HERE_ALONE if breaks else HERE_ALONE.replace("raise", "_ ="))
    targets = {"mine": "acme:Shout", "tokens": "toy_bsm_steps:ToyTokens"}
    registry = Registry(component("step", name, target, "acme", "2.0") for name, target in targets.items())
    config = CONFIG.model_copy(update={"tab_field_list": []})
    with on_path(tmp_path / "site"):
        pipeline = Pipeline([StepSpec("mine"), StepSpec("tokens")], StepContext("chat"), registry=registry)
        loader = WindowLoader(
            write(tmp_path / "t.csv", "1,hi,1,web"), Preprocessor(config, {"chat": pipeline}, {}, {}), num_workers=1
        )
        if breaks:
            with pytest.raises(ComponentLoadError, match=r"ValueError: not in a worker \(acme:Shout of acme 2\.0\)"):
                list(loader)
        else:
            assert [decoded(batch) for batch in loader] == [["HI"]]
