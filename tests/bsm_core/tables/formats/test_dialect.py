"""The settings ``csv_*``."""

from __future__ import annotations

import pytest

from bsm_core.errors import ConfigError, UsageError
from bsm_core.tables.formats.dialect import Dialect


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"csv_delimiter": "||"}, "csv_delimiter: should be one ASCII character"),
        ({"csv_delimiter": "é"}, "csv_delimiter: should be one ASCII character"),
        ({"csv_delimiter": '"'}, "csv_delimiter: should be one ASCII character"),
        ({"csv_escape": 3}, "csv_escape: should be one ASCII character"),
        ({"csv_escape": ";", "csv_delimiter": ";"}, "csv_escape: is the delimiter"),
        ({"csv_encoding": "no-such"}, "csv_encoding: should be an encoding"),
        ({"csv_encoding": ["utf-8"]}, "csv_encoding: should be an encoding"),
        ({"csv_encoding": "zip"}, "csv_encoding: is not an encoding of files"),
        ({"csv_encoding": "unicode_escape"}, "csv_encoding: is not an encoding of files"),
        ({"csv_header": "no\x1b"}, "csv_header: should be first or none (it is 'no\\x1b')"),
        ({"csv_header": "none"}, "csv_header: none needs csv_columns"),
        ({"csv_columns": ["a"]}, "csv_columns: needs csv_header none"),
        ({"csv_columns": "a,,b", "csv_header": "none"}, "csv_columns: should be names"),
        ({"csv_decimal": ";"}, "csv_decimal: should be . or ,"),
        ({"csv_thousands": "x"}, "csv_thousands: should be"),
        ({"csv_thousands": "."}, "csv_thousands: is the decimal point"),
    ],
)
def test_settings_that_cannot_be_used(values, problem):
    with pytest.raises(UsageError) as caught:
        Dialect.of(values)
    assert caught.value.details[0].startswith(problem.replace("csv_", "--csv-"))
    with pytest.raises(ConfigError) as caught:
        Dialect.of_config(values)
    assert caught.value.details[0].startswith(problem.replace("csv_", "config.csv_"))


def test_a_contradiction_of_a_flag_and_the_config_names_both():
    with pytest.raises(ConfigError) as caught:
        Dialect.of({"csv_decimal": ".", "csv_thousands": "."}, {"csv_thousands": "config.csv_thousands"})
    assert caught.value.details == (
        "config.csv_thousands: is the decimal point (--csv-decimal); none says that there is none",
    )


def test_the_delimiter_of_the_format_is_no_escape_character():
    with pytest.raises(ConfigError, match=r"config.csv_escape: is the delimiter"):
        Dialect.of_config({"csv_escape": ","}).with_delimiter(",")
    assert Dialect(escape=",").with_delimiter("\t").delimiter == "\t"
    assert Dialect(escape=",", delimiter=";").with_delimiter(",").delimiter == ";"


def test_notations_of_characters_and_names_of_the_defaults():
    assert Dialect.of({"csv_delimiter": "\\x01"}).delimiter == "\x01"
    assert Dialect.of({"csv_delimiter": "\\t"}).delimiter == Dialect.of({"csv_delimiter": "\t"}).delimiter == "\t"
    plain = {"csv_escape": '"', "csv_encoding": "UTF8", "csv_decimal": ".", "csv_header": "first", "lr": 1}
    assert Dialect.of(plain) == Dialect()
    assert Dialect.of({"csv_escape": "none", "csv_thousands": "None", "csv_header": "First"}) == Dialect()
    assert Dialect.of({"csv_header": "NONE", "csv_columns": "id, chat ,x"}).columns == ("id", "chat", "x")
    assert Dialect.of({"csv_header": "none", "csv_columns": ["id", " chat"]}).columns == ("id", " chat")


@pytest.mark.parametrize(
    ("decimal", "thousands", "text", "plain"),
    [
        (",", ".", "1.234.567,5", "1234567.5"),
        (",", ".", " -1,5e3 ", "-1.5e3"),
        (",", ".", "1.5", None),
        (",", ".", "1.2345", None),
        (",", None, "1.5", None),
        (",", None, ",5", ".5"),
        (",", None, "1,2,3", None),
        (None, ",", "1,234.5", "1234.5"),
        (None, ",", "12,34,567", "1234567.0"),
        (None, ",", "1,23", None),
        (None, "'", "1’234", "1234.0"),
        (",", " ", "1\N{NARROW NO-BREAK SPACE}234,5", "1234.5"),
        (",", None, "e5", None),
        (",", None, "E10", None),
        (",", None, "+e3", None),
        (",", ".", ",e5", None),
        (",", ".", "5,", "5.0"),
        (",", ".", "12.34.567", None),
        (",", ".", "1.23.456.789", None),
        (None, ",", "1,234,56,789", None),
        (None, ",", "01,02,003", None),
        (None, ",", "0,123", None),
        (None, ",", "1,23,45,678.5", "12345678.5"),
        (",", ".", "N/A", "N/A"),
        (",", ".", "", ""),
        (None, None, "1_0", "1_0"),
    ],
)
def test_numbers(decimal, thousands, text, plain):
    assert Dialect(decimal=decimal, thousands=thousands).plain_number(text) == plain
