"""Tables as public bug reports describe them: every row with its id and its score, or an error that helps."""

from __future__ import annotations

import base64
import gzip
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core import Predictor
from bsm_core.plugins.registry import default_registry
from bsm_core.run import main

ROWS = toy_rows(9)
CSV = ROWS.to_csv(index=False)
LINES = CSV.splitlines(keepends=True)
UUID = "0d1f4c2e-7f2a-4a4b-9c55-0f4c1b6d2e11"
Write = Callable[[Path], object]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        default_registry.cache_clear()
        yield write_toy_artifact(tmp_path_factory.mktemp("artifact") / "model")
    default_registry.cache_clear()


@pytest.fixture(scope="module")
def expected(model: Path) -> pd.DataFrame:
    return Predictor.from_artifact(model, device="cpu").predict(ROWS).reset_index(drop=True)


def score(model: Path, data: Path, *flags: str) -> int:
    places = ["--model-dir", str(model), "--data-dir", str(data), "--output-dir", str(data.with_name("out"))]
    return main(["--job_type", "inference", "--id-field", "id", "--device", "cpu", *places, *flags])


def predictions(folder: Path) -> pd.DataFrame:
    [path] = folder.glob("inference_predictions.*")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"id": str}, keep_default_na=False)


def text(name: str, content: str = CSV, encoding: str = "utf-8") -> Write:
    return lambda folder: (folder / name).write_bytes(content.encode(encoding))


def many(*writes: Write) -> Write:
    return lambda folder: [write(folder) for write in writes]


def folder(name: str) -> Write:
    return lambda parent: (parent / name).mkdir(parents=True)


def packed(name: str, content: str = CSV) -> Write:
    return lambda folder: (folder / name).write_bytes(gzip.compress(content.encode()))


def parquet(name: str, rows: pd.DataFrame = ROWS, **how: object) -> Write:
    return lambda folder: rows.to_parquet(folder / name, **how)


def polars(folder: Path) -> None:
    """Write the rows with the Arrow schema of Polars beside them, whose categories are string views."""
    categories, views = pa.dictionary(pa.uint32(), pa.string_view()), pa.string_view()
    schema = pa.schema({name: categories if name == "channel" else views for name in ROWS})
    rows = pa.Table.from_pandas(ROWS, preserve_index=False)
    with pq.ParquetWriter(folder / "a.parquet", rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes()).decode()})
    assert pa.types.is_string_view(pq.read_schema(folder / "a.parquet").field("id").type)


def partitioned(parent: Path) -> None:
    for value, rows in ROWS.assign(group=[str(i // 5) for i in range(len(ROWS))]).groupby("group"):
        (parent / f"group={value}").mkdir()
        rows.to_parquet(parent / f"group={value}/0.parquet", index=False)


def halves(*names: str, header: bool = True) -> Write:
    first = LINES[0] if header else ""
    return many(text(names[0], first + "".join(LINES[1:5])), text(names[1], first + "".join(LINES[5:])))


NULLS = CSV.replace(",,", ",\\N,")
SAME: dict[str, tuple[Write, tuple[str, ...]]] = {
    "aws/aws-sdk#745, UNLOAD of Athena": (parquet(f"20240515_123456_00012_abcde_{UUID}"), ()),
    "aws/aws-sdk#745, packed": (packed(f"20240515_123456_00012_abcde_{UUID}.gz"), ()),
    "aws/aws-sdk-pandas#717, slices of Redshift": (halves("orders_0000_part_00", "orders_0001_part_00"), ()),
    "aws/aws-sdk-pandas#1142, manifest of Redshift": (many(text("o000"), text("omanifest", '{"entries": []}')), ()),
    "move-coop/parsons#871, serial UNLOAD of Redshift": (many(text("o000"), text("o.manifest", "{}")), ()),
    "gbif/portal-feedback#6570, empty file of Parquet": (many(text("000000", ""), parquet("000001")), ()),
    "duckdb/duckdb-web#130, .parq": (parquet("2018_01_02.parq"), ()),
    "ktrueda/parquet-tools#2, files of Hive": (many(parquet("000000_0")), ()),
    "apache/datafusion#13567, Parquet without an extension": (parquet("orders"), ()),
    "apache/datafusion#1648, checksums": (many(parquet("part-00000-1f.snappy.parquet"), text(".part-00000.crc")), ()),
    "cldellow/datasette-parquet#15, _SUCCESS": (many(parquet("part-00000-1f.parquet"), text("_SUCCESS", "")), ()),
    "databricks/spark-csv#453, empty parts": (many(text("part-00000", ""), text("part-00001")), ()),
    "databricks/spark-csv#348, parts of a header": (many(text("part-00000", LINES[0]), text("part-00001")), ()),
    "awsdocs/amazon-athena-user-guide#3": (many(text("a.csv"), text("a.csv.metadata", "\n\1")), ()),
    "troeger/opensubmit#89, files of macOS": (many(text("a.csv"), folder("__MACOSX"), text("__MACOSX/._a.csv")), ()),
    "run-llama/llama_index#88, .DS_Store": (many(text("a.csv"), text(".DS_Store", "\0")), ()),
    "PowerShell/PowerShell#7776, sep=": (text("a.csv", "sep=,\n" + CSV), ()),
    "python/cpython#109644, SEP=; in capitals": (text("a.csv", "SEP=;\r\n" + ROWS.to_csv(sep=";", index=False)), ()),
    "PowerShell/PowerShell#5131, #TYPE": (text("a.csv", "#TYPE System.Object\r\n" + CSV), ()),
    "pandas-dev/pandas#4793, byte order mark": (text("a.csv", CSV, "utf-8-sig"), ()),
    "pandas-dev/pandas#26446, UTF-16": (
        text("a.tsv", ROWS.to_csv(sep="\t", index=False), "utf-16"),
        ("--csv-encoding", "utf-16"),
    ),
    "pandas-dev/pandas#51664, __index_level_0__": (many(parquet("a.parquet", ROWS[:0]), parquet("b.parquet")), ()),
    "pandas-dev/pandas, to_csv with its index": (text("a.csv", ROWS.to_csv()), ()),
    "pola-rs/polars#21143, categories of string views": (polars, ()),
    "apache/arrow#1688, categories": (parquet("a.parquet", ROWS.astype({"channel": "category"})), ()),
    "jrothbaum/stata_parquet_io#17, Eventual-Inc/Daft#2111": (partitioned, ()),
    "ogrodnek/csv-serde#15, null of Hive": (text("000000_0", NULLS), ()),
    "aws/sagemaker-python-sdk#826, manifest": (many(text("a.csv"), text("a.manifest", '[{"prefix": "s3://b/"}]')), ()),
    "apache/spark#23173, header alone": (many(text("part-00000-1f.csv", LINES[0]), text("part-00001-1f.csv")), ()),
    "apache/spark, no header": (
        halves("part-00000", "part-00001", header=False),
        ("--csv-header", "none", "--csv-columns", LINES[0].strip()),
    ),
}


@pytest.mark.parametrize(("write", "flags"), SAME.values(), ids=SAME)
def test_every_row_with_its_score(model, expected, tmp_path, write, flags):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    assert score(model, tmp_path / "data", *flags, "--max-bad-rows", "0") == 0
    got = predictions(tmp_path / "out")
    assert got["id"].tolist() == ROWS["id"].tolist()
    assert (got[expected.columns] - expected).abs().to_numpy().max() < 1e-6


def archive(name: str, member: str) -> Write:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(member, CSV)

    return write


def far_times(folder: Path) -> None:
    times = pa.array([datetime(9999, 12, 31, 15, 59), datetime(2006, 1, 2)], pa.timestamp("us"))
    rows = pa.table({"id": times, **{name: ROWS[name][:2].tolist() for name in ("chat", "amount", "channel")}})
    pq.write_table(rows, folder / "a.parquet", use_deprecated_int96_timestamps=True)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 400625\n"
ERRORS: dict[str, tuple[Write, tuple[str, ...]]] = {
    "Kaggle/kagglehub#187, zip that is named .csv": (
        archive("list.csv", "list.csv"),
        ("list.csv)", "the file is a zip archive", "unpack the file"),
    ),
    "Kaggle/kaggle-api, .csv.zip": (archive("a.csv.zip", "a.csv"), ("a.csv.zip", "unpack it")),
    "workbook that is named .csv": (
        archive("a.csv", "xl/workbook.xml"),
        ("the file is an Excel workbook", "save the sheet as CSV"),
    ),
    "rapidsai/dask-cudf#138, packed text named .csv": (packed("a.csv"), ("packed with gzip", ".gz at the end")),
    "pandas-dev/pandas#14222, plain text named .gz": (text("a.csv.gz"), ("not packed with gzip", "without .gz")),
    "ai-dynamo/aiconfigurator#938, pointer of Git LFS": (text("a.csv", POINTER), ("git lfs pull",)),
    "pointer of Git LFS, Parquet": (text("a.parquet", POINTER), ("git lfs pull",)),
    "jennybc/googlesheets#126, login page": (text("a.csv", "<!DOCTYPE html>\n<html>"), ("the file is a web page",)),
    "Parquet that is named .csv": (parquet("a.csv"), ("the file is a Parquet file", ".parquet at the end")),
    "criteo/garmadon#140, no Parquet": (text("0.parquet", "done"), ("0.parquet)", "the file is text")),
    "pandas-dev/pandas#26446, without the flag": (text("a.csv", CSV, "utf-16"), ("--csv-encoding utf-16",)),
    "dask/fastparquet#154, _temporary": (
        many(text("part-00000.csv"), folder("_temporary/0")),
        ("has '_temporary'", "wait for the job"),
    ),
    "databricks/spark-sql-perf#4, rows in _temporary alone": (
        many(folder("day=1/_temporary/0"), text("day=1/_temporary/0/part-00000.csv")),
        ("has '_temporary'", "day=1)"),
    ),
    "apache/spark#20525, only _SUCCESS": (text("_SUCCESS", ""), ("has finished, and wrote no row",)),
    "apache/parquet-format#333, empty folder": (lambda folder: None, ("no data file in the folder", "found: nothing")),
    "aws/aws-sdk-pandas#3358, StarRocks/starrocks#22355, apache/arrow-rs#982": (
        far_times,
        ("'id' has times outside of the years 1677 to 2262", "TIMESTAMP_MICROS"),
    ),
    "pandas-dev/pandas#14124, pandas-dev/pandas#9295, trailing delimiters": (
        text("a.csv", LINES[0] + "".join(LINES[1:]).replace("\n", ",\n")),
        ("line 2", "wrong number of cells: expected 5, found 6; the line ends with a delimiter"),
    ),
    "pandas-dev/pandas#21862, escaped quote and comma": (
        text("a.csv", CSV.replace("hello", '"2\\" seam, blue"', 1)),
        ("line 2", "--csv-escape"),
    ),
    "Pengeace/LncRNA-Disease-link#1, space in the header": (
        text("a.csv", CSV.replace("amount", " amount", 1)),
        ("'amount', wanted by config.tab_field_list; did you mean ' amount'?",),
    ),
    "pandas-dev/pandas#26448, another delimiter": (
        text("a.csv", ROWS.drop(columns="extra").to_csv(sep=";", index=False)),
        ("separated by ';'", "--csv-delimiter"),
    ),
    "apache/arrow#35569, further columns": (
        many(parquet("a.parquet"), parquet("b.parquet", ROWS.assign(new=1))),
        ("b.parquet)", "adds: 'new'"),
    ),
    "quantylab/rltrader#53, no header": (
        text("a.csv", "".join(LINES[1:])),
        ("may be data and no header", "give --csv-header none --csv-columns COLUMNS"),
    ),
    "databricks/spark-csv, parts without a header": (
        halves("part-00000", "part-00001", header=False),
        ("the columns differ", "--csv-header none"),
    ),
    "pandas-dev/pandas, to_json(orient='records')": (
        lambda folder: ROWS.to_json(folder / "a.jsonl", orient="records"),
        ("a.jsonl, line 1", "lines=True"),
    ),
    "JSON lines that are named .json": (
        lambda folder: ROWS.to_json(folder / "a.json", orient="records", lines=True),
        ("a.json seems to be JSON lines: name the file with .jsonl",),
    ),
}


@pytest.mark.parametrize(("write", "words"), ERRORS.values(), ids=ERRORS)
def test_errors_that_help(model, tmp_path, capsys, write, words):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    assert score(model, tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert [word for word in words if word not in error] == []
    assert not list((tmp_path / "out").glob("inference_predictions.*"))


def test_spark_15258_a_copy_without_success_is_read_with_a_warning(model, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    text("part-00000-1f.csv")(tmp_path / "data")
    assert score(model, tmp_path / "data") == 0
    assert "there is no _SUCCESS with the parts" in capsys.readouterr().err
    assert len(predictions(tmp_path / "out")) == len(ROWS)


def test_ducklake_1186_ids_that_were_made_doubles(model, tmp_path):
    ids = [1.7e38, 2.0**53, *map(float, range(len(ROWS) - 2))]
    (tmp_path / "data").mkdir()
    parquet("a.parquet", ROWS.assign(id=ids))(tmp_path / "data")
    assert score(model, tmp_path / "data") == 0
    assert predictions(tmp_path / "out")["id"].tolist() == ids
