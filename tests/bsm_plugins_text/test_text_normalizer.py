import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.text_normalizer import TextNormalizationProcessor

normalize = TextNormalizationProcessor().process


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Hello \t\r\n WORLD  ", "hello world"),
        ("a\xa0b\u2003c\u3000d\u2028e", "a b c d e"),
        ("‘a’ “b” „c“ «d» ‹e›", '\'a\' "b" "c" "d" \'e\''),
        ("a–b—c‑d−e", "a-b-c-d-e"),
        ("wait…", "wait..."),
        ("ＡＢＣ，１２！～", "abc,12!~"),
        ("Straße ÉTÉ ΟΔΟΣ", "straße été οδος"),
        ("日本語。カタカナ「한국어」", "日本語。カタカナ「한국어」"),
        ("e\u0301 שלום \x00", "e\u0301 שלום \x00"),
        ("", ""),
    ],
)
def test_normal_form(text, normal):
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("switched_off", "result"),
    [("lowercase", '"A" B'), ("whitespace", '"a"  b '), ("punctuation", "“a” b")],
)
def test_each_part_can_be_switched_off(switched_off, result):
    assert TextNormalizationProcessor(**{switched_off: False}).process("“A”  B ") == result


def test_all_off_changes_nothing():
    off = TextNormalizationProcessor(lowercase=False, whitespace=False, punctuation=False)
    assert off.process(" “A” ") == " “A” "


@given(st.text())
def test_normal_text_is_normal(text):
    assert normalize(normalize(text)) == normalize(text)
