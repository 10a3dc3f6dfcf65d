"""Dialects of CSV and TSV: the settings ``csv_*``, which a flag or the artifact's config sets."""

from __future__ import annotations

import codecs
import csv
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bsm_core.errors import ConfigError, UsageError, printable

log = logging.getLogger("bsm")

DELIMITER = {"csv_delimiter": "CHARACTER"}
NO_HEADER = {"csv_header": "none", "csv_columns": "COLUMNS"}
"""Settings that errors name; see :class:`BSMError`."""
_NOT_FOR_FILES = {"idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
"""Encodings of Python that are not those of files."""
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACES = " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Dialect:
    r"""How the cells of CSV and TSV files are separated, quoted, encoded and named, and how their numbers are written.

    Attributes:
        delimiter: Character between two cells. None: the one of the format.
        escape: Character that stands before a quote in a quoted cell, such as ``\``. None: quotes are doubled.
        encoding: Encoding of the files, as Python names it. None: UTF-8, or bytes that are kept as they are.
        columns: Names of the columns, for files without a header. None: the first row is the header.
        decimal: Decimal point of the numbers of features. None: ``"."``.
        thousands: Character between groups of digits. None: there is none.
        json: Whether text that is a number in JSON is that number, whatever the other attributes say.
        called: Name of each setting for errors, such as ``{"csv_decimal": "config.csv_decimal"}``. Others are flags.
    """

    delimiter: str | None = None
    escape: str | None = None
    encoding: str | None = None
    columns: tuple[str, ...] | None = None
    decimal: str | None = None
    thousands: str | None = None
    json: bool = False
    called: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any], called: Mapping[str, str] | None = None) -> Dialect:
        """Return the dialect that settings describe.

        Args:
            values: Settings by name, such as ``{"csv_escape": "\\\\"}``. Others are ignored, and None is not set.
            called: See :class:`Dialect`.

        Raises:
            ConfigError, UsageError: Values cannot be used, or contradict each other. All problems are listed. It is a
                ConfigError if one of the values is from an artifact's config.
        """
        name_of = partial(_name_of, called or {})
        found: dict[str, Any] = {}
        problems = []
        for name, parse in PARSERS.items():
            try:
                found[name.removeprefix("csv_")] = parse(values.get(name))
            except ValueError as error:
                problems.append(f"{name_of(name)}: {error} (it is {printable(repr(values[name])[:80])})")
        if problems := problems or _contradictions(found, name_of):
            raise _error(problems)
        found.pop("header")
        return cls(**found, called=called or {})

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Dialect:
        """Return the dialect that the keys of an artifact's config describe.

        Raises:
            ConfigError: See :meth:`of`.
        """
        return cls.of(config, {name: f"config.{name}" for name in PARSERS})

    def with_delimiter(self, delimiter: str) -> Dialect:
        """Return this dialect with a delimiter, if it has none.

        Raises:
            ConfigError, UsageError: The delimiter is the escape character.
        """
        found = replace(self, delimiter=self.delimiter or delimiter)
        if found.escape == found.delimiter:
            raise _error([_escape_is_delimiter(self.name_of)])
        return found

    def of_json_lines(self) -> Dialect:
        """Return the dialect of JSON lines: the spelling of numbers in strings, beside the numbers of JSON.

        A cell does not say whether it was a string or a number. ``1.500`` is a number of JSON, and a string with groups
        of digits after ``"."`` cannot be told from it, of which a warning is logged.
        """
        if self.thousands == ".":
            log.warning(
                "%s is '.', which cannot be told from the decimal point of JSON lines: text that is a number "
                "in JSON is read as such, so that '1.500' is 1.5; write strings without groups, or the table as CSV",
                self.name_of("csv_thousands"),
            )
        return Dialect(decimal=self.decimal, thousands=self.thousands, json=True, called=self.called)

    def values(self) -> dict[str, Any]:
        """Return the attributes of this dialect as JSON values, without the names for errors."""
        found = {**vars(self), "columns": self.columns and [*self.columns]}
        del found["called"], found["json"]
        return found

    def name_of(self, setting: str) -> str:
        """Return the name of a setting for errors: of its flag or its config key."""
        return _name_of(self.called, setting)

    @property
    def mark(self) -> str:
        """The character between two cells; a comma, if none is set."""
        return self.delimiter or ","

    @property
    def translated(self) -> bool:
        """Whether files are read as if they were plain CSV in UTF-8: positions in them are those of that text."""
        return self.escape is not None or self.encoding is not None

    def plain_number(self, text: str) -> str | None:
        """Return the spelling of a number with ``"."`` and without groups, or the text if it has no digit.

        Returns:
            The text; None if it is a number only in another spelling.
        """
        if self.decimal is None and self.thousands is None:
            return text
        if self.json and _JSON_NUMBER.fullmatch(text):
            return text
        if not any(character.isdigit() for character in text):
            return text
        match = _number(self.decimal or ".", self.thousands).fullmatch(text.strip())
        if match is None:
            return None
        whole = match["whole"] if self.thousands is None else re.sub("[^0-9]", "", match["whole"])
        return f"{match['sign']}{whole}.{match['fraction'] or '0'}{match['exponent']}"


def parse_character(value: Any) -> str | None:
    r"""Return a character from its flag: itself, or a notation such as ``\t`` or ``\x01``.

    Raises:
        ValueError: The value is not one ASCII character.
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else ""
    if match := re.fullmatch(r"\\(?:t|x([0-9a-fA-F]{2}))", text):
        text = chr(int(match[1], 16)) if match[1] else "\t"
    if len(text) != 1 or not text.isascii() or text in '"\r\n\0':
        raise ValueError(r"should be one ASCII character, such as ; or | or \t or \x01")
    return text


def parse_escape(value: Any) -> str | None:
    """Return the escape character; None for a quote and for ``"none"``, because doubled quotes are the default."""
    return None if value == '"' or _lower(value) == "none" else parse_character(value)


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def parse_encoding(value: Any) -> str | None:
    """Return Python's name of an encoding; None for UTF-8.

    Raises:
        ValueError: There is no such encoding.
    """
    if value is None:
        return None
    try:
        found = codecs.lookup(value)
        codecs.getincrementaldecoder(value)
    except Exception as error:  # of many types: LookupError, TypeError, ValueError of odd names
        raise ValueError("should be an encoding such as utf-8, latin-1, cp1252, utf-16 or shift_jis") from error
    # _is_text_encoding: not for codecs from bytes to bytes, such as zip.
    if found.name in _NOT_FOR_FILES or not getattr(found, "_is_text_encoding", False):
        raise ValueError("is not an encoding of files")
    return None if found.name in ("utf-8", "utf-8-sig") else found.name


def parse_header(value: Any) -> str:
    """Return ``"first"`` or ``"none"``."""
    if (found := _lower(value)) in (None, "first", "none"):
        return found or "first"
    raise ValueError("should be first or none")


def split_names(text: str) -> list[str]:
    """Return the names in a text with commas. A name that has a comma stands in quotes: ``id,"height, cm"``.

    Raises:
        ValueError: There is a line break outside quotes.
    """
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise ValueError(f"should be names with commas between them ({error})") from error


def parse_columns(value: Any) -> tuple[str, ...] | None:
    """Return names of columns, from a list or from a text; see :func:`split_names`."""
    names = [name.strip() for name in split_names(value)] if isinstance(value, str) else value
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("should be names of columns, such as id,text,age")
    return tuple(names)


def parse_kept(value: Any) -> Any:
    """Return the names of columns to copy, from a text with commas between them; a list of them as it is."""
    return tuple(filter(None, split_names(value))) if isinstance(value, str) else value


def parse_decimal(value: Any) -> str | None:
    """Return the decimal point; None for the default."""
    if value in (None, ".", ","):
        return None if value == "." else value
    raise ValueError("should be . or ,")


def parse_thousands(value: Any) -> str | None:
    """Return the character between groups of digits; None for ``"none"``."""
    if value is None or _lower(value) == "none":
        return None
    if isinstance(value, str) and len(value) == 1 and value in f",.'’_{_SPACES}":
        return value
    raise ValueError("should be , or . or ' or _ or a space, or none")


PARSERS: dict[str, Callable[[Any], Any]] = {
    "csv_delimiter": parse_character,
    "csv_escape": parse_escape,
    "csv_encoding": parse_encoding,
    "csv_header": parse_header,
    "csv_columns": parse_columns,
    "csv_decimal": parse_decimal,
    "csv_thousands": parse_thousands,
}
"""Function that checks each setting."""


def _name_of(called: Mapping[str, str], setting: str) -> str:
    return called.get(setting, f"--{setting.replace('_', '-')}")


def _escape_is_delimiter(name_of: Callable[[str], str]) -> str:
    return f"{name_of('csv_escape')}: is the delimiter ({name_of('csv_delimiter')})"


def _error(problems: list[str]) -> ConfigError | UsageError:
    what = "settings of CSV files that cannot be used"
    if any("config." in problem for problem in problems):
        fix = "correct these keys in the config and pack the artifact again; a run may set the flags instead"
        return ConfigError(what, details=problems, fix=fix)
    return UsageError(what, details=problems, fix="correct these flags")


def _contradictions(found: Mapping[str, Any], name_of: Callable[[str], str]) -> list[str]:
    header, columns, thousands = name_of("csv_header"), name_of("csv_columns"), name_of("csv_thousands")
    problems = []
    if found["header"] == "none" and not found["columns"]:
        problems.append(f"{header}: none needs {columns}, the names of the columns")
    if found["header"] != "none" and found["columns"]:
        problems.append(f"{columns}: needs {header} none; otherwise the first row names the columns")
    if found["escape"] and found["escape"] == found["delimiter"]:
        problems.append(_escape_is_delimiter(name_of))
    if found["thousands"] == (found["decimal"] or "."):
        problems.append(f"{thousands}: is the decimal point ({name_of('csv_decimal')}); none says that there is none")
    return problems


def _number(decimal: str, thousands: str | None) -> re.Pattern[str]:
    """Return the pattern of a number; Python keeps compiled patterns.

    Groups have three digits; those before a comma may have two, as in India: ``12,34,567``.
    """
    whole = "[0-9]*"
    if thousands:
        group = f"[{_SPACES}]" if thousands in _SPACES else "['’]" if thousands in "'’" else re.escape(thousands)
        grouped = f"[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+"
        if thousands == ",":
            grouped += f"|[1-9][0-9]?(?:{group}[0-9]{{2}})+{group}[0-9]{{3}}"
        whole = f"{grouped}|[0-9]*"
    mark = re.escape(decimal)
    fraction, exponent = f"(?:{mark}(?P<fraction>[0-9]*))?", "(?P<exponent>(?:[eE][+-]?[0-9]+)?)"
    return re.compile(f"(?P<sign>[+-]?)(?={mark}?[0-9])(?P<whole>{whole}){fraction}{exponent}")
