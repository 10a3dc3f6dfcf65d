import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bsm_core import cli
from bsm_core.errors import DataError, MissingColumnsError, UsageError
from bsm_core.scoring.comparing import compare as compare_module
from bsm_core.scoring.comparing.compare import Exchange, RowDifference, compare
from bsm_core.scoring.comparing.joining import Repeats, Spelling, Uneven, spelled_otherwise
from bsm_core.scoring.comparing.traits import Trait


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


def test_predictions_in_folders_with_names_of_partitions_have_no_other_columns(tmp_path):
    for folder in ("dt=1", "dt=2"):
        (tmp_path / folder).mkdir()
    old = write(tmp_path / "dt=1" / "p.csv", [1, 2], [0.1, 0.2])
    new = write(tmp_path / "dt=2" / "p.csv", [1, 2], [0.1, 0.2])
    found = compare(old, new)
    assert found.is_same
    assert not found.other_columns


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


def test_rows_with_a_probability_in_one_file_are_counted_apart_from_differences(tmp_path, capsys):
    old = write(tmp_path / "old.csv", ["a", "b", "c", "d"], [np.nan, np.nan, 0.5, 0.5])
    new = write(tmp_path / "new.csv", ["a", "b", "c", "d"], [0.5, np.nan, np.nan, 0.75])
    found = compare(old, new)
    assert (found.scored_only_old, found.scored_only_new, found.unscored) == (["c"], ["a"], 2)
    assert (found.differing, found.median, found.largest, found.other_class) == (1, 0.25, 0.25, 1)
    assert found.worst == [RowDifference("d", 1, "prob_class_1", 0.5, 0.75)]
    assert cli.main(["compare", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert "rows with a probability in OLD only: 1 ('c')\nrows with a probability in NEW only: 1 ('a')\n" in said
    assert not {"nan", "+nan", "inf"} & {*said.split()}
    assert cli.main(["compare", str(old), str(new), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["largest"] == 0.25


def test_a_missing_probability_alone_is_a_difference(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b"], [np.nan, 0.5])
    found = compare(old, write(tmp_path / "new.csv", ["a", "b"], [0.5, 0.5]))
    assert not found.is_same
    assert (found.differing, found.worst) == (0, [])


def test_what_rows_with_a_probability_in_one_file_have_in_common(tmp_path, capsys):
    ids = [f"r{i}" for i in range(40)]
    lacks = [i % 4 == 0 for i in range(40)]
    amount = ["inf" if lack else "1.5" for lack in lacks]
    old = write(tmp_path / "old.csv", ids, [np.nan if lack else 0.5 for lack in lacks], amount=amount)
    new = write(tmp_path / "new.csv", ids, [0.5] * 40)
    assert compare(old, new).unscored_traits.found == [Trait("amount", "is 'inf'", 1, 0)]
    assert cli.main(["compare", str(old), str(new)]) == 1
    assert "what the rows with a probability in one file only have in common" in capsys.readouterr().out


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
    assert [(t.column, t.what, t.share, t.others) for t in found.traits.found[:3]] == [
        ("amount", "is missing", 1, 0),
        ("chat", "is text without [bom]", 1, 0),
        ("chat", "is 'no marker'", 1, 0),
    ]
    assert Trait("country", "has characters beyond ASCII", 12 / 25, 0) in found.traits.found
    assert not {"page"} & {t.column for t in found.traits.found}


def test_traits_of_another_table_that_has_the_id(tmp_path):
    ids = [f"r{i}" for i in range(20)]
    old = write(tmp_path / "old.csv", ids, [0.1] * 20)
    new = write(tmp_path / "new.csv", ids[::-1], [0.1] * 10 + [0.2] * 10)
    data = tmp_path / "data.parquet"
    pd.DataFrame({"x": [None] * 10 + [2.0] * 10, "id": ids}).to_parquet(data)
    assert compare(old, new, data=data).traits.found == [Trait("x", "is missing", 1, 0)]
    found = compare(old, new)
    assert (found.traits.found, found.traits.search[:18]) == ([], "give --data TABLE,")


def test_traits_of_a_table_in_another_dialect(tmp_path, capsys):
    ids = [f"r{i}" for i in range(20)]
    old = write(tmp_path / "old.csv", ids, [0.1] * 20)
    new = write(tmp_path / "new.csv", ids, [0.9] * 10 + [0.1] * 10)
    data = tmp_path / "data.csv"
    rows = [f"{'né' if i < 10 else ''};r{i};{i},5" for i in range(20)]
    data.write_bytes("\n".join(["x;id;y", *rows, ""]).encode("cp1252"))
    flags = ["--data", str(data), "--csv-delimiter", ";", "--csv-encoding", "cp1252", "--json"]
    assert cli.main(["compare", str(old), str(new), *flags]) == 1
    traits = json.loads(capsys.readouterr().out)["traits"]["found"]
    assert {"column": "x", "what": "has characters beyond ASCII", "share": 1.0, "others": 0.0} in traits
    assert cli.main(["compare", str(old), str(new), *flags, "--csv-decimal", ","]) == 1
    traits = json.loads(capsys.readouterr().out)["traits"]["found"]
    assert {"column": "y", "what": "is 9.5 or less", "share": 1.0, "others": 0.0} in traits


def test_the_sizes_of_groups_are_those_of_the_rows_in_the_table(tmp_path, capsys):
    ids = [f"r{i}" for i in range(100)]
    old = write(tmp_path / "old.csv", ids, [0.1] * 100)
    new = write(tmp_path / "new.csv", ids, [0.1] * 50 + [0.2] * 50)
    data = tmp_path / "data.csv"
    pd.DataFrame({"id": ids[44:57], "x": ["a"] * 6 + ["b"] * 7}).to_csv(data, index=False)
    assert cli.main(["compare", str(old), str(new), "--data", str(data), "--rows", "0"]) == 1
    said = capsys.readouterr().out
    assert said.endswith("  column  cell    of those 7  of the other 6\n  x       is 'b'  100.0%      0.0%\n")


@pytest.mark.parametrize(
    ("scored", "words"),
    [
        (18, "too few rows to say what those that have a probability in one file only have in common: 2 row(s) have"),
        (0, "all rows have a probability in one file only: there are no others"),
        (10, "give --data TABLE, the input table, to see what the rows that have a probability in one file only have"),
    ],
)
def test_sentences_about_rows_with_a_probability_in_one_file_name_them(tmp_path, capsys, scored, words):
    ids = [f"r{i}" for i in range(20)]
    old = write(tmp_path / "old.csv", ids, [0.5] * 20)
    new = write(tmp_path / "new.csv", ids, [0.5 if i < scored else np.nan for i in range(20)])
    assert cli.main(["compare", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert f"\n\n{words}" in said
    assert "differ:" not in said


def test_a_file_in_another_dialect_is_named_and_can_be_converted(tmp_path, capsys):
    old, new = tmp_path / "old.csv", write(tmp_path / "new.csv", ["a", "b"], [0.75, 1e-3])
    old.write_text("id;prob_class_0;prob_class_1\na;0,25;0,75\nb;0,999;1e-3\n")
    assert cli.main(["compare", str(old), str(new)]) == 2
    error = capsys.readouterr().err
    assert "seem to be separated by ';'" in error
    assert error.endswith("To fix: convert the file first: bsm convert --csv-delimiter CHARACTER FILE plain.csv\n")
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
    with pytest.raises(DataError, match=r"a probability cannot be used: not a number .*: '1\.000'") as caught:
        compare(path, path)
    assert "column 'prob_class_0', row 2, id 'b'" in str(caught.value)


def test_flags_of_a_table_that_is_not_given(tmp_path, capsys):
    path = write(tmp_path / "a.csv", ["a"], [0.5])
    assert cli.main(["compare", str(path), str(path), "--csv-delimiter", ";"]) == 2
    assert "--csv-... say how the TABLE of --data is written" in capsys.readouterr().err


def test_nothing_is_in_common_where_all_rows_differ(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b"], [0.1, 0.2], x=["", ""])
    assert compare(old, write(tmp_path / "new.csv", ["a", "b"], [0.3, 0.4])).traits.found == []


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
    many = [f"r{i}" for i in range(8)]
    old = write(tmp_path / "old.csv", [*many, "b\x1b[31m", "c"], [0.1] * 4 + [0.2] * 6, x=[""] * 4 + ["1"] * 6)
    new = write(tmp_path / "new.csv", [*many, "b\x1b[31m", "d"], [0.4] * 4 + [0.2] * 4 + [0.9, 0.5])
    assert cli.main(["compare", str(old), str(new), "--rows", "2"]) == 1
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "rows in both files: 9",
        "rows only in OLD: 1 ('c')",
        "rows only in NEW: 1 ('d')",
        "rows that differ by more than 1e-05: 5; by 0.3 (median); by 0.7 at most",
        "rows in which another class is the most probable: 1",
        "",
        "rows that differ most",
        "  id         column        old       new       difference",
        r"  b\x1b[31m  prob_class_1  0.200000  0.900000  +0.700000",
        "  r0         prob_class_1  0.100000  0.400000  +0.300000",
        "",
        "too few rows to say what those that differ have in common: 5 row(s) differ, 4 do not; 5 are needed",
    ]
    assert cli.main(["compare", str(old), str(old)]) == 0
    assert "rows that differ by more than 1e-05: 0; by 0 at most" in capsys.readouterr().out
    assert cli.main(["compare", str(old), str(new), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["only_new"] == ["d"]


def test_json_of_ids_with_characters_that_are_not_printable(tmp_path, capsys):
    ids = ["a\u00a0b", "\U000e0041", "k\u00ad", "\x1b[31m\x7f", "\u2028", "\\xe9", "é"]
    old, new = write(tmp_path / "old.csv", ids, [0.5] * 7), write(tmp_path / "new.csv", [], [])
    assert cli.main(["compare", str(old), str(new), "--json"]) == 1
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said)["only_old"] == ids


def predictions(path, header, *rows):
    path.write_text("\n".join([header, *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("header", "row", "options", "error", "words"),
    [
        ("prob_class_0,prob_class_1,id", "0.5,0.5,a", {}, UsageError, "the first column of NEW is a probability"),
        ("prob_class_0,prob_class_1", "0.5,0.5", {}, UsageError, "the first column of NEW is a probability"),
        ("id,prob_class_0,prob_class_1", "a,1,0", {"id_field": "prob_class_1"}, UsageError, "--id-field names a prob"),
        ("Unnamed: 0,id,prob_class_0,prob_class_1", "0,a,1,0", {}, UsageError, "NEW is an index of pandas"),
        (",id,prob_class_0,prob_class_1", "0,a,1,0", {}, UsageError, "NEW is an index of pandas"),
        ("key,id,prob_class_0,prob_class_1", "0,a,1,0", {}, MissingColumnsError, "'key', which is the first column of"),
        ("id,prob_class_0,prob_class_1,prob_class_1", "a,1,0,0", {}, DataError, "occur more than once: 'prob_class_1'"),
        ("id,id,prob_class_0,prob_class_1", "a,a,1,0", {}, DataError, "occur more than once: 'id'"),
    ],
)
def test_columns_that_cannot_be_joined_on(tmp_path, header, row, options, error, words, capsys):
    old = write(tmp_path / "old.csv", ["a"], [0.5])
    new = predictions(tmp_path / "new.csv", header, row)
    with pytest.raises(error, match=words) as caught:
        compare(old, new, **options)
    assert "--csv-header" not in str(caught.value)
    assert "add the columns to the data" not in str(caught.value)
    if "id," in header and error is not DataError:
        assert "--id-field 'id', the only other column that both files have" in str(caught.value)
        assert compare(old, new, id_field="id").rows == 1
    flags = ["--id-field", options["id_field"]] if options else []
    assert cli.main(["compare", str(old), str(new), *flags]) == 2
    assert words.split("'")[0] in capsys.readouterr().err


def test_an_id_column_of_another_name(tmp_path):
    old = predictions(tmp_path / "old.csv", "review,Age,prob_class_0", "a,1,1")
    new = predictions(tmp_path / "new.csv", "review_id,prob_class_0", "a,1")
    with pytest.raises(MissingColumnsError, match="OLD has no column 'review_id', which is the first col") as caught:
        compare(old, new)
    assert "rename or add it" in str(caught.value)


@pytest.mark.parametrize(("head", "fix"), [("p0,p1", "rename the prob"), ("prob_class_1,x", "add the other column")])
def test_probability_columns_of_other_names(tmp_path, head, fix):
    old = write(tmp_path / "old.csv", ["a"], [0.5])
    new = predictions(tmp_path / "new.csv", f"id,{head}", "a,0.5,0.5")
    with pytest.raises(UsageError, match="do not have the same probability columns") as caught:
        compare(old, new)
    assert fix in caught.value.fix
    assert "NEW" in caught.value.fix
    assert ("columns found: 'id', 'p0', 'p1'" in str(caught.value)) == (head == "p0,p1")


def test_a_column_that_only_one_file_has_is_named(tmp_path):
    old = predictions(tmp_path / "old.csv", "id,prob_class_0,prob_class_1,prob_class_1_calibrated", "a,0,1,1")
    new = predictions(tmp_path / "new.csv", "id,prob_class_0,prob_class_1", "a,0,1")
    with pytest.raises(UsageError) as caught:
        compare(old, new)
    assert caught.value.fix.startswith("rename 'prob_class_1_calibrated' of OLD if it is no class")


def test_bytes_that_are_not_utf8_are_shown_once_escaped(tmp_path, capsys):
    bad = pa.array([b"\xff"] * 5 + [b"a"] * 5)
    table = pa.table({"id": bad, "x": bad, "prob_class_0": [0.1] * 10})
    pq.write_table(table, tmp_path / "old.parquet")
    pq.write_table(table.set_column(2, "prob_class_0", pa.array([0.2] * 5 + [0.1] * 5)), tmp_path / "new.parquet")
    assert cli.main(["compare", str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet")]) == 1
    said = capsys.readouterr().out
    assert "such as '\\xff'; " in said
    assert "  is '\\xff' " in said
    text = predictions(tmp_path / "text.csv", "id,x,prob_class_0")
    text.write_bytes(b"id,prob_class_0\n\xff,\xe9\n")
    with pytest.raises(DataError, match=r"not UTF-8: '\\xe9' \(.*, id '\\xff'\)"):
        compare(text, text)


@pytest.mark.parametrize(
    ("old", "new", "what", "rows"),
    [
        (["11", "7", "B"], ["00011", "007", "B"], "leading zeros (or a trailing .0)", 2),
        (["11.0", "12.0"], ["00011", "12"], "leading zeros (or a trailing .0)", 2),
        (["11", "11"], ["011", "11"], "leading zeros (or a trailing .0)", 1),
        (["a ", "b"], ["a", "b"], "white space around them", 1),
        (["AB", "x"], ["ab", "y"], "upper and lower case", 1),
        (["1.23457E+12", "1.2E+12"], ["1234567890123", "1234567890124"], "scientific notation, which rounds them", 1),
        (["1234567890123", "7"], ["1.234567890123e+12", "8"], "scientific notation, which rounds them", 1),
    ],
)
def test_ids_that_are_spelled_otherwise(tmp_path, capsys, old, new, what, rows):
    paths = write(tmp_path / "old.csv", old, [0.1] * len(old)), write(tmp_path / "new.csv", new, [0.1] * len(new))
    found = compare(*paths)
    assert found.spellings == [Spelling(what, rows, old[0], new[0])]
    assert cli.main(["compare", *map(str, paths)]) == 1
    assert f"{rows} ids differ only in {what}: {old[0]!r} in OLD is {new[0]!r} in NEW" in capsys.readouterr().out


def test_ids_of_any_length_are_looked_at_in_little_time():
    assert spelled_otherwise(["0" * 200_000 + "x"], ["0" * 200_000 + "y"]) == []


@pytest.mark.parametrize(("text", "same"), [("007", "7"), ("000", "0"), ("+07.00", "7"), ("-07", "-7.0")])
def test_spellings_of_whole_numbers(text, same):
    assert [found.rows for found in spelled_otherwise([text], [same])] == [1]


def test_ids_that_are_just_others(tmp_path):
    old = write(tmp_path / "old.csv", ["11.5", "-1", "00"], [0.1] * 3)
    assert compare(old, write(tmp_path / "new.csv", ["115", "1", "a"], [0.1] * 3)).spellings == []
    assert spelled_otherwise(["1234567890123"], ["1234567890124"]) == []


def test_files_without_a_common_id(tmp_path, capsys):
    old, new = write(tmp_path / "old.csv", ["a"], [0.1]), write(tmp_path / "new.csv", ["b"], [0.1])
    assert cli.main(["compare", str(old), str(new)]) == 1
    assert "no id is in both files\n" in capsys.readouterr().out
    old, new = write(old, ["a"], [0.1], key=["x"], other=1), write(new, ["b"], [0.1], key=["x"])
    assert cli.main(["compare", str(old), str(new)]) == 1
    assert "with --id-field, they are joined on another column, one of 'key'\n" in capsys.readouterr().out


def test_a_table_without_the_id(tmp_path):
    path = write(tmp_path / "a.csv", ["a"], [0.1])
    data = predictions(tmp_path / "data.csv", "ID,x", "a,1")
    with pytest.raises(MissingColumnsError, match="'id', wanted by bsm compare as the id; did you mean 'ID'"):
        compare(path, path, data=data)


def test_repeated_ids_are_counted_and_named(tmp_path, capsys):
    old = write(tmp_path / "old.csv", ["a", "b", "b", "c"], [0.1, 0.2, 0.3, 0.4])
    new = write(tmp_path / "new.csv", ["a", "a", "b", "b", "c", "d", "d"], [0.9, 0.1, 0.2, 0.4, 0.4, 0.5, 0.5])
    found = compare(old, new)
    assert (found.repeated_old, found.repeated_new) == (Repeats(1, 2, "b"), Repeats(3, 6, "b"))
    assert found.uneven == Uneven(1, "a", 1, 2)
    assert [(row.id, row.nth) for row in found.worst] == [("a", 1), ("b", 2)]
    assert cli.main(["compare", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert "repeated ids in OLD: 1 in 2 rows, such as 'b'; the rows of one id are joined in file order" in said
    assert "1, such as 'a' (1 in OLD, 2 in NEW)" in said
    assert "b (row 2 of this id)" in said


def test_exchanged_classes(tmp_path, capsys):
    old = write(tmp_path / "old.csv", ["a", "b", "c"], [0.1, 0.2, 0.7])
    new = write(tmp_path / "new.csv", ["a", "b", "c"], [0.9, 0.8, 0.3])
    assert compare(old, new).exchanged == Exchange({"prob_class_0": "prob_class_1", "prob_class_1": "prob_class_0"}, 0)
    assert cli.main(["compare", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert "the classes are exchanged: prob_class_0 of OLD is prob_class_1 of NEW, " in said
    assert "read so, all rows agree" in said


def test_some_of_several_classes_are_exchanged(tmp_path):
    head = "id,prob_class_0,prob_class_1,prob_class_2"
    old = predictions(tmp_path / "old.csv", head, "a,0.1,0.2,0.7", "b,0.3,0.3,0.4", "c,0.6,0.1,0.3")
    new = predictions(tmp_path / "new.csv", head, "a,0.1,0.7,0.2", "b,0.3,0.4,0.3", "c,0.6,0.301,0.099")
    assert compare(old, new).exchanged == Exchange({"prob_class_1": "prob_class_2", "prob_class_2": "prob_class_1"}, 1)


def test_classes_that_are_not_exchanged(tmp_path):
    old = write(tmp_path / "old.csv", ["a", "b", "c"], [0.1, 0.2, 0.7])
    assert compare(old, write(tmp_path / "new.csv", ["a", "b", "c"], [0.9, 0.2, 0.7])).exchanged is None
    assert compare(old, write(tmp_path / "new.csv", ["a", "b", "c"], [0.2, 0.3, 0.8])).exchanged is None


def test_every_error_has_status_2(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.csv", ["a"], [0.5])
    assert cli.main(["compare", str(path), str(tmp_path / "none.csv")]) == 2
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", str(path), str(path), "--rows", "-1"])
    for tolerance in ("nan", "-1"):
        assert cli.main(["compare", str(path), str(path), "--tolerance", tolerance]) == 2

    def fail(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(compare_module, "compare", fail)
    assert cli.main(["compare", str(path), str(path)]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_help_says_what_the_status_means(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    assert "Exit status: 0 if all rows agree, 1 if a row differs" in capsys.readouterr().out
