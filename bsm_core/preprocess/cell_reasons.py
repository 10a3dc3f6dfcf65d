"""Why a cell is no number or no category."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

from bsm_core.preprocess.findings import COMMA, DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS, NO_CATEGORY
from bsm_core.tables.cell_values import value_text
from bsm_core.tables.formats.dialect import Dialect

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?")
"""A number in text in lower case."""
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+(?P<groups>[.'\u2019 \u00a0\u202f][0-9.'\u2019 \u00a0\u202f]*)?,[0-9]+")
_LARGEST = float(np.finfo(np.float32).max)


def why_no_number(value: Any, dialect: Dialect | None = None) -> str:
    """Return why a value is not a finite number of float32."""
    text = text_of(value) if isinstance(value, bytes | str | int | float | Decimal | np.number) else None
    if text is None:
        return "bytes that are not UTF-8" if isinstance(value, bytes) else f"{_kind_of(value)} is not a number"
    comma_is_unknown = dialect is None or (dialect.decimal is None and dialect.thousands != ",")
    if comma_is_unknown and "," in text:
        if Dialect(thousands=",").plain_number(text) not in (None, text):  # 1,234 may be either
            return COMMA
        if found := _DECIMAL_COMMA.fullmatch(text.strip()):
            return DECIMAL_COMMA_AND_GROUPS if found["groups"] else DECIMAL_COMMA
    if dialect is not None and isinstance(value, bytes | str):
        plain = dialect.plain_number(text)
        if plain is None:
            return f"not a number (the decimal point is {dialect.decimal or '.'!r})"
        text = plain
    word = text.strip().lower()
    if word.lstrip("+-") in ("inf", "infinity"):
        return "infinite"
    is_beyond = NUMBER.fullmatch(word) and abs(float(word)) > _LARGEST
    return "beyond the range of float32" if is_beyond else "not a number"


def why_no_category(value: Any) -> str:
    """Return why a value is not a category."""
    return f"{_kind_of(value)} is {NO_CATEGORY}"


def _kind_of(value: Any) -> str:
    """Return what a value without a text is."""
    if isinstance(value, bytes):
        return "text that is not UTF-8"
    if isinstance(value, str):  # from a column of mixed Python objects, or the text of a time
        is_text = value == value.encode(errors="replace").decode()
        return "a value that Python cannot hold" if is_text else "half of a surrogate pair"
    return f"a value of type {type(value).__name__}"


def text_of(value: Any) -> str | None:
    """Return the text of a cell, as pandas writes it to CSV, or None for bytes that are not UTF-8."""
    if not isinstance(value, bytes):
        return value_text(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
