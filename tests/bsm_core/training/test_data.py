from __future__ import annotations

import datetime
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.training import labelled_rows

from bsm_core import Batch, TextBatch
from bsm_core.errors import DataError, MissingColumnsError, NoInferenceDataError, UsageError
from bsm_core.preprocess.cells import category_texts
from bsm_core.preprocess.columns import text_values
from bsm_core.preprocess.features import Imputer
from bsm_core.training.data import BatchRows, Rows, ShuffledBatches, class_indices, class_order, read_columns

WANTED = {"label": "config.label_name", "amount": "config.tab_field_list", "chat": "config.text_name"}


# Reading


def as_file(suffix, write):
    def source(frame, folder):
        write(frame, folder / f"rows{suffix}")
        return folder / f"rows{suffix}"

    return source


SOURCES = {
    "csv": as_file(".csv", lambda frame, path: frame.to_csv(path, index=False)),
    "tsv": as_file(".tsv", lambda frame, path: frame.to_csv(path, index=False, sep="\t")),
    "csv.gz": as_file(".csv.gz", lambda frame, path: frame.to_csv(path, index=False)),
    "parquet": as_file(".parquet", lambda frame, path: frame.to_parquet(path)),
    "folder": lambda frame, folder: (
        [frame[start : start + 15].to_csv(folder / f"{start:02}.csv", index=False) for start in (0, 15, 30)] and folder
    ),
    "text of a path": lambda frame, folder: str(SOURCES["csv"](frame, folder)),
    "frame": lambda frame, folder: frame,
    "table": lambda frame, folder: pa.Table.from_pandas(frame),
}


@pytest.mark.parametrize("typed", [False, True], ids=["as text", "typed"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_table_gives_the_same_rows(tmp_path, source, typed):
    frame = labelled_rows()
    if typed:
        frame = frame.assign(amount=pd.to_numeric(frame["amount"]), label=frame["label"].astype(int))
    columns, _ = read_columns(SOURCES[source](frame, tmp_path), WANTED)
    assert list(columns) == list(WANTED)
    assert text_values(columns["chat"])[0] == frame["chat"].tolist()
    assert category_texts(columns["label"]) == labelled_rows()["label"].tolist()
    assert Imputer(-5).transform(columns["amount"]).values.tolist() == [
        float(cell or -5) for cell in labelled_rows()["amount"]
    ]


@pytest.mark.parametrize("source", ["csv", "frame"])
def test_missing_columns_are_named_with_who_wants_them(tmp_path, source):
    frame = labelled_rows().drop(columns="label").rename(columns={"chat": "chats"})
    with pytest.raises(MissingColumnsError) as caught:
        read_columns(SOURCES[source](frame, tmp_path), WANTED)
    told = str(caught.value)
    assert "'label', wanted by config.label_name" in told
    assert "'chat', wanted by config.text_name" in told
    assert "'chats'" in told


@pytest.mark.parametrize("source", ["csv", "parquet", "frame", "table"])
def test_a_table_without_rows_is_an_error(tmp_path, source):
    with pytest.raises(DataError, match="the table has no rows"):
        read_columns(SOURCES[source](labelled_rows()[:0], tmp_path), WANTED)


def test_what_is_no_table(tmp_path):
    with pytest.raises(UsageError, match="NoneType is not a table"):
        read_columns(None, WANTED)
    with pytest.raises(NoInferenceDataError):
        read_columns(tmp_path / "none.csv", WANTED)


# Labels


def indices(column, classes=2, given=None):
    order = class_order(column, "y", classes, given)
    return order, class_indices(column, "y", order).tolist()


@pytest.mark.parametrize(
    ("column", "order"),
    [
        (["1", "0", "1"], [0, 1]),
        (["1.0", "0.0", "1"], [0, 1]),
        ([b"1", b" 0 ", b"1e0"], [0, 1]),
        (pa.array([1, 0, 1], pa.int8()), [0, 1]),
        (pa.array([1.0, 0.0, 1.0]), [0, 1]),
        (pa.chunked_array([[1], [0, 1]]), [0, 1]),
        (pa.array(["1", "0", "1"]).dictionary_encode(), [0, 1]),
        ([True, False, "TRUE"], ["false", "true"]),
        (pa.array([True, False, True]), ["false", "true"]),
        (["true", "False", "True"], ["false", "true"]),
        (["yes", "no", "yes"], ["no", "yes"]),
        (["9", "-2.5", "9.0"], [-2.5, 9]),
        (["b", "9", "b"], [9, "b"]),
        (["10", "9", "10"], [9, 10]),
        (["été", "ça", "été"], ["ça", "été"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ChunkedArray) else str(value),
)
def test_labels_of_any_spelling_stand_in_order(column, order):
    got, labels = indices(column)
    assert got == order
    assert [type(value) for value in got] == [type(value) for value in order]
    assert labels == [1, 0, 1]


def test_the_config_decides_the_order_and_how_a_class_is_spelled():
    assert indices(["1", "0", "1"], given=["1.0", 0]) == (["1.0", 0], [0, 1, 0])
    assert indices(["up", "down"], 3, given=["up", "level", "down"]) == (["up", "level", "down"], [0, 2])


@pytest.mark.parametrize(
    ("cells", "classes", "given", "words"),
    [
        (["a", "b", "c", "a"], 2, None, ["'y' has 3 class(es), the config expects 2", "'a' (2 rows), 'b'", "es to 3"]),
        (["a", "b"], 3, None, ["has 2 class(es), the config expects 3", "num_classes to 2 and is_binary to true"]),
        (["a", "a"], 2, None, ["has 1 class(es)", "at least two classes"]),
        (["a", "a"], 1, None, ["has 1 class(es)", "at least two classes"]),
        ([None, ""], 2, None, ["has 0 class(es)", "classes: none"]),
        (["a", "b"], 2, ["a", "b", "c"], ["has 3 class(es), the config expects 2", "'c' (0 rows)"]),
        (["1", "2"], 2, ["1", 1.0], ["has 1 class(es)"]),
        ([str(i / 7) for i in range(50)], 2, None, ["has 50 class(es)", ", ..."]),
    ],
    ids=["too many", "too few", "one", "one of one", "none", "given too many", "given twice", "numbers"],
)
def test_another_number_of_classes_names_them(cells, classes, given, words):
    with pytest.raises(DataError) as caught:
        class_order(cells, "y", classes, given)
    assert caught.value.where == "column 'y'"
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("missing", ["", None, float("nan"), "nan", "NaN"], ids=repr)
def test_a_missing_label_is_no_class_and_names_its_row(missing):
    with pytest.raises(DataError) as caught:
        indices(["a", missing, "b"])
    assert caught.value.details == ("row 2: no label", "classes: 'a', 'b'")


def test_of_many_rows_without_a_class_the_first_are_named():
    with pytest.raises(DataError, match=r"^12 row\(s\) have no label, or a label that is not one") as caught:
        class_indices(["a"] * 3 + ["c"] * 12, "y", ["a", "b"])
    assert caught.value.details[0] == "row 4: 'c'"
    assert caught.value.details[10:] == ("...", "classes: 'a', 'b'")
    assert caught.value.where == "data, column 'y'"


def test_a_label_that_is_no_cell_has_no_class():
    with pytest.raises(DataError, match="row 1: no label"):
        class_indices(pa.array([[1], [0]]), "y", [0, 1])


# Parts


def numbered(count):
    values = list(range(count))
    columns = {"arrow": pa.array(values), "list": values, "chunks": pa.chunked_array([values[:1], values[1:]])}
    return Rows(columns, torch.arange(count))


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32))
def test_a_split_is_complete_disjoint_in_order_and_the_same_again(count, fraction, seed):
    train, held = numbered(count).split(fraction, seed)
    parts = [train.labels.tolist(), held.labels.tolist() if held else []]
    assert all(part == sorted(part) for part in parts)
    assert sorted(parts[0] + parts[1]) == list(range(count))
    assert len(parts[1]) == min(math.ceil(count * fraction), count - 1)
    again = numbered(count).split(fraction, seed)
    assert again[0].labels.tolist() == parts[0]
    assert (again[1] is None) == (held is None) == (not parts[1])
    for rows in filter(None, (train, held)):
        want = rows.labels.tolist()
        assert rows.columns["arrow"].to_pylist() == rows.columns["chunks"].to_pylist() == want
        assert rows.columns["list"] == want


def test_rows_keep_their_numbers_in_the_table():
    rows = Rows({"x": pa.array(range(10))}, torch.zeros(10))
    assert rows.numbers() == list(range(1, 11))
    assert rows.take([2, 5, 7]).take([0, 2]).numbers() == [3, 8]


def test_another_seed_is_another_split():
    assert len({tuple(numbered(30).split(0.5, seed)[1].labels.tolist()) for seed in range(5)}) == 5


def test_the_first_rows_keep_their_python_values():
    mixed = [1, "x", None, 2]
    day = datetime.date(2024, 1, 31)
    rows = Rows(
        {
            "mixed": mixed,
            "whole": pa.array([7, None, 8, 9]),
            "day": pa.array([day] * 4),
            "raw": pa.array([b"\xff"] * 4),
        },
        torch.zeros(4),
    )
    head = rows.head(3)
    assert head.to_dict("list") == {"mixed": mixed[:3], "whole": [7, None, 8], "day": [day] * 3, "raw": [b"\xff"] * 3}
    assert len(rows.head(9)) == 4


# Batches


def token_batch(lengths):
    texts = {"chat": TextBatch.from_rows([[[5] * length] if length else [] for length in lengths])}
    count = len(lengths)
    return Batch(count, texts, torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 99), st.integers(0, 3))
def test_each_row_is_dealt_once_an_epoch_and_the_same_seed_deals_the_same(lengths, batch_size, seed, epoch):
    def dealt():
        sampler = ShuffledBatches(token_batch(lengths), batch_size, seed)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        return batches

    batches = dealt()
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in batches)
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    assert dealt() == batches


def test_another_epoch_and_another_seed_deal_in_another_order():
    sampler = ShuffledBatches(token_batch([1] * 40), 4, seed=0)
    orders = [list(sampler)]
    sampler.set_epoch(1)
    orders += [list(sampler), list(ShuffledBatches(token_batch([1] * 40), 4, seed=1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_like_lengths_stand_together():
    lengths = np.random.default_rng(0).integers(1, 100, 64)
    spread = [np.ptp(lengths[rows]) for rows in ShuffledBatches(token_batch(lengths.tolist()), 4, seed=0)]
    assert np.mean(spread) < 15


def test_the_length_of_a_row_is_that_of_all_its_chunks_in_all_its_fields():
    texts = {"a": TextBatch.from_rows([[[1, 2], [3]], [], [[1, 2]]]), "b": TextBatch.from_rows([[[9]], [[9]], []])}
    assert ShuffledBatches(Batch(3, texts), 2, seed=0).lengths.tolist() == [4, 1, 2]


def test_rows_are_taken_from_the_batch_with_their_features_and_labels():
    rows = BatchRows(token_batch([1, 2, 3]))
    taken = rows[[2, 0]]
    assert len(rows) == 3
    assert (taken.rows, taken.labels.tolist(), taken.features.tolist()) == (2, [2, 0], [[2.0], [0.0]])
    assert taken.texts["chat"].chunk_offsets.tolist() == [0, 3, 4]
