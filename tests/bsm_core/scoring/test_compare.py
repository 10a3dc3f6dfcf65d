import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core import cli
from bsm_core.errors import DataError, MissingColumnsError, UsageError
from bsm_core.scoring.compare import RowDifference, Trait, compare


def write(path, ids, class_1, **columns):
    """Write a prediction file; the format is that of the name."""
    class_1 = np.array(class_1, float)
    frame = pd.DataFrame({"id": ids, **columns, "prob_class_0": 1 - class_1, "prob_class_1": class_1})
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def test_rows_are_joined_on_the_text_of_the_id(tmp_path):
    old = write(tmp_path / "old.csv", [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    new = write(tmp_path / "new.parquet", [4, 2, 5, 1], [0.4, 0.6, 0.5, 0.1])
    found = compare(old, new)
    assert (found.rows, found.only_old, found.only_new, found.differing, found.other_class) == (3, ["3"], ["5"], 1, 1)
    [row] = found.worst
    assert (row.id, row.column) == ("2", "prob_class_1")
    assert (row.old, row.new, found.median, found.largest) == pytest.approx((0.2, 0.6, 0.4, 0.4), abs=1e-6)
    assert not found.is_same


def test_ids_are_compared_byte_for_byte(tmp_path):
    old = write(tmp_path / "old.csv", ["001", "NA", " x", ""], [0.1] * 4)
    new = write(tmp_path / "new.tsv", ["1", "NA", " x", ""], [0.1] * 4)
    found = compare(old, new)
    assert (found.rows, found.only_old, found.only_new) == (3, ["001"], ["1"])


def test_repeated_ids_are_joined_in_their_order(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "a", "b", "a"], [0.1, 0.2, 0.3, 0.4])
    new = write(tmp_path / "new.csv", ["b", "a", "a"], [0.3, 0.1, 0.7])
    found = compare(old, new)
    assert (found.rows, found.only_old, found.differing) == (3, ["a"], 1)
    assert found.worst[0].old == pytest.approx(0.2)


def test_the_tolerance_is_the_largest_difference_that_counts_as_none(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b"], [0.5, 0.5])
    new = write(tmp_path / "new.csv", ["a", "b"], [0.5 + 4e-6, 0.5 + 4e-5])
    assert compare(old, new).differing == 1
    assert compare(old, new, tolerance=1e-3).is_same


def test_an_empty_probability_differs_from_each_number_and_not_from_another(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b", "c"], [np.nan, np.nan, 0.5])
    new = write(tmp_path / "new.csv", ["a", "b", "c"], [0.5, np.nan, np.nan])
    found = compare(old, new)
    assert (found.differing, found.largest) == (2, np.inf)
    assert [row.id for row in found.worst] == ["a", "c"]
    assert found.worst[0] == RowDifference("a", "prob_class_1", pytest.approx(np.nan, nan_ok=True), 0.5)


def test_files_without_rows_are_the_same(tmp_path):
    old = write(tmp_path / "old.csv", [], [])
    assert compare(old, write(tmp_path / "new.csv", [], [])).is_same


def test_what_the_rows_that_differ_have_in_common(tmp_path):
    ids = [f"r{i}" for i in range(100)]
    missing = [i % 4 == 0 for i in range(100)]
    old = write(
        tmp_path / "old.csv",
        ids,
        [0.5] * 100,
        amount=["" if m else str(i) for i, m in enumerate(missing)],
        chat=["no marker" if m else "[bom] a [eom]" for m in missing],
        country=["é" if m and i % 8 else "DE" for i, m in enumerate(missing)],
        page=["<b>" if i % 3 else "b" for i in range(100)],
    )
    new = write(tmp_path / "new.csv", ids, [0.6 if m else 0.5 for m in missing])
    found = compare(old, new)
    assert found.differing == 25
    assert [(t.column, t.what, t.share, t.others) for t in found.traits[:3]] == [
        ("amount", "is missing", 1, 0),
        ("chat", "is text without [bom]", 1, 0),
        ("chat", "is 'no marker'", 1, 0),
    ]
    assert Trait("country", "has characters beyond ASCII", 12 / 25, 0) in found.traits
    assert not {"page"} & {t.column for t in found.traits}


def test_traits_of_another_table_that_has_the_id(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b", "c"], [0.1, 0.2, 0.3])
    new = write(tmp_path / "new.csv", ["c", "b", "a"], [0.9, 0.2, 0.1])
    data = tmp_path / "data.parquet"
    pd.DataFrame({"x": [1.0, None, 2.0], "id": ["b", "c", "a"]}).to_parquet(data)
    assert compare(old, new, data=data).traits == [Trait("x", "is missing", 1, 0)]
    assert compare(old, new).traits == []


def test_traits_of_a_table_in_another_dialect(tmp_path, capsys):
    old = write(tmp_path / "old.csv", ["a", "b"], [0.1, 0.2])
    new = write(tmp_path / "new.csv", ["a", "b"], [0.9, 0.2])
    data = tmp_path / "data.csv"
    data.write_bytes("x;id\nné;a\n;b\n".encode("cp1252"))
    flags = ["--data", str(data), "--csv-delimiter", ";", "--csv-encoding", "cp1252", "--json"]
    assert cli.main(["compare", str(old), str(new), *flags]) == 1
    traits = json.loads(capsys.readouterr().out)["traits"]
    assert {"column": "x", "what": "has characters beyond ASCII", "share": 1.0, "others": 0.0} in traits


def test_a_file_in_another_dialect_is_named_and_can_be_converted(tmp_path):
    old, new = tmp_path / "old.csv", write(tmp_path / "new.csv", ["a", "b"], [0.75, 1e-3])
    old.write_text("id;prob_class_0;prob_class_1\na;0,25;0,75\nb;0,999;1e-3\n")
    with pytest.raises(UsageError, match=r"seem to be separated by ';'") as caught:
        compare(old, new)
    assert "bsm convert --csv-delimiter" in str(caught.value)
    assert cli.main(["convert", "--csv-delimiter", ";", str(old), str(tmp_path / "plain.csv")]) == 0
    assert compare(tmp_path / "plain.csv", new).is_same


@pytest.mark.parametrize("kind", [pa.null(), pa.string_view(), pa.large_string(), pa.binary()])
def test_probabilities_of_every_type_of_text(tmp_path, kind):
    table = pa.table({"id": ["a"], "prob_class_0": pa.array([None if pa.types.is_null(kind) else "0,5"]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert compare(tmp_path / "a.parquet", tmp_path / "a.parquet").is_same


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_decimal_comma_and_another_spelling_in_one_column_is_an_error(tmp_path, suffix):
    frame = pd.DataFrame({"id": ["a", "b"], "prob_class_0": ["0,25", "1.000"], "prob_class_1": ["0,75", "0"]})
    path = tmp_path / f"old.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    with pytest.raises(DataError, match="a probability cannot be used: not a number"):
        compare(path, path)


def test_flags_of_a_table_that_is_not_given(tmp_path, capsys):
    path = write(tmp_path / "a.csv", ["a"], [0.5])
    assert cli.main(["compare", str(path), str(path), "--csv-delimiter", ";"]) == 2
    assert "--csv-... say how the TABLE of --data is written" in capsys.readouterr().err


def test_nothing_is_in_common_where_all_rows_differ(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b"], [0.1, 0.2], x=["", ""])
    assert compare(old, write(tmp_path / "new.csv", ["a", "b"], [0.3, 0.4])).traits == []


@pytest.mark.parametrize(
    ("content", "options", "error", "words"),
    [
        ("id,score\na,0.5\n", {}, UsageError, "do not have the same probability columns"),
        ("id,prob_class_0\na,0.5\n", {}, UsageError, "do not have the same probability columns"),
        ("key,prob_class_0,prob_class_1\na,0.5,0.5\n", {"id_field": "key"}, MissingColumnsError, "key"),
        ("id,prob_class_0,prob_class_1\na,0.5,0.5\nb,0.5,x\n", {}, DataError, "a probability cannot be used"),
    ],
)
def test_files_that_cannot_be_compared(tmp_path, content, options, error, words):
    old = write(tmp_path / "old.csv", ["a"], [0.5])
    new = tmp_path / "new.csv"
    new.write_text(content)
    with pytest.raises(error, match=words):
        compare(old, new, **options)


def test_the_command(tmp_path, capsys):
    old = write(tmp_path / "old.csv", ["a", "b\x1b[31m", "c"], [0.1, 0.2, np.nan], x=["", "1", "2"])
    new = write(tmp_path / "new.csv", ["a", "b\x1b[31m", "d"], [0.4, 0.2, 0.5])
    assert cli.main(["compare", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "rows in both files: 2",
        "rows only in OLD: 1 ('c')",
        "rows only in NEW: 1 ('d')",
        "rows that differ by more than 1e-05: 1; by 0.3 in the middle; by 0.3 at most",
        "rows in which another class is the most probable: 0",
        "",
        "rows that differ most",
        "  id  column        old       new       difference",
        "  a   prob_class_1  0.100000  0.400000  +0.300000",
        "",
        "what the rows that differ have in common",
        "  column  cell        of those 1  of the other 1",
        "  x       is missing  100.0%      0.0%",
    ]
    assert cli.main(["compare", str(old), str(old)]) == 0
    assert "rows that differ by more than 1e-05: 0; by 0 at most" in capsys.readouterr().out
    assert cli.main(["compare", str(old), str(new), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["traits"] == [
        {"column": "x", "what": "is missing", "share": 1.0, "others": 0.0}
    ]
