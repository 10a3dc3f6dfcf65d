import pytest

from bsm_core.tables.formats.quotes import Quotes

SOUND = [
    "id,x\n1,2\n",
    '"id","x"\n"1","a\nb"\r\n"a ""\n"" b",\n',
    '1,5" pipe\n2,a"b"c\n3,5"\n',
    '1,"great" stuff, "\n2,"" ""\n',
    '"",""\n"""\n""",x\n',
    '1,"never closed\n2,b\n',
]
MERGED = [
    '1,"a\n2,"b\n',
    '1,"a\r2,"b\r',
    '"a\n" b,c\n',
    '1,"a\n""\n" b\n',
    '1,5" pipe\n2,"a\n" b,c\n',
]


def merges(text: str, size: int, delimiter: str) -> bool:
    content, quotes = text.replace(",", delimiter).encode(), Quotes(delimiter)
    blocks = [content[at : at + size] for at in range(0, len(content), size)]
    return any(quotes.merge_rows(block) for block in [*blocks, b""])


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("size", [3, 4, 5, 7, 100])
@pytest.mark.parametrize("text", SOUND)
def test_rows_that_are_their_own_in_blocks_of_any_size(text, size, delimiter):
    assert not merges(text, size, delimiter)


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("size", [3, 4, 5, 7, 100])
@pytest.mark.parametrize("text", MERGED)
def test_rows_that_are_merged_in_blocks_of_any_size(text, size, delimiter):
    assert merges(text, size, delimiter)
