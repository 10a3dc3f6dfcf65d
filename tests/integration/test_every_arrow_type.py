"""Every Arrow type, in every role, in every output format, in one window and in many.

A cell is right, or there is one of our errors before the first row is scored.
"""

from __future__ import annotations

import csv
import itertools
import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.arrow_types import COLUMNS

from bsm_core import ArtifactConfig
from bsm_core.errors import DataError
from bsm_core.preprocess.columns import table_columns
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import IssueWarnings
from bsm_core.scoring.engines.callbacks import with_probabilities
from bsm_core.scoring.row_issues import CommitReview, RowIssuesFile, issues_table
from bsm_core.scoring.sink import Part, Sink
from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.formats.plain_values import plain_values
from bsm_core.tables.id_counts import IdCounts
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import output_schema

FORMATS, ROWS = ("csv", "tsv", "parquet"), (3, 4096)
ONLY_IN_MEMORY = ("interval", "struct of nothing", "union", "runs: ", "categories of categories", "null among")
RISKS = {"c": {"bins": {"a": 0.5, "1": 0.25, "true": 0.75}, "default_bin": 0.125}}


class Texts(list):
    """Pipeline that keeps the texts it is given."""

    def __call__(self, values, times):
        self.extend(values)
        return [[[1, 2]] for _ in values], []


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def preprocessor(role, keep=()):
    texts = Texts()
    config = {"model_class": "x", **({"text_name": "c"} if role == "text" else {"tab_field_list": ["c"]})}
    config = ArtifactConfig.from_mapping({"model_class": "x"} if role in ("id", "kept") else config, where="test")
    pipelines, impute = {"c": texts} if role == "text" else {}, {"c": -7.0} if role == "number" else {}
    return Preprocessor(config, pipelines, impute, RISKS if role == "category" else {}, keep), texts


def scored(data, folder, role, format, rows):
    """Score the data as a run does, with a model that says 0.5; return the file, the texts and the features."""
    keep = {"id": ["c"], "kept": ["id", "c"]}.get(role, ["id"])
    prepare, texts = preprocessor(role, keep)
    source = TableSource.open(data)
    source.require({**dict.fromkeys(keep, "a flag"), **prepare.wanted})
    kept = output_schema(source.schema(keep), source.format, format)
    schema = pa.schema([*kept, ("prob_class_0", pa.float64()), ("prob_class_1", pa.float64())])
    place = folder / f"issues.{format}"
    RowIssuesFile.check(place, kept.field(0), source.format, folder)
    wanted = list(dict.fromkeys([*keep, *prepare.wanted]))
    windows = source.typed(kept).windows(wanted, rows=rows)
    try:
        sink, features = Sink(folder), []
        sink.work.path.mkdir(exist_ok=True)
        sink.begin({}, {})
        for window in windows:
            batch = prepare(window)
            info = batch.window
            ids = cell_values(info.kept.column(0))
            IssueWarnings().add(info.findings, lambda rows, ids=ids: [ids[row] for row in rows])
            table = with_probabilities(info.kept, torch.full((batch.rows, 2), 0.5, dtype=torch.float64))
            issues = issues_table(info.kept, info.start, info.findings)
            sink.write_part(Part(info.index, info.last, info.end, table, info.findings.counts(), issues))
            features += batch.features.numpy().ravel().tolist()
        file = RowIssuesFile(place, kept.field(0), source.format, folder)
        with CommitReview(file, "100%", IdCounts(sink.work.path)) as review:
            committed = sink.commit(schema, format, review)
    except DataError as error:
        raise AssertionError(f"an error after the first row: {error}") from error
    return committed.path, list(texts), features


def texts_of(column):
    """The texts that the cells have in CSV, by another way than that of the code: the text of Arrow or Python."""
    values = []
    for cell in plain_values(column):
        kind, value = cell.type, None
        if not cell.is_valid:
            values.append("")
            continue
        if pa.types.is_floating(kind) or pa.types.is_temporal(kind):
            value = pa.array([cell], kind).cast(pa.string())[0].as_py()
        elif pa.types.is_boolean(kind):
            value = str(cell.as_py()).lower()
        elif isinstance(cell.as_py(), bytes):
            value = cell.as_py().decode("utf-8", "surrogateescape")
        values.append(str(cell.as_py()) if value is None else value)
    return values


def numbers_of(column):
    """The numbers that the cells are as a feature; -7 for those that are none."""
    found = []
    for value in (cell_values([cell])[0] for cell in plain_values(column)):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        try:
            number = float(value) if isinstance(value, bool) else float(text)
        except ValueError:
            number = math.nan
        found.append(np.float32(number) if abs(number) < 3e38 else -7.0)
    return found


def in_file(name):
    plain = name.removeprefix("categories: ")
    nested = plain.startswith(("list", "large_list", "fixed_size_list", "struct", "map", "opaque list", "tensor"))
    unwritten = plain in ("null", "uuid", "opaque", "opaque null", "json", "bool8", "string_view", "binary_view")
    odd = plain.startswith(("decimal32", "decimal64")) or plain == "timestamp[s] far"
    is_category = plain != name
    return (
        not plain.startswith(ONLY_IN_MEMORY)
        and plain != "timestamp[s] far"
        and not (is_category and (nested or unwritten or odd))
    )


@pytest.mark.parametrize("name", [name for name in COLUMNS if in_file(name)])
def test_a_file(tmp_path, name):
    data, column = tmp_path / "data", COLUMNS[name]
    data.mkdir()
    table = pa.table({"id": ["r0", "r1", "r2", "r3", "r4"], "c": column})
    pq.write_table(table, data / "a.parquet", row_group_size=2)
    pq.write_table(table.slice(3), data / "b.parquet")
    if name == "opaque categories":  # not even Arrow itself reads them
        with pytest.raises(DataError, match="column 'c' has categories"):
            scored(data, tmp_path, "text", "csv", 3)
        return
    whole = pa.concat_arrays([part.combine_chunks() for part in (pq.read_table(data / f)["c"] for f in ("a.parquet",))])
    values = list(map(str, cell_values(plain_values(whole))))
    for role, format, rows in itertools.product(("id", "kept"), FORMATS, ROWS):
        try:
            path, _, _ = scored(data, tmp_path, role, format, rows)
        except DataError as error:
            message = str(error)
            refused = format != "parquet" or "opaque categories" in name
            if refused and "column 'c'" in message and message.isascii():
                continue
            raise
        if format == "parquet":
            back = pq.read_table(path)["c"]
            assert back.type == whole.type
            assert list(map(str, cell_values(plain_values(back)))) == [*values, *values[3:]]
            continue
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            cells = [row["c"] for row in csv.DictReader(file, delimiter="\t" if format == "tsv" else ",")]
        expected = texts_of(whole)
        assert cells == [*expected, *expected[3:]]
    for role, rows in itertools.product(("text", "number", "category"), ROWS):
        path, texts, features = scored(data, tmp_path, role, "csv", rows)
        check(role, whole, texts[:5], features[:5])
        assert len(texts if role == "text" else features) == 7


def check(role, column, texts, features):
    plain = plain_values(column)
    if role == "number" and not pa.types.is_union(plain.type):
        if pa.types.is_temporal(plain.type) or pa.types.is_nested(plain.type):
            assert features == [-7.0] * 5
        else:
            assert features == pytest.approx(numbers_of(column))
    if role == "text" and (pa.types.is_string(plain.type) or pa.types.is_integer(plain.type)):
        assert texts == texts_of(column)
    if role == "category" and (pa.types.is_string(plain.type) or pa.types.is_boolean(plain.type)):
        bins = RISKS["c"]["bins"]
        assert features == [bins.get(text, 0.125) for text in texts_of(column)]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("role", ["text", "number", "category"])
def test_a_table_in_memory(name, role):
    column = COLUMNS[name]
    table = pa.table({"c": pa.chunked_array([column.slice(0, 2), column.slice(2)])})
    for data, count in ((table, 5), (table.slice(2, 2), 2), (table.slice(5), 0)):
        prepare, texts = preprocessor(role)
        columns, _ = table_columns(data, prepare.wanted)
        batch, findings = prepare.batch(columns, count)
        IssueWarnings().add(findings)
        assert batch.rows == count
        assert np.isfinite(batch.features.numpy()).all()
        if count == 5:
            check(role, column, texts, batch.features.numpy().ravel().tolist())
