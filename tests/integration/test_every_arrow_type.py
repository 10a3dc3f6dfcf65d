"""Every Arrow type, in every role, in every output format, in one window and in many.

A cell is right, or there is one of our errors before the first row is scored.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.arrow_types import COLUMNS, PLAIN
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core import ArtifactConfig
from bsm_core.errors import DataError
from bsm_core.plugins.registry import default_registry
from bsm_core.predictor.probability_columns import with_probabilities
from bsm_core.preprocess.columns import table_columns
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import Issue, IssueWarnings
from bsm_core.run import main
from bsm_core.scoring.output.part import Part
from bsm_core.scoring.output.row_issues import BadRowLimit, CommitReview, RowIssuesFile, issues_table
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.id_counts import IdCounts
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import output_schema

FORMATS, ROWS = ("csv", "tsv", "parquet"), (3, 4096)
ONLY_IN_MEMORY = ("interval", "struct of nothing", "union", "runs: ", "categories of categories", "null among")
NESTED = ("list", "large_list", "fixed_size_list", "struct", "map", "opaque list", "tensor")
BINS = {"a": 0.5, "1": 0.25, "True": 0.75, "1.5": 0.375, "1970-01-01 00:00:00.000003": 0.875}
PARTS = [slice(0, 5), slice(3, 5)]
"""Rows of the two files of a table."""


class Texts(list):
    """Pipeline that keeps the texts it is given."""

    def __call__(self, values, times):
        self.extend(values)
        return [[[1, 2]] for _ in values], []


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def preprocessor(*roles, keep=()):
    """A preprocessor of the columns "text", "number" and "category", as far as these are roles."""
    texts = Texts()
    tabular = [role for role in ("number", "category") if role in roles]
    config = {"model_class": "x", "tab_field_list": tabular, **({"text_name": "text"} if "text" in roles else {})}
    config = ArtifactConfig.from_mapping(config, where="test")
    risks = {"category": {"bins": BINS, "default_bin": 0.125}} if "category" in roles else {}
    impute = {"number": -7.0} if "number" in roles else {}
    return Preprocessor(config, {"text": texts} if "text" in roles else {}, impute, risks, keep), texts


def written(folder, columns):
    """Write a table into two files; return their folder."""
    data, table = folder / "data", pa.table({"id": ["r0", "r1", "r2", "r3", "r4"], **columns})
    data.mkdir()
    for name, part in zip(("a.parquet", "b.parquet"), PARTS, strict=True):
        pq.write_table(table.slice(part.start, part.stop - part.start), data / name, row_group_size=2)
    return data


def scored(data, folder, format, rows, *roles, keep=("id",)):
    """Score the data as a run does, with a model that says 0.5; return the file, the texts and the features."""
    prepare, texts = preprocessor(*roles, keep=keep)
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
            bad = Issue(batch.rows - 1, "x", "feature", "bad")
            findings = replace(info.findings, issues=[*info.findings.issues, bad])
            IssueWarnings().add(findings, info.names)
            table = with_probabilities(info.kept, np.full((batch.rows, 2), 0.5))
            issues = issues_table(info.kept, info.start, findings)
            sink.write_part(Part(info.index, info.last, info.end, table, findings.counts(), issues))
            features += batch.features.tolist()
        file = RowIssuesFile(place, kept.field(0), source.format, folder)
        with CommitReview(file, BadRowLimit("100%", source.format), IdCounts(sink.work.path)) as review:
            committed = sink.commit(schema, format, review)
    except DataError as error:
        raise AssertionError(f"an error after the first row: {error}") from error
    return committed.path, list(texts), features


def in_file(name):
    plain = name.removeprefix("categories: ")
    unwritten = plain in ("null", "uuid", "opaque", "opaque null", "json", "bool8", "string_view", "binary_view")
    odd = plain.startswith(("decimal32", "decimal64"))
    return (
        not plain.startswith(ONLY_IN_MEMORY)
        and plain != "timestamp[s] far"
        and not (plain != name and plain.startswith("duration") and plain.endswith("far"))
        and not (plain != name and (plain.startswith(NESTED) or unwritten or odd))
    )


IN_FILE = [name for name in COLUMNS if in_file(name)]


def refused(name, format):
    """Whether a column cannot be written in a format; a column that cannot be read is refused in each."""
    plain = name.removeprefix("categories: ")
    no_text = plain.startswith(NESTED) or name in ("time zone 'utc'", "time zone 'Mars/\\x1b[31mBase\\n'")
    return name == "opaque categories" or (format != "parquet" and no_text)


def in_parquet(name):
    """Return the name of the column that Arrow reads when it has written this one: some categories lose their type."""
    kept = {"categories: duration": "opaque", "categories: time zone": "time zone 'UTC'"}
    return next((kept[begin] for begin in kept if name.startswith(begin)), name)


def of_both_files(values):
    return [value for part in PARTS for value in values[part]]


def cells_in_csv(name, kind):
    """The texts that the cells have in CSV. ``kind`` is the type in the file: Parquet has no seconds, for example."""
    column = PLAIN[name]
    if pa.types.is_temporal(column.type):
        column = column.cast(kind.value_type if pa.types.is_dictionary(kind) else kind)
    if pa.types.is_temporal(column.type) and name.rpartition(": ")[2].startswith("time zone"):
        values = texts_of(f"time zone {column.type.tz!a}")
    elif pa.types.is_temporal(column.type):
        numbers = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64()).to_pylist()
        values = [number is not None and text_of_time(number, column.type) for number in numbers]
    elif pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        values = texts_of(name)
    else:
        values = [
            value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
            for value in column.to_pylist()
        ]
    return [value if valid else "" for value, valid in zip(values, column.is_valid().to_pylist(), strict=True)]


def check_written(path, format, given, names):
    """Check the columns of a prediction file. ``given`` is the table of the first file, as Arrow reads it."""
    if format == "parquet":
        back = pq.read_table(path)
        assert back.select(names).schema.types == given.select(names).schema.types
        for name in names:
            assert [*map(str, cell_values(back[name]))] == of_both_files([*map(str, cell_values(given[name]))]), name
        return
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if format == "tsv" else ","))
    for name in names:
        assert [row[name] for row in rows] == of_both_files(cells_in_csv(name, given[name].type)), name


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows", ROWS)
def test_kept_columns(tmp_path, format, rows):
    names = [name for name in IN_FILE if not refused(name, format)]
    data = written(tmp_path, {name: COLUMNS[name] for name in names})
    path, _, _ = scored(data, tmp_path, format, rows, keep=["id", *names])
    check_written(path, format, pq.read_table(data / "a.parquet"), names)


@pytest.mark.parametrize("name", IN_FILE)
def test_an_id(tmp_path, name):
    data = written(tmp_path, {name: COLUMNS[name]})
    for format, rows in itertools.product(FORMATS, ROWS):
        if not refused(name, format):
            path, _, _ = scored(data, tmp_path, format, rows, keep=[name])
            check_written(path, format, pq.read_table(data / "a.parquet"), [name])
            continue
        for keep in ([name], ["id", name]):
            with pytest.raises(DataError) as caught:
                scored(data, tmp_path, format, rows, keep=keep)
            assert f"column {name!r}" in str(caught.value)
            assert str(caught.value).isascii()


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_two_processes(tmp_path, monkeypatch, format):
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    default_registry.cache_clear()
    names = [name for name in IN_FILE if not refused(name, format)]
    toy = toy_rows(5)[["chat", "amount", "channel"]].to_dict("list")
    data = written(tmp_path, {**{name: COLUMNS[name] for name in names}, **toy})
    flags = [
        "--devices",
        "2",
        "--device",
        "cpu",
        "--window-rows",
        "2",
        "--output-format",
        format,
        "--keep-columns",
        "all",
    ]
    places = ["--model-dir", write_toy_artifact(tmp_path / "model"), "--data-dir", data, "--output-dir", tmp_path]
    assert main(["--job_type", "inference", "--id-field", names[0], *map(str, places), *flags]) == 0
    default_registry.cache_clear()
    given = pq.read_table(data / "a.parquet")
    check_written(tmp_path / f"inference_predictions.{format}", format, given, names)


@pytest.mark.parametrize("name", [name for name in IN_FILE if name != "opaque categories"])
@pytest.mark.parametrize("rows", ROWS)
def test_features_of_a_file(tmp_path, name, rows):
    data = written(tmp_path, dict.fromkeys(("text", "number", "category"), COLUMNS[name]))
    _, texts, features = scored(data, tmp_path, "csv", rows, "text", "number", "category")
    numbers, categories = zip(*features, strict=True)
    assert (texts[5:], numbers[5:], categories[5:]) == (texts[3:5], numbers[3:5], categories[3:5])
    check(in_parquet(name), texts[:5], numbers[:5], categories[:5])


@pytest.mark.parametrize("name", COLUMNS)
def test_features_of_a_table_in_memory(name):
    column = COLUMNS[name]
    chunks = pa.chunked_array([column.slice(0, 2), column.slice(2)])
    table = pa.table(dict.fromkeys(("text", "number", "category"), chunks))
    for data, count in ((table, 5), (table.slice(2, 2), 2), (table.slice(5), 0)):
        prepare, texts = preprocessor("text", "number", "category")
        columns, _ = table_columns(data, prepare.wanted)
        batch, findings = prepare.batch(columns, count)
        IssueWarnings().add(findings)
        assert batch.features.shape == (count, 2)
        if count == 5:
            check(name, texts, *batch.features.T.tolist())


def check(name, texts, numbers, categories):
    if name.rpartition(" ")[2] in ("far", "odd"):  # beyond what pandas can hold: the text that Arrow prints, or none
        assert "<" not in "".join(texts)
        assert texts[1] == ""
        assert [*texts[3:]] == texts_of(name.rpartition(" ")[0] if "date" not in name else "date32 near")[3:]
    else:
        assert [*texts] == texts_of(name)
    keys = [str(Decimal(text).normalize()) if "decimal" in name and text else text for text in texts]
    no_category = pa.types.is_temporal(PLAIN[name].type) and "date" not in name
    assert [*categories] == [0.125 if no_category else BINS.get(key, 0.125) for key in keys]
    assert [*numbers] == pytest.approx(numbers_of(name))


def texts_of(name):
    """The texts that the cells have for the model, as pandas prints values."""
    column = PLAIN.get(name)
    plain = name.rpartition(": ")[2]
    if found := re.fullmatch(r"(timestamp|duration|time32|time64)\[(.*)\]", plain):
        day = {"timestamp": "1970-01-01 ", "duration": "0 days "}.get(found[1], "")
        return [f"{day}00:00{seconds(n, found[2])}" if n else "" for n in (1, 0, 2, 3, 4)]
    if plain.startswith("time zone"):
        before, after = {"'UTC'": ("00:00", "+00:00"), "'Europe/Paris'": ("01:00", "+01:00")}.get(
            plain[10:], ("05:30", "+05:30") if "+05:30" in plain else ("00:00", "Z")
        )
        return [f"1970-01-01 {before}{seconds(n, 'us')}{after}" if n else "" for n in (1, 0, 2, 3, 4)]
    if plain.startswith("date"):
        near = ["", "", "", "1970-01-01", "1970-01-02"]
        return near if "near" in plain else ["2024-01-02", "", "0001-01-01", "9999-12-31", "1970-01-01"]
    if plain == "interval" or (pa.types.is_nested(column.type) and not pa.types.is_union(column.type)):
        return [""] * 5
    return [text_of(value) for value in column.to_pylist()]


def seconds(n, unit):
    return {"s": f":0{n}", "ms": f":00.{n * 1000:06}", "us": f":00.{n:06}", "ns": f":00.{n:09}"}[unit]


def text_of_time(number, kind):
    """The text of a date or time without a zone, by arithmetic; a value that no calendar or clock has is its number."""
    if pa.types.is_date(kind):
        day = number if kind == pa.date32() else number // 86_400_000
        return str(np.datetime64(day, "D")) if -(10**7) < day < 10**7 else str(number)
    size = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    second, fraction = divmod(number, size)
    days, second = divmod(second, 86_400)
    nanoseconds = fraction * 10**9 // size
    digits = f".{nanoseconds:09}" if nanoseconds % 1000 else f".{nanoseconds // 1000:06}" if nanoseconds else ""
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{digits}"
    if pa.types.is_time(kind):
        return str(number) if days else clock
    if pa.types.is_duration(kind):
        return f"{days} days {'+' * (days < 0)}{clock}"
    return f"{np.datetime64(days, 'D')} {clock}"


def text_of(value):
    if isinstance(value, bytes):
        return "" if b"\xff" in value else value.decode()
    return "" if value is None or value != value else str(value)


def numbers_of(name):
    """The numbers that the cells are as a feature; -7 for those that are none."""
    column = PLAIN[name]
    if pa.types.is_temporal(column.type) or (pa.types.is_nested(column.type) and not pa.types.is_union(column.type)):
        return [-7.0] * 5
    found = []
    for value in column.to_pylist():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        try:
            number = float(value) if isinstance(value, bool) else float(text)
        except ValueError:
            number = math.nan
        found.append(np.float32(number) if abs(number) < 3e38 else -7.0)
    return found
