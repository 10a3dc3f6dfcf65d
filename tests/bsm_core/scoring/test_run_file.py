"""The file of ``--config``."""

from __future__ import annotations

import pytest

from bsm_core.errors import UsageError
from bsm_core.scoring.run_file import RunFile
from bsm_core.scoring.settings import Settings

OTHERS = {"quiet": (True, False), "log-format": ("text", "json")}


def read(tmp_path, text):
    (tmp_path / "run.toml").write_text(text, "utf-8")
    return RunFile.read(tmp_path / "run.toml", OTHERS)


def test_any_flag_by_its_name(tmp_path):
    file = read(
        tmp_path,
        """
        id-field = "é"
        data_dir = "rows.csv"
        keep-columns = ["a", "b, c"]
        device = [0, 2]
        batch-size = 8
        no-self-check = true
        strict = false
        quiet = true
        """,
    )
    settings = Settings.resolve({}, {}, file.settings)
    assert (settings.id_field, str(settings.data_dir), settings.keep_columns) == ("é", "rows.csv", ("a", "b, c"))
    assert "no-self-check" in file.settings["self_check"][1]
    assert (settings.device, settings.batch_size, settings.self_check, settings.strict) == ((0, 2), 8, False, False)
    assert file.others == {"quiet": True}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bacth-size = 3", "'bacth-size'; did you mean 'batch-size'?"),
        ("[input]\nid-field = 'a'", "'input'"),
        ("a = b", "is not TOML"),
        ("quiet = 'yes'", "write one of true, false"),
        ("quiet = 1", "write one of true, false"),
        ("job_type = 'testing'\njob-type = 'testing'", "has one flag twice: job_type and job-type"),
        ("quiet = true\n--quiet = true", "has one flag twice: quiet and --quiet"),
        ("log-format = 'xml'", 'write one of "text", "json"'),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        raise read(tmp_path, text).problem
    assert words in str(caught.value)
    assert str(tmp_path / "run.toml") in str(caught.value)


def test_a_false_flag_takes_precedence_over_the_variable(tmp_path):
    env = {"PREDICTED_CLASS": "true"}
    assert Settings.resolve({}, env, read(tmp_path, "").settings).predicted_class
    file = read(tmp_path, "predicted-class = false\nno-self-check = false\nstrict = false")
    settings = Settings.resolve({}, env, file.settings)
    assert (settings.predicted_class, settings.self_check, settings.strict) == (False, True, False)


def test_what_is_known_of_a_file_that_cannot_be_used(tmp_path):
    file = read(tmp_path, "output-dir = 'out'\nbacth-size = 3\nlog-format = 'json'\nquiet = 3")
    assert file.settings["output_dir"][0] == "out"
    assert file.others == {"log-format": "json"}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="the file of --config cannot be read: No such file"):
        RunFile.read(tmp_path / "none.toml", {})


def test_a_value_that_cannot_be_used_names_file_and_key(tmp_path):
    file = read(tmp_path, "batch_size = 'many'\nstrict = 3")
    with pytest.raises(UsageError) as caught:
        Settings.resolve({}, {}, file.settings)
    assert f"{tmp_path / 'run.toml'}: batch_size: " in str(caught.value)
    assert f"{tmp_path / 'run.toml'}: strict: " in str(caught.value)
