"""JSON lines as input: every value with its own text, and every line that is no object with its number."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.errors import DataError, MissingColumnsError, NoInferenceDataError
from bsm_core.tables import delimited
from bsm_core.tables.convert import convert
from bsm_core.tables.formats import json_lines
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import output_schema

NUMBERS = ["9007199254740993", "1.50", "-0", "1e5", "1E+400", "NaN", "-Infinity", "9" * 5000]


def opened(path, *lines, on_bad_line="fail", end="\n"):
    content = end.join([*lines, ""]).encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return TableSource.open(path, on_bad_line)


def rows(source, *names, **options):
    windows = source.windows(names or source.columns, **options)
    return [tuple(row.values()) for w in windows for row in w.table.to_pylist()]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "part-00000-1f-c000.json.gz"])
def test_numbers_keep_their_text_and_keys_may_appear_late(tmp_path, name):
    source = opened(tmp_path / name, *(f'{{"id": {number}}}' for number in NUMBERS), '\ufeff{"late": "x"}'[1:])
    assert source.columns == ("id", "late")
    assert rows(source) == [*((number.encode(), None) for number in NUMBERS), (None, b"x")]
    assert (source.format, source.output_format) == ("jsonl", "csv")


def test_values_of_every_kind(tmp_path):
    line = r'{"s": "a\u00e9\n\"", "t": true, "n": null, "o" : {"x": [1.50, {"y":  "}"}]} ,"l": [1,  2.0]	}'
    source = opened(tmp_path / "a.jsonl", line, "", "  ", "{}", end="\r\n")
    expected = ('aé\n"'.encode(), b"true", None, b'{"x": [1.50, {"y":  "}"}]}', b"[1,  2.0]")
    assert rows(source) == [expected, (None,) * 5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 1', "not JSON: Expecting ',' delimiter at character 9"),
        ("[1]", "not an object"),
        ("7", "not an object"),
        ('{"id": 1}{"id": 2}', "not JSON: Extra data at character 10"),
        ('{"id": 1, "id": 2}', "a key occurs twice"),
        (r'{"a": 1, "\ud800": 2}', "half of a surrogate pair: in a key"),
        ('{"id": "\udcff"}', "bytes that are not UTF-8"),
        ('{"id": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_object(tmp_path, line, reason):
    lines = ['{"id": "a"}', "", line, '{"id": "b"}']
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "a.jsonl", *lines)
    assert caught.value.what == f"the line cannot be read: {reason}"
    assert caught.value.where.endswith("a.jsonl, line 3")
    (window,) = opened(tmp_path / "a.jsonl", *lines, on_bad_line="skip").windows(["id"])
    assert window.table["id"].to_pylist() == [b"a", b"b"]
    assert [(at, bad.where, bad.reason) for at, bad in window.bad_lines] == [
        (1, f"{tmp_path / 'a.jsonl'}, line 3", reason)
    ]


def test_lines_are_counted_once_however_many_are_left_out(tmp_path, monkeypatch):
    source = opened(tmp_path / "a.jsonl", *(['{"id": 1}', "[]"] * 50), on_bad_line="skip")
    counted = []
    line_breaks = json_lines.line_breaks
    monkeypatch.setattr(json_lines, "line_breaks", lambda *a: counted.append(a) or line_breaks(*a))
    windows = list(source.windows(["id"], rows=10))
    bad = [line.where.rpartition(" ")[2] for window in windows for _, line in window.bad_lines]
    assert bad == [str(number) for number in range(2, 101, 2)]
    assert len(counted) == 1
    second = next(source.windows(["id"], rows=10, done={0: windows[0].end}))
    assert [line.where for _, line in second.bad_lines] == [line.where for _, line in windows[1].bad_lines]
    assert len(counted) == 2


def test_files_without_lines_and_columns_that_are_nowhere(tmp_path):
    with pytest.raises(NoInferenceDataError):
        opened(tmp_path / "a.jsonl.gz")
    opened(tmp_path / "b.jsonl", '{"x": 1}')
    source = opened(tmp_path / "c.jsonl", '{"y": 1}') and TableSource.open(tmp_path)
    assert rows(source) == [(b"1", None), (None, b"1")]
    with pytest.raises(MissingColumnsError):
        source.require({"z": "--id-field"})


@pytest.mark.parametrize("format", ["parquet", "csv", "tsv"])
def test_a_string_that_the_output_cannot_hold_is_a_bad_line(tmp_path, format):
    source = opened(tmp_path / "a.jsonl", '{"id": "a"}', r'{"id": "\ud800"}')
    typed = source.typed(output_schema(source.schema(["id"]), "jsonl", format))
    with pytest.raises(DataError, match="half of a surrogate pair: column 'id'") as caught:
        rows(typed)
    assert caught.value.where.endswith("line 2")
    with pytest.raises(DataError, match="half of a surrogate pair"):
        convert(tmp_path / "a.jsonl", tmp_path / f"b.{format}")
    assert rows(opened(tmp_path / "a.jsonl", r'{"id": "\ud83d\ude00", "\u00e9": 1}')) == [("😀".encode(), b"1")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@settings(max_examples=30)
@given(data=st.data())
def test_reading_from_any_place_gives_the_rest(tmp_path_factory, name, data):
    values = data.draw(st.lists(st.none() | st.text(max_size=5) | st.integers() | st.lists(st.integers()), max_size=9))
    lines = [json.dumps({"id": value}, ensure_ascii=data.draw(st.booleans())) for value in values]
    lines = [line for text in lines for line in [text, *data.draw(st.sampled_from([[], [""], ["bad"]]))]]
    path = tmp_path_factory.mktemp("data") / name
    source = opened(path, *lines, '{"id": "last"}', on_bad_line="skip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_SIZES", (16, 1 << 20))
        whole = {w.index: w for w in source.windows(["id"], rows=2)}
        done = data.draw(st.sets(st.sampled_from(sorted(whole))))
        again = {w.index: w for w in source.windows(["id"], rows=2, done={i: whole[i].end for i in done})}
    assert sorted(again) == sorted(set(whole) - done)
    for index, window in again.items():
        assert (window.table, window.bad_lines, window.end) == (
            whole[index].table,
            whole[index].bad_lines,
            whole[index].end,
        )


@pytest.mark.parametrize("on_bad_line", ["fail", "skip"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_file_in_another_encoding_is_named(tmp_path, encoding, on_bad_line):
    (tmp_path / "a.jsonl").write_bytes('{"id": "a"}\n'.encode(encoding))
    with pytest.raises(DataError, match=f"the file is text in {encoding[:6].upper()}") as caught:
        TableSource.open(tmp_path, on_bad_line)
    assert caught.value.fix == "save the file as UTF-8"


def test_bytes_that_are_not_utf8_come_with_the_advice_to_save_the_file_as_utf8(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"id": "\u00e9"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match="bytes that are not UTF-8") as caught:
        TableSource.open(tmp_path)
    assert str(caught.value).endswith("To fix: save the file as UTF-8, or give --on-bad-line skip")
