from __future__ import annotations

import pytest

from bsm_core.errors import ConfigError
from bsm_core.training.config.config_file import read_config_file

JSON = '{"model_class": "x", "größe": [1, null]}'
TOML = """
model_class = "x"  # a comment
sizes = [
  1,
  2,
]
text_encoder.model_type = "bert"
"""
OF_TOML = {"model_class": "x", "sizes": [1, 2], "text_encoder": {"model_type": "bert"}}


@pytest.mark.parametrize(
    ("name", "content", "values"),
    [
        ("c.json", JSON, {"model_class": "x", "größe": [1, None]}),
        ("c.json", "\ufeff" + JSON, {"model_class": "x", "größe": [1, None]}),
        ("c.TOML", TOML, OF_TOML),
        ("63", TOML, OF_TOML),
        ("63", " \n" + JSON, {"model_class": "x", "größe": [1, None]}),
        ("c.toml", "", {}),
    ],
    ids=["JSON", "with a mark", "TOML", "TOML by its content", "JSON by its content", "empty"],
)
def test_a_config_file(tmp_path, name, content, values):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_config_file(tmp_path / name) == values


@pytest.mark.parametrize(
    ("name", "content", "place", "words"),
    [
        ("c.json", None, "", "cannot be read: No such file"),
        ("c.json", b"{", ", line 1, column 2", "not JSON: Expecting property name"),
        ("c.json", b'{"a": 1,\n "lr": 1e-3 "b": 2}', ", line 2, column 13, key 'lr'", "not JSON: Expecting ','"),
        ("c.json", b"[1]", "", "a JSON list, not an object"),
        ("c.json", b"lr = 1", ", line 1, column 1", 'a name that ends in ".toml"'),
        ("c.json", b"\xff", "", "not UTF-8: byte 0 is 0xff"),
        ("c.json", b'{"a": 1,\n "b": {"a": 1, "c": 2,\n "c": 3}}', ", line 3", "has the key 'c' twice"),
        ("c.json", b'{"a": [0, NaN]}', "", "a.1: nan"),
        ("c.json", b"[" * 100_000, "", "nested too deep"),
        ("c.json", b'{"a": 1' + b"0" * 5000 + b"}", "", "cannot be read: Exceeds the limit"),
        ("c.toml", b"model_class = 'x'\nlr = fast\n", ", line 2, column 6, key 'lr'", "not TOML: Invalid value"),
        ("c.toml", b"lr = 1\nlr = 2\n", ", line 2, column 7, key 'lr'", "Cannot overwrite a value"),
        ("c.toml", b"a = [\n 1,\n", ", line 2, key 'a'", "not TOML"),
        ("c.toml", b"a = 1\nlr 5\n", ", line 2, column 4, key 'a'", "not TOML"),
        ("c.toml", b"a.b = 2026-01-31\nc = inf\n[[d]]\ne = 10:00:00", "", "a.b: 2026-01-31"),
        ("c.toml", b"\xff", "", "not UTF-8"),
    ],
)
def test_a_config_file_that_is_none_says_where(tmp_path, name, content, place, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert caught.value.where == f"{path}{place}"
    assert words in str(caught.value)


def test_all_values_that_json_cannot_hold_are_named(tmp_path):
    (tmp_path / "c.toml").write_text("a.b = 2026-01-31\nc = inf\n[[d]]\ne = 10:00:00\n")
    with pytest.raises(ConfigError) as caught:
        read_config_file(tmp_path / "c.toml")
    assert caught.value.details == ("a.b: 2026-01-31", "c: inf", "d.0.e: 10:00:00")
