from __future__ import annotations

import datetime
import math

import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.training import labelled_rows

from bsm_core.errors import DataError, MissingColumnsError, NoInferenceDataError, UsageError
from bsm_core.preprocess.cells import category_texts
from bsm_core.preprocess.columns import text_values
from bsm_core.preprocess.features import Imputer
from bsm_core.training.rows.data import Rows, read_columns

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
    columns, _, _ = read_columns(SOURCES[source](frame, tmp_path), WANTED)
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


def test_lines_that_cannot_be_read_are_left_out_and_told_if_the_caller_says_so(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("label,amount,chat\n1,2,a\n0,3\n0,4,b\n1,5,c,d,e\n1,6,f\n")
    with pytest.raises(DataError) as caught:
        read_columns(path, WANTED)
    assert caught.value.settings == ({"on_bad_line": "skip"},)
    columns, source, bad_lines = read_columns(path, WANTED, on_bad_line="skip")
    assert category_texts(columns["amount"]) == ["2", "4", "6"]
    assert source.format == "csv"
    assert [(before, bad.where) for before, bad in bad_lines] == [(1, f"{path}, line 3"), (2, f"{path}, line 5")]


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


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.floats(0, 1, exclude_max=True), st.integers(0, 99))
def test_a_split_has_each_class_in_both_parts_with_its_share(labels, fraction, seed):
    rows = Rows({}, torch.tensor(labels))
    train, held = rows.split(fraction, seed)
    count = len(held or ())
    assert count == min(math.ceil(len(labels) * fraction), len(labels) - 1)
    sizes = rows.labels.bincount(minlength=5)
    parts = [part.labels.bincount(minlength=5) if part else torch.zeros(5) for part in (train, held)]
    single = sizes == 1
    if int((sizes > 1).sum()) <= count <= len(labels) - int((sizes > 0).sum()):
        assert (parts[0][sizes > 0] > 0).all()
        assert (parts[1][sizes > 1] > 0).all()
    if not single.any():
        shares = sizes * count / len(labels)
        assert (abs(parts[1] - shares)[(shares >= 1) & (sizes - shares >= 1)] < 2).all()


def test_nothing_is_split_of_no_rows():
    rows = Rows({}, torch.zeros(0, dtype=torch.int64))
    assert rows.split(0.5, 0) == (rows, None)


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
