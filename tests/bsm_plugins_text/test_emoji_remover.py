import pytest
from emoji import EMOJI_DATA
from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.emoji_remover import EmojiRemoverProcessor

remove = EmojiRemoverProcessor().process
PLAIN_SIGNS = {char for char in EMOJI_DATA if len(char) == 1 and char < "\u2300"}
EMOJI = sorted(EMOJI_DATA.keys() - PLAIN_SIGNS)
FOLLOWERS = "\u200d\ufe0e\ufe0f\u20e3"
REGIONAL = {chr(c) for c in range(0x1F1E6, 0x1F200)}
WRITING = st.characters(
    exclude_characters={c for c in EMOJI_DATA if len(c) == 1 and c not in PLAIN_SIGNS} | REGIONAL | set(FOLLOWERS)
)


def test_every_emoji_of_the_unicode_set_goes():
    assert [e for e in EMOJI if remove(f"a{e}b") != "ab"] == []


@pytest.mark.parametrize("text", ["❤", "❤\ufe0f", "✂", "✂\ufe0e", "☎", "㊗", "㊙\ufe0f", "〰", "Ⓜ"])
def test_from_u2300_up_text_presentation_goes_too(text):
    assert remove(f"a{text}b") == "ab"


@pytest.mark.parametrize("sign", sorted(PLAIN_SIGNS))
def test_below_u2300_only_with_the_emoji_selector(sign):
    assert remove(f"a{sign}b{sign}\ufe0e") == f"a{sign}b{sign}\ufe0e"
    assert remove(f"a{sign}\ufe0fb") == "ab"


def test_only_keycap_sequences_take_digits():
    assert remove("1\ufe0f\u20e3 2\u20e3 #\ufe0f\u20e3 *\ufe0f\u20e3 12 # * 3\ufe0f") == "    12 # * 3\ufe0f"


@pytest.mark.parametrize(
    "sequence",
    [
        "👍🏽",
        "🇩🇪",
        "🇽🇽",  # no country's
        "🇩",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "👩\u200d👩\u200d👧\u200d👦",
        "🐙\u200d🍕",  # no vendor's
        "🏳\ufe0f\u200d🌈",
        "🙂\u200d↔",  # the arrow is part of the emoji
        "👁\ufe0f\u200d🗨\ufe0f",
    ],
)
def test_sequences_go_whole(sequence):
    assert remove(f"a{sequence}{sequence}b") == "ab"


def test_nothing_is_put_in_place_of_an_emoji():
    assert remove("late😀 again 😀 card📦") == "late again  card"


@pytest.mark.parametrize(
    "text", ["日本語カタカナ한국어", "e\u0301 עברית العربية", "می\u200cخواهم क्\u200dष", "★ ✓ → ≤ ½ ①"]
)
def test_writing_stays(text):
    assert remove(text) == text


@given(st.text(WRITING))
def test_text_without_emoji_is_unchanged(text):
    assert remove(text) == text


@given(st.lists(st.tuples(st.text(WRITING), st.sampled_from(EMOJI))))
def test_what_stands_between_emoji_comes_back(parts):
    assert remove("".join(text + emoji for text, emoji in parts)) == "".join(text for text, _ in parts)


@given(st.text(st.sampled_from([*FOLLOWERS, *"1#©↔a😀❤🏽👩🇩🏴", "\U000e0067", "\U000e007f"])))
def test_nothing_new_arises_from_a_removal(text):
    assert remove(remove(text)) == remove(text)


def test_a_skin_tone_goes_and_the_letter_behind_it_stays():
    assert remove("🏽é") == "é"
