from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact import check_rows
from bsm_core.artifact.check_rows import CheckRows, read_check_rows, write_check_rows
from bsm_core.errors import CorruptArtifactError, DataError

VALUES = {
    "format": 1,
    "precision": "fp32",
    "device": "cpu",
    "versions": {"torch": "2.11.0"},
    "rows": [{"chat": "hi", "amount": None}, {"chat": "\u00e9\n", "amount": "1e5"}],
    "probabilities": [[0.25, 0.75], [1.0, 0.0]],
    "tokens": {"chat": "ab12"},
    "features": {"amount": [2.0, 1e5]},
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def write(folder, **changes):
    (folder / "self_check.json").write_text(json.dumps({**VALUES, **changes}))


def problem(folder):
    """The error of a file that must be refused."""
    with pytest.raises(CorruptArtifactError) as caught:
        read_check_rows(folder)
    assert caught.value.where == "self_check.json"
    assert "--no-self-check" in caught.value.fix
    return "\n".join(caught.value.details)


def test_what_is_written_is_read(tmp_path):
    rows = CheckRows(**VALUES)
    write_check_rows(tmp_path, rows)
    assert read_check_rows(tmp_path) == rows
    assert json.loads((tmp_path / "self_check.json").read_text()) == VALUES


@given(
    cell=TEXT | st.none(),
    probability=st.floats(0, 1),
    feature=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_every_cell_and_number_comes_back_exactly(tmp_path_factory, cell, probability, feature):
    folder = tmp_path_factory.mktemp("a")
    rows = CheckRows(**VALUES | {"rows": [{"x": cell}], "probabilities": [[probability]], "features": {"x": [feature]}})
    write_check_rows(folder, rows)
    assert read_check_rows(folder) == rows


def test_the_former_name_of_the_distribution_is_understood(tmp_path):
    write(tmp_path, versions={"bsm": "0.1.0", "torch": "2.11.0"})
    assert read_check_rows(tmp_path).versions == {"bsm-core": "0.1.0", "torch": "2.11.0"}


@pytest.mark.parametrize(
    ("stored", "read"),
    [("float32", "fp32"), ("float64", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("tf32", "tf32")],
)
def test_the_name_of_a_dtype_in_an_older_file_is_read_as_its_precision(tmp_path, stored, read):
    write(tmp_path, precision=stored)
    assert read_check_rows(tmp_path).precision == read


def test_an_artifact_without_the_file_has_none(tmp_path):
    assert read_check_rows(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format: "),
        ({"precision": "x" * 101}, "precision: "),
        ({"versions": {"torch": "2\x1b[2J"}}, "versions.torch: "),
        ({"versions": {f"x{i}": "1" for i in range(65)}}, "versions: "),
        ({"rows": []}, "rows: "),
        ({"rows": [{"chat": 3}] * 2}, "rows.0.chat"),
        ({"rows": [{"chat": "hi"}, {"text": "hi"}]}, "the rows have different columns"),
        ({"rows": [{}] * 65, "probabilities": [[1.0]] * 65, "features": {}}, "rows: "),
        ({"probabilities": [[0.5, 0.5]]}, "have different lengths"),
        ({"probabilities": [[0.5, 0.5], [1.0]]}, "different numbers of probabilities"),
        ({"probabilities": [[], []]}, "probabilities.0"),
        ({"probabilities": [[float("nan"), 0.5]] * 2}, "probabilities.0.0"),
        ({"probabilities": [[1.5, 0.5]] * 2}, "probabilities.0.0"),
        ({"features": {"amount": [1.0]}}, "have different lengths"),
        ({"features": {"amount": [float("inf")] * 2}}, "features.amount.0"),
        ({"tokens": None}, "tokens: "),
        ({"more": 1}, "more: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_together_is_refused_and_named(tmp_path, changes, words):
    write(tmp_path, **changes)
    assert words in problem(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b"{", b"[" * 100_000], ids=["none", "bytes", "list", "cut", "deep"]
)
def test_what_is_no_such_object_is_refused(tmp_path, content):
    (tmp_path / "self_check.json").write_bytes(content)
    assert problem(tmp_path)


def test_a_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "self_check.json").mkdir()
    assert "directory" in problem(tmp_path)


def test_many_problems_are_not_all_listed(tmp_path):
    write(tmp_path, probabilities=[[7.0] * 1000, [7.0] * 1000])
    assert problem(tmp_path).endswith("and 1990 more")


def test_a_file_that_is_too_large_is_neither_written_nor_read(tmp_path, monkeypatch):
    write(tmp_path)
    size = (tmp_path / "self_check.json").stat().st_size
    monkeypatch.setattr(check_rows, "MOST_BYTES", size - 1)
    assert "larger than" in problem(tmp_path)
    with pytest.raises(DataError, match="the check rows take"):
        write_check_rows(tmp_path, CheckRows(**VALUES))
    assert (tmp_path / "self_check.json").stat().st_size == size


@pytest.mark.parametrize("key", ["\x1b[31mred", "k" * 5000], ids=["escapes", "long"])
def test_a_strangers_keys_reach_no_terminal_as_they_are(tmp_path, key):
    (tmp_path / check_rows.SELF_CHECK).write_text(json.dumps({key: 1}))
    with pytest.raises(CorruptArtifactError) as caught:
        read_check_rows(tmp_path)
    assert "\x1b" not in str(caught.value)
    assert max(map(len, caught.value.details)) < 300


def test_long_texts_are_neither_written_nor_read(tmp_path, monkeypatch):
    rows = [{**row, next(iter(row)): "x" * 1001} for row in VALUES["rows"]]
    write(tmp_path, rows=rows)
    monkeypatch.setattr(check_rows, "MOST_TEXT", 1000)
    assert "characters, more than 1,000" in problem(tmp_path)
    with pytest.raises(DataError, match="more than 1,000"):
        write_check_rows(tmp_path, CheckRows(**(VALUES | {"rows": rows})))
