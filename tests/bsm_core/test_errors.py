"""Errors: what they say, what they are, and that they survive the way between processes."""

from __future__ import annotations

import errno
import pickle

import pytest

from bsm_core import errors
from bsm_core.errors import BSMError, ComponentLoadError, MissingColumnsError, nearest, short_repr, why_unreadable

ALL = sorted(
    (e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, BSMError)), key=lambda e: e.__name__
)


def test_settings_are_said_after_the_fix_as_flags_or_as_the_command_has_them():
    error = BSMError("x", fix="do it", settings=[{"csv_header": "none", "csv_columns": "COLUMNS"}, {"on_row": "skip"}])
    flags = "x\n  To fix: do it, or give --csv-header none --csv-columns COLUMNS or --on-row skip"
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == flags
    error.advice = lambda settings: "x".join(settings[0])
    assert str(error) == "x\n  To fix: do it, or csv_headerxcsv_columns"
    assert str(BSMError("x", settings=[{"a": "1"}])) == "x\n  To fix: give --a 1"
    assert str(BSMError("x")) == "x"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_all_and_pickles(kind):
    error = kind("no such thing", where="config.key", fix="name another", details=["it is a", "it is b"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    for e in (error, again):
        assert str(e) == "no such thing (config.key)\n  it is a\n  it is b\n  To fix: name another"
        assert e.one_line() == (
            f"{kind.__name__}: no such thing (config.key); it is a; it is b; To fix: name another"
        )  # fmt: skip
        assert (e.what, e.where, e.fix, e.details) == (
            "no such thing", "config.key", "name another", ("it is a", "it is b"),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_docstring_and_an_exit_code(kind):
    assert kind.__doc__
    assert kind("x").exit_code == (2 if kind is errors.UsageError else 1)


def test_an_error_without_a_place_or_a_cure():
    assert str(BSMError("it broke")) == "it broke"
    assert BSMError("it  broke").one_line() == "BSMError: it broke"


def test_a_message_shows_what_is_not_printable_as_escapes():
    error = BSMError("no x\n12:00 INFO y", where="a\x1b[2J", fix="\u202eb", details=["c\r\udc80"])
    assert str(error) == "no x\\n12:00 INFO y (a\\x1b[2J)\n  c\\r\\udc80\n  To fix: \\u202eb"
    assert error.one_line() == "BSMError: no x\\n12:00 INFO y (a\\x1b[2J); c\\r\\udc80; To fix: \\u202eb"
    assert error.where == "a\x1b[2J"


def test_a_message_has_limits():
    error = BSMError("a" * 20_000, details=list(map(str, range(5_000))))
    assert len(str(error)) < 20_000
    assert str(error).endswith("\n  999\n  and 4,000 more")


def test_short_repr_is_short_whatever_the_value():
    bomb: list[object] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    values = [bomb, {"a": bomb}, (bomb,), "x" * 1000, 10**5000, list(range(1000)), b"x" * 1000]
    assert all(len(short_repr(value)) < 200 for value in values)
    assert short_repr("né") == "'né'"


@pytest.mark.parametrize(
    ("kind", "promised"),
    [
        ("MissingArtifactFilesError", FileNotFoundError),
        ("TokenizerError", OSError),
        ("NoInferenceDataError", RuntimeError),
        ("MixedFormatsError", RuntimeError),
        ("MissingColumnsError", KeyError),
        ("UsageError", ValueError),
        ("ConfigError", ValueError),
        ("DataError", ValueError),
        ("SinkError", OSError),
        ("UnknownStepError", LookupError),
        ("UnknownModelClassError", LookupError),
        ("ComponentLoadError", ImportError),
    ],
)
def test_errors_are_the_builtin_types_that_the_contract_promises(kind, promised):
    assert issubclass(getattr(errors, kind), promised)


def test_a_key_error_of_ours_is_not_printed_as_a_quoted_key():
    assert str(MissingColumnsError("columns are missing", details=["age"])) == "columns are missing\n  age"
    assert str(ComponentLoadError("it cannot be imported", where="a:B")) == "it cannot be imported (a:B)"


@pytest.mark.parametrize(
    ("name", "found"),
    [("bimodal_bret", "bimodal_bert"), ("Bimodal_BERT", "bimodal_bert"), ("bert", "bert"), ("xyz", None), ("", None)],
)
def test_nearest(name, found):
    assert nearest(name, iter(["bert", "bimodal_bert", "lstm"])) == found


def test_nearest_keeps_the_case_of_what_is_known():
    assert nearest("id_feild", ["ID_FIELD"]) == "ID_FIELD"
    assert nearest("anything", []) is None


@pytest.mark.parametrize(
    ("number", "reason", "advice"),
    [
        (errno.EACCES, "Permission denied", "chmod"),
        (errno.ENOENT, "No such file or directory", "check the path"),
        (errno.EIO, "Input/output error", "check the disk"),
    ],
)
def test_why_a_file_cannot_be_read(number, reason, advice):
    said, fix = why_unreadable(OSError(number, "Failed to open local file", "x"))
    assert said == reason
    assert advice in fix
    assert "damaged" not in fix
