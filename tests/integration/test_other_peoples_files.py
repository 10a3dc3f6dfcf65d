"""Files that other projects collected to break readers: every row comes back, with its id as it was given."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from support.toy import SITE, write_toy_artifact

from bsm_core.plugins.registry import default_registry
from bsm_core.run import main

FILES = Path(__file__).parents[1] / "data" / "others"
EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews"
SPECTRUM = sorted((FILES / "csv-spectrum").glob("*.csv"))
NAUGHTY = list(dict.fromkeys(json.loads((FILES / "blns.json").read_text())))


def score(model, data, output, *more):
    places = ["--model-dir", model, "--data-dir", data, "--output-dir", output, "--device", "cpu"]
    assert main([str(word) for word in ("--job_type", "inference", *places, *more)]) == 0


def emoji():
    """Return the sequences of ``emoji-test.txt``."""
    lines = gzip.decompress((FILES / "emoji-test.txt.gz").read_bytes()).decode().splitlines()
    points = [line.split(";")[0].split() for line in lines if line and not line.startswith("#")]
    return ["".join(chr(int(point, 16)) for point in sequence) for sequence in points]


def rows_of(path):
    """Return the cells of a table as text, by row, the header first."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [table.column_names, *([str(cell) for cell in row.values()] for row in table.to_pylist())]
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("made", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("data", SPECTRUM, ids=lambda path: path.stem)
def test_csv_spectrum(tmp_path, monkeypatch, data, made):
    with data.open(newline="") as file:
        head, *rows = csv.reader(file)
    known = json.loads(data.with_suffix(".json").read_text())
    if isinstance(known, list):  # location_coordinates.json has another telephone number than its table
        assert [dict(zip(head, row, strict=True)) for row in rows] == known
    monkeypatch.syspath_prepend(str(SITE))
    default_registry.cache_clear()
    model = write_toy_artifact(
        tmp_path / "model",
        text_name=head[-1],
        text_processing_steps=["toy_clean", "toy_tokens"],
        tab_field_list=[],
        cat_field_list=[],
    )
    score(model, data, tmp_path / "out", "--id-field", head[0], "--output-format", made, "--keep-columns", "all")
    default_registry.cache_clear()
    returned_head, *returned = rows_of(tmp_path / "out" / f"inference_predictions.{made}")
    kept = [returned_head.index(name) for name in head]
    assert [[row[i] for i in kept] for row in returned] == rows


@pytest.mark.parametrize("made", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("given", ["csv", "parquet"])
@pytest.mark.parametrize("strings", [NAUGHTY, emoji()], ids=["naughty strings", "emoji"])
def test_strings_as_ids_texts_and_categories(tmp_path, strings, given, made):
    """The strings are ids, texts and categories of one table; the empty one, as an id, is an empty cell."""
    reviews = pacsv.read_csv(EXAMPLE / "reviews.csv")
    text = pa.array(strings)
    columns = {
        name: text
        if name in ("review_id", "Review Text", "Class Name")
        else reviews[name].take(pa.array([0] * len(text)))
        for name in reviews.column_names
    }
    table = pa.table(columns)
    data = tmp_path / f"data.{given}"
    if given == "parquet":
        pq.write_table(table, data)
    else:
        with data.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([table.column_names, *(row.values() for row in table.to_pylist())])
    places = (EXAMPLE / "model.tar.gz", data, tmp_path / "out")
    score(*places, "--id-field", "review_id", "--output-format", made, "--max-bad-rows", "100%")
    head, *rows = rows_of(tmp_path / "out" / f"inference_predictions.{made}")
    assert [row[0] for row in rows] == strings
    assert all(0 <= float(row[head.index("prob_class_1")]) <= 1 for row in rows)
