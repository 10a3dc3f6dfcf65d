import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.dialogue_splitter import DialogueSplitterProcessor

split = DialogueSplitterProcessor().process


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("[bom]a[eom][bom]b[eom]", ["a", "b"]),
        ("[bom] a\r\nb \n[eom]\r\n[bom]c[eom]", ["a\r\nb", "c"]),
        ("[bom]  [eom][bom][eom][bom]\xa0[eom]", []),
        ("before [bom]a[eom] between [bom]b[eom] after", ["a", "b"]),
        ("[bom]a [bom]b[eom]", ["a", "b"]),
        ("[bom]a[eom][bom]b to the end", ["a", "b to the end"]),
        ("[bom]a[bom]b[eom]c[eom]", ["a", "b"]),
        ("[eom]stray", []),
        ("[BOM]a[EOM]", ["[BOM]a[EOM]"]),
        ("  no marker\x00 ", ["no marker\x00"]),
        ("", []),
        ("  ", []),
    ],
)
def test_turns(text, turns):
    assert split(text) == turns


def test_unmarked_text_can_be_dropped():
    drop = DialogueSplitterProcessor(unmarked="drop").process
    assert drop("no marker") == []
    assert drop("[bom]a[eom]") == ["a"]


@given(st.lists(st.text(st.characters(exclude_characters="[]"))))
def test_every_marked_turn_comes_back(turns):
    text = "".join(f"[bom]{turn}[eom]\n" for turn in turns)
    assert split(text) == [turn.strip() for turn in turns if turn.strip()]


def test_a_megabyte_of_open_markers_is_linear():
    assert split("[bom]a" * 170_000) == ["a"] * 170_000
