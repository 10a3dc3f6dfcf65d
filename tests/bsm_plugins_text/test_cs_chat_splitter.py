import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.cs_chat_splitter import CSChatSplitterProcessor

split = CSChatSplitterProcessor().process


def pairs(text):
    return [(message["role"], message["content"]) for message in split(text)]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "[bot]: hi [customer]: my\r\nparcel [agent]:sorry",
            [("bot", "hi"), ("customer", "my\r\nparcel"), ("agent", "sorry")],
        ),
        ("[bot]: one [bot]: two", [("bot", "one"), ("bot", "two")]),
        ("[bot]:  [customer]: hi", [("customer", "hi")]),
        ("head [customer]: hi", [("customer", "hi")]),
        ("[bot]: see [1] and [agent] and [Bot]: x", [("bot", "see [1] and [agent] and [Bot]: x")]),
        (" no marker ", [("", "no marker")]),
        ("", []),
    ],
)
def test_messages(text, messages):
    assert pairs(text) == messages


def test_unmarked_text_can_be_dropped():
    drop = CSChatSplitterProcessor(unmarked="drop").process
    assert drop("no marker") == []
    assert drop("[bot]: hi") == [{"role": "bot", "content": "hi"}]


@given(
    st.lists(st.tuples(st.sampled_from(["bot", "customer", "agent"]), st.text(st.characters(exclude_characters="["))))
)
def test_every_message_comes_back(messages):
    text = "".join(f"[{role}]:{content}" for role, content in messages)
    assert pairs(text) == [(role, content.strip()) for role, content in messages if content.strip()]
