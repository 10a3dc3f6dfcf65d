from __future__ import annotations

import pytest

from bsm_core.errors import ConfigError
from bsm_core.training.config.config_file import read_config_file


def test_a_config_file(tmp_path):
    (tmp_path / "c.json").write_text('{"model_class": "x", "größe": [1, null]}', encoding="utf-8")
    assert read_config_file(tmp_path / "c.json") == {"model_class": "x", "größe": [1, None]}


@pytest.mark.parametrize("content", [None, "{", "[1]", "\xff"], ids=["not there", "not JSON", "a list", "not text"])
def test_a_config_file_that_is_none(tmp_path, content):
    path = tmp_path / "c.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert caught.value.where == str(path)


# Keys that name columns
