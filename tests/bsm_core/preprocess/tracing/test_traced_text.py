"""Traced text is what plain text is, and each of its characters knows where it stood."""

from __future__ import annotations

import copy
import pickle
import unicodedata
from operator import methodcaller

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core import TracedText, added_text

TEXTS = st.text(st.sampled_from("ab ,\n\t\x1c\r İßŉΣςσǰﬁé😀"), max_size=12)
CASES = [methodcaller(name) for name in ("lower", "upper", "casefold", "swapcase", "title", "capitalize")]


def stood(text: str, cell: str) -> list[str | None]:
    """For each character, what stands at its place in the cell."""
    assert isinstance(text, TracedText)
    places = [character.place for character in text]
    assert text.places.dtype == np.int64
    return [None if place is None else cell[slice(*place)] for place in places]


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        (lambda t: t[1:3], "bc", "bc"),
        (lambda t: t[-1], "f", "f"),
        (lambda t: t[::-2], "fdb", "fdb"),
        (lambda t: t.upper(), "ABCDEF", "abcdef"),
        (lambda t: t + "!", "abcdef!", [*"abcdef", None]),
        (lambda t: "> " + t[:1], "> a", [None, None, "a"]),
        (lambda t: t[:1] + t[4:], "aef", "aef"),
        (lambda t: t[:2] * 2, "abab", "abab"),
        (lambda t: -1 * t, "", ""),
        (lambda t: t.strip("af"), "bcde", "bcde"),
        (lambda t: t.removeprefix("ab"), "cdef", "cdef"),
        (lambda t: t.removeprefix("b"), "abcdef", "abcdef"),
        (lambda t: t.removesuffix("ef"), "abcd", "abcd"),
        (lambda t: t.removesuffix(""), "abcdef", "abcdef"),
        (lambda t: t.split("c")[1], "def", "def"),
        (lambda t: t.replace("bcd", "xy"), "axyef", ["a", "bcd", "bcd", "e", "f"]),
        (lambda t: t.replace("bcd", ""), "aef", "aef"),
        (lambda t: t.replace("", "-", 2), "-a-bcdef", [None, "a", None, *"bcdef"]),
        (lambda t: t.translate({97: "xyz", 98: None, 99: 67}), "xyzCdef", [*"aaacdef"]),
        (lambda t: t[:0].join([t[3:], "!", t[0]]), "def!a", [*"def", None, "a"]),
        (lambda t: t[5].join(["x", t[0]]), "xfa", [None, "f", "a"]),
        (lambda t: added_text(" ", t).join(t[:2]), "a b", ["a", None, "b"]),
        (lambda t: t.replaced([(1, 3, "B"), (5, 6, t[0])]), "aBdea", ["a", "bc", "d", "e", "a"]),
    ],
)
def test_operations(change, text, expected):
    result = change(TracedText("abcdef"))
    assert result == text
    assert stood(result, "abcdef") == [*expected]


@pytest.mark.parametrize("change", CASES, ids=str)
@pytest.mark.parametrize(("cell", "begins"), [("İΣ ßa", [0, 1, 2, 3, 4]), ("aŉ ŉǰΣ", [0, 1, 2, 3, 4, 5])])
def test_a_character_that_becomes_several(change, cell, begins):
    result = change(TracedText(cell))
    assert result == change(cell)
    assert [*dict.fromkeys(character.place[0] for character in result)] == begins


def test_every_character_whose_length_changes_with_case():
    several = [c for c in map(chr, range(0x20000)) if any(len(change(c)) > 1 for change in CASES)]
    assert len(several) > 100
    for char in several:
        for change in CASES:
            for cell in (char, f"a{char}b", f" {char} {char}", f"Σ{char}"):
                result = change(TracedText(cell))
                assert result == change(cell)
                for place in {character.place for character in result}:
                    piece = "".join(c for c in result if c.place == place)
                    assert folded(piece) == folded(cell[slice(*place)])


def folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text).casefold().replace("ς", "σ")


PARTS = {
    "slice": lambda t, s: [t[1:-1], t[::2], t[::-1]],
    "iteration": lambda t, s: [*t],
    "split": lambda t, s: t.split(),
    "split at most": lambda t, s: t.split(None, 1),
    "rsplit": lambda t, s: t.rsplit(),
    "rsplit at most": lambda t, s: t.rsplit(None, 1),
    "split at": lambda t, s: t.split(s) + t.split(sep=s, maxsplit=1) + t.rsplit(s, 1),
    "lines": lambda t, s: t.splitlines(),
    "lines with ends": lambda t, s: t.splitlines(keepends=True),
    "partition": lambda t, s: [*t.partition(s), *t.rpartition(s)],
    "strip": lambda t, s: [t.strip(), t.lstrip(), t.rstrip(), t.strip(s), t.lstrip(s), t.rstrip(s)],
    "fixes": lambda t, s: [t.removeprefix(s), t.removesuffix(s)],
}


@pytest.mark.parametrize("parts", PARTS)
@settings(max_examples=40)
@given(cell=TEXTS, separator=st.text(st.sampled_from("ab ,"), min_size=1, max_size=2))
def test_parts_are_those_of_plain_text_and_stand_where_they_stood(parts, cell, separator):
    found = PARTS[parts](TracedText(cell), separator)
    assert found == PARTS[parts](cell, separator)
    for part in found:
        assert stood(part, cell) == [*part]
    if parts not in ("slice", "iteration"):
        assert all(part.place is None or cell[slice(*part.place)] == part for part in found)


@given(cell=TEXTS, old=TEXTS.filter(lambda t: len(t) < 3), new=TEXTS, count=st.integers(-1, 3))
def test_replacing(cell, old, new, count):
    for text in (cell, TracedText(cell)):
        assert TracedText(cell).replace(old, text[:0] + new, count) == cell.replace(old, new, count)
    table = str.maketrans({"a": new, "b": None, "ß": "ss"})
    assert TracedText(cell).translate(table) == cell.translate(table)


@given(cell=TEXTS)
def test_cases(cell):
    for change in CASES:
        text = change(TracedText(cell))
        assert text == change(cell)
        assert (np.diff(text.places[:, 0]) >= 0).all()


def test_plain_text_has_no_places():
    cell = TracedText("ab")
    for plain in (str(cell), f"{cell}", "".join(cell), " ".join([cell, cell]), cell.center(4), cell.encode().decode()):
        assert type(plain) is str
    assert added_text(" ", "a", "b") == " "
    assert type(added_text(" ", "a", "b")) is str
    assert added_text(" ", "a", cell).place is None


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda text: pickle.loads(pickle.dumps(text))])
def test_copies(again):
    text = TracedText("abc")[1:]
    assert again(text) == "bc"
    assert stood(again(text), "abc") == ["b", "c"]


def test_places_of_another_number_of_characters():
    with pytest.raises(ValueError, match=r"places: the shape must be \(2, 2\), not \(3, 2\)"):
        TracedText("ab", TracedText("abc").places)


@pytest.mark.parametrize("wrong", [lambda t: t + 1, lambda t: 1 + t, lambda t: t.join([1]), lambda t: t.split("")])
def test_errors_are_those_of_plain_text(wrong):
    for text in ("ab", TracedText("ab")):
        with pytest.raises((TypeError, ValueError)):
            wrong(text)
