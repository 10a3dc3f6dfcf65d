from __future__ import annotations

import json
import pickle
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.windows import CONFIG, decoded, write

from bsm_core import ArtifactConfig, BSMDataset
from bsm_core.artifact.features.feature_scaling import check_feature_scaling
from bsm_core.errors import UsageError
from bsm_core.preprocess.dataset import Preprocessor, WindowInfo, collate
from bsm_core.preprocess.features import Features, Imputer, RiskTable
from bsm_core.preprocess.findings import Findings
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.binary_view(), pa.int64()], ids=str)
def test_ids_of_every_type_name_rows(kind):
    ids = pa.chunked_array([pa.array([b"7", b"8"] if pa.types.is_binary_view(kind) else ["7", "8"]).cast(kind)])
    info = WindowInfo(0, 0, True, 1.0, pa.table({"id": ids}), Findings())
    assert [str(name) for name in info.names([1, 0])] == ["8", "7"]


def test_a_window_becomes_a_batch(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey|you,3,web", "02,hey,,mail")
    (window,) = source.windows(["id", "chat", "amount", "channel"])
    batch = preprocessor(window)
    assert batch.rows == 2
    assert decoded(batch) == ["hey", "you", "hey"]
    assert batch.features.tolist() == [[3.0, 0.5], [2.0, 0.25]]
    assert batch.window.kept.to_pydict() == {"id": [b"01", b"02"]}
    assert (batch.window.index, batch.window.last) == (0, True)
    assert batch.window.findings.counts() == {"missing:amount": 1, "unseen:channel": 1}


def test_features_are_built_once_for_all_windows(preprocessor, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(Features, "__init__", lambda self, *arguments: built.append(arguments))
    source = write(tmp_path / "t.csv", *(f"{i},x,1,web" for i in range(5)))
    windows = list(source.windows(["id", "chat", "amount", "channel"], rows=2))
    assert [preprocessor(window).features.tolist() for window in windows] == [[[1.0, 0.5]] * n for n in (2, 2, 1)]
    assert built == []


def test_rows_are_named_by_their_ids_or_else_by_their_place_in_the_table(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", "01,hey,3,web", '"a""b",hey,,mail', "03,,,")
    columns = ["id", "chat", "amount", "channel"]
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=1)] == [["01"], ['a"b'], ["03"]]
    preprocessor.keep = ()
    assert [preprocessor(w).names([0]) for w in source.windows(columns, rows=2)] == [[0], [2]]
    assert preprocessor.batch({name: pa.nulls(3) for name in columns}, 3)[0].names([0, 2]) == [0, 2]


NUMBERS = {
    "float beside an integer": (pa.array([12345, 1, None]), pa.array([1.5, 1.0, np.nan])),
    "categories": (pa.array([12345, 1, None]).dictionary_encode(), pa.array([1.5, 1.0, None]).dictionary_encode()),
    "widths of floats": (pa.array([0.1, 1.5, None], pa.float32()), pa.array([0.1, 1.5, None])),
    "decimals": tuple(pa.array([Decimal("1.5"), None]).cast(pa.decimal128(*k)) for k in ((5, 2), (9, 4))),
    "signs": (pa.array([-1, 2**53 + 1]), pa.array([2**63 + 1, None], pa.uint64())),
    "a large integer": (pa.array([2**53 + 1, None]), pa.array([0.5, np.inf])),
    "units of times": tuple(pa.array([1_500, None]).cast(pa.timestamp(unit)) for unit in ("ms", "us", "ns")),
    "durations": tuple(pa.array([1_500, None]).cast(pa.duration(unit)) for unit in ("ms", "ns")),
    "dates": (pa.array([1, None], pa.int32()).cast(pa.date32()), pa.array([86_400_000]).cast(pa.date64())),
    "lists": (pa.array([[1], None]), pa.array([[1.5]])),
    "bytes": (pa.array([b"ab", b"\xff"]), pa.array(["ab", None]), pa.array([b"abc"], pa.binary(3))),
}


@pytest.mark.parametrize("columns", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("rows", [2, 4096])
def test_each_row_is_what_its_file_alone_gives_whatever_types_other_files_have(tmp_path, columns, rows):
    bins = {key: n / 32 for n, key in enumerate(("1", "1.50", "1.5000", "0.1", "12345", str(2**53 + 1), "ab"))}
    config = ArtifactConfig.from_mapping(
        {"model_class": "x", "text_name": "text", "tab_field_list": ["number", "category"]}, where="test"
    )

    def read(path):
        texts, features, issues, kept = [], [], [], []
        pipeline = lambda values, times: (texts.extend(values), ([[[1, 2]] for _ in values], []))[1]  # noqa: E731
        risks = {"category": {"bins": bins, "default_bin": 0.125}}
        prepare = Preprocessor(config, {"text": pipeline}, {"number": -7.0}, risks, ("id",))
        for window in TableSource.open(path).windows(["id", "text", "number", "category"], rows=rows):
            batch = prepare(window)
            features += batch.features.tolist()
            found = batch.window.findings.issues
            issues += [(i.column, i.reason, i.value, batch.window.kept["id"][i.row].as_py()) for i in found]
            kept += batch.window.kept["id"].to_pylist()
        return [texts, features, issues, kept]

    alone = [[], [], [], []]
    for number, column in enumerate(columns):
        ids = [f"{number}-{row}" for row in range(len(column))]
        table = pa.table({"id": ids, "text": column, "number": column, "category": column})
        (tmp_path / str(number)).mkdir()
        pq.write_table(table, tmp_path / str(number) / "a.parquet")
        alone = [one + more for one, more in zip(alone, read(tmp_path / str(number)), strict=True)]
    assert read(tmp_path) == alone


def test_findings_name_rows_and_count_cells(preprocessor):
    columns = {
        "chat": pa.array([b"ok", b"\xff", b"no!"], pa.binary()),
        "amount": pa.array([b"1", b"two", b"inf"], pa.binary()),
        "channel": pa.array([b"web"] * 3, pa.binary()),
    }
    batch, findings = preprocessor.batch(columns, 3)
    assert decoded(batch) == ["ok"]
    assert [(i.row, i.column, i.stage, i.kind, i.value) for i in findings.issues] == [
        (1, "chat", "read", "bytes that are not UTF-8", "\\xff"),
        (1, "amount", "feature", "not a number", "two"),
        (2, "chat", "toy_tokens", "ValueError", "no!"),
        (2, "amount", "feature", "infinite", "inf"),
    ]
    assert findings.counts() == {
        "text:chat": 2,
        "number:amount": 2,
        "bad_rows": 2,
        "reason:read:bytes that are not UTF-8:chat": 1,
        "reason:feature:not a number:amount": 1,
        "reason:toy_tokens:ValueError:chat": 1,
        "reason:feature:infinite:amount": 1,
    }
    assert batch.features[:, 0].tolist() == [1.0, 2.0, 2.0]


def test_wanted_columns_and_who_wants_them(preprocessor):
    assert preprocessor.wanted == {
        "amount": "config.tab_field_list",
        "channel": "config.tab_field_list",
        "chat": "config.text_name",
    }


def test_no_plugin_object_is_pickled(preprocessor):
    preprocessor.pipelines["chat"].steps[0].step.cannot_be_pickled = lambda: None
    assert decoded(
        pickle.loads(pickle.dumps(preprocessor)).batch({"chat": ["q"], "amount": [1], "channel": [""]}, 1)[0]
    ) == ["q"]


def test_a_dataset_is_as_long_as_its_rows():
    assert len(BSMDataset({"chat": ["a", "b"]}, 2, CONFIG)) == 2


def dataset_of(pipeline, config=CONFIG):
    columns = {
        "id": pa.array([b"01", b"\xff"]),
        "chat": pa.array([b"hey|you", b""]),
        "amount": pa.array([b"3", b""]),
        "channel": pa.array([b"web", None]),
        "other": pa.array([b"x", b"y"]),
    }
    dataset = BSMDataset(columns, 2, config)
    for name in ("channel", "other"):
        dataset.add_pipeline(name, RiskTable({"web": 0.5, "x": 0.1}, 0.25))
    dataset.add_pipeline("amount", Imputer(2.0))
    if pipeline:
        dataset.add_pipeline("chat", pipeline)
    return dataset


def tokens(sample):
    return [bytes(chunk["input_ids"]).decode() for chunk in sample["chat"]]


def test_a_row_of_a_dataset_has_what_the_processors_made_of_it(pipeline):
    dataset = dataset_of(pipeline)
    first, last = dataset[0], dataset[torch.tensor(-1)]
    assert list(first) == ["id", "chat", "amount", "channel", "other"]
    assert tokens(first) == ["hey", "you"]
    assert first["chat"][0]["attention_mask"] == [1, 1, 1]
    assert {**first, "chat": 0} == {"id": "01", "chat": 0, "amount": 3.0, "channel": 0.5, "other": pytest.approx(0.1)}
    assert {**last, "chat": 0} == {"id": b"\xff", "chat": 0, "amount": 2.0, "channel": 0.25, "other": 0.25}
    for beyond in (2, -3):
        with pytest.raises(IndexError):
            dataset[beyond]
    assert "chat" in dataset
    assert "absent" not in dataset


def test_the_keys_of_tokens_are_those_of_the_config(pipeline):
    config = CONFIG.model_copy(update={"text_input_ids_key": "ids", "text_attention_mask_key": "mask"})
    dataset = dataset_of(pipeline, config)
    assert dataset[0]["chat"][0].keys() == {"ids", "mask"}
    assert decoded(collate([dataset[0]])) == ["hey", "you"]


def test_rows_are_collated_in_the_given_order(pipeline):
    dataset = dataset_of(pipeline)
    batch = collate([dataset[1], dataset[0]])
    assert decoded(batch) == [*tokens(dataset[1]), "hey", "you"]
    assert batch.features.tolist() == [[2.0, 0.25], [3.0, 0.5]]
    assert list(batch.feature_names) == ["amount", "channel"]
    assert batch.names([1]) == [0]


def test_a_processor_that_is_added_later_counts(pipeline):
    dataset = dataset_of(None)
    assert dataset[0]["chat"] == "hey|you"
    with pytest.raises(UsageError, match="'chat' is not tokenized"):
        collate([dataset[0]])
    dataset.add_pipeline("chat", pipeline)
    dataset.add_pipeline("amount", Imputer(7.0))
    assert tokens(dataset[0]) == ["hey", "you"]
    assert dataset[1]["amount"] == 7.0


def test_a_feature_that_is_a_text_too_has_both_values(pipeline):
    config = CONFIG.model_copy(update={"tab_field_list": ["chat", "amount"]})
    dataset = BSMDataset({"chat": pa.array([b"5"]), "amount": pa.array([b"1"])}, 1, config)
    dataset.add_pipeline("chat", pipeline)
    batch = collate([dataset[0]])
    assert decoded(batch) == tokens(dataset[0]) == ["5"]
    assert batch.features.tolist() == [[5.0, 1.0]]


def test_missing_columns_are_all_named():
    dataset = BSMDataset({"chat": ["a"]}, 1, CONFIG)
    for use in (dataset.to_batch, lambda: dataset[0]):
        with pytest.raises(KeyError, match=r"2 column\(s\) are missing") as caught:
            use()
        assert all(name in str(caught.value) for name in ("'amount'", "'channel'"))


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


def test_a_cell_that_is_a_text_and_a_feature_has_one_issue(pipeline):
    config = CONFIG.model_copy(update={"tab_field_list": ["chat", "amount"]})
    preprocessor = Preprocessor(config, {"chat": pipeline}, {}, {})
    columns = {"chat": pa.array([b"\xff", b"no!", b"5", b"word", b""]), "amount": pa.array([b"1"] * 5)}
    _, findings = preprocessor.batch(columns, 5)
    assert [(i.row, i.stage) for i in findings.issues] == [(0, "read"), (1, "toy_tokens"), (3, "feature")]
    assert findings.seen == {"missing:chat": 1}


def test_a_text_that_is_cut_is_not_a_missing_one(pipeline):
    preprocessor = Preprocessor(CONFIG.model_copy(update={"tab_field_list": []}), {"chat": pipeline}, {}, {}, (), 1)
    _, findings = preprocessor.batch({"chat": pa.array([b"a " * 600_000, b"\xff", b""])}, 3)
    assert findings.seen == {"missing:chat": 1}


def opened(path, cells, dialect):
    """One column ``channel``, as a file of the path's format."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"channel": pa.array([cell.encode() for cell in cells], pa.binary())}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"channel": cell}) + "\n" for cell in cells))
    else:
        path.write_text("".join(f'"{cell}"\n' for cell in ["channel", *cells]))
    return TableSource.open(path, dialect=Dialect.of(dialect))


@pytest.mark.parametrize("dialect", [{}, {"csv_decimal": ","}])
@pytest.mark.parametrize(("name", "risk"), [("t.csv", 0.125), ("t.tsv", 0.125), ("t.jsonl", 0.5), ("t.parquet", 0.5)])
def test_for_the_original_text_that_read_csv_takes_as_missing_is_missing_in_csv_alone(tmp_path, name, risk, dialect):
    """``read_json`` and ``read_parquet`` keep NA, also where its Arrow type is that of a cell of CSV."""
    source = opened(tmp_path / name, ["NA", "x"], dialect)
    tables = {"channel": {"bins": {"NA": 0.5, "nan": 0.125}, "default_bin": 0.25}}
    values = {"model_class": "tabular", "tab_field_list": ["channel"], "compat": "original"}
    config = ArtifactConfig.from_mapping(values, where="config")
    preprocessor = Preprocessor(config, {}, {}, tables, source=source)
    kept = source.typed(pa.schema([("channel", pa.string())]))  # as a kept column is for Parquet
    for table in (source, kept):
        (window,) = table.windows(["channel"])
        assert preprocessor(window).features.tolist() == [[risk], [0.25]]
    dataset = BSMDataset({"channel": window.table["channel"]}, 2, config, source)
    dataset.add_pipeline("channel", RiskTable(**tables["channel"]))
    assert dataset.to_batch()[0].features.tolist() == [[risk], [0.25]]


# Scaling

SCALING = check_feature_scaling(
    {
        "amount": {"kind": "standard", "mean": 2, "std": 0.5, "missing_indicator": True},
        "channel": {"kind": "one_hot", "categories": ["nan", "web"]},
    },
    where="test",
)


def test_a_batch_has_the_inputs_of_the_model_and_the_values_of_the_table(pipeline, tmp_path):
    preprocessor = Preprocessor(CONFIG, {"chat": pipeline}, {"amount": 3.0}, {}, keep=["id"], scaling=SCALING)
    preprocessor = pickle.loads(pickle.dumps(preprocessor))
    (window,) = write(tmp_path / "t.csv", "01,hey,2.5,web", "02,hey,,").windows(["id", "chat", "amount", "channel"])
    batch = preprocessor(window)
    assert batch.features.tolist() == [[1.0, 0.0, 0.0, 1.0], [2.0, 1.0, 1.0, 0.0]]
    assert batch.feature_names == ("amount", "amount is missing", "channel = nan", "channel = web")
    assert batch.table_values[:, 0].tolist() == [2.5, 3.0]
    last = batch.select(torch.tensor([1]))
    assert last.features.tolist() == [[2.0, 1.0, 1.0, 0.0]]
    assert last.table_values[:, 0].tolist() == [3.0]
    assert preprocessor.imputers["amount"].value == 3.0


def test_the_dataset_of_the_contract_scales_too(pipeline):
    preprocessor = Preprocessor(CONFIG, {"chat": pipeline}, {"amount": 3.0}, {}, scaling=SCALING)
    columns = {"chat": ["hey", "you"], "amount": ["2.5", ""], "channel": ["web", None]}
    dataset = BSMDataset(columns, 2, CONFIG)
    for processors in (preprocessor.imputers, preprocessor.risk_tables, preprocessor.pipelines):
        for name, processor in processors.items():
            dataset.add_pipeline(name, processor)
    assert [dataset[row]["amount"] for row in (0, 1)] == [2.5, 3.0]
    batch = collate([dataset[1], dataset[0]])
    assert batch.features.tolist() == [[2.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]
    assert list(batch.feature_names) == ["amount", "amount is missing", "channel = nan", "channel = web"]
