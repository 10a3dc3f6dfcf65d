from bsm_plugins_text.cs_adapter import CSAdapterProcessor
from bsm_plugins_text.cs_chat_splitter import CSChatSplitterProcessor


def test_role_stands_before_the_content():
    messages = CSChatSplitterProcessor().process("[bot]: hi [customer]: where is it")
    assert CSAdapterProcessor().process(messages) == ["[bot]: hi", "[customer]: where is it"]


def test_a_message_without_a_role_is_its_content():
    assert CSAdapterProcessor().process([{"role": "", "content": "hi"}]) == ["hi"]


def test_no_messages():
    assert CSAdapterProcessor().process([]) == []
