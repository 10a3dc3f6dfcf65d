from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.text_upper import TextUpperProcessor

upper = TextUpperProcessor().process


def test_upper_case_and_plain_white_space():
    assert upper("  héllo \t\n straße\xa0 ") == "HÉLLO STRASSE"
    assert upper("") == ""


@given(st.text())
def test_upper_text_is_upper(text):
    assert upper(upper(text)) == upper(text)
