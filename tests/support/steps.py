"""Text steps for tests of bsm_core, which must not need a plugin package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bsm_core import Kind, TextStep, TracedText, TracedTokens
from bsm_core.errors import TokenizerError

if TYPE_CHECKING:
    from no_such_package import Tokenizer


class Upper(TextStep):
    """Text to text; refuses texts that contain "bad"."""

    def process(self, value: str) -> str:
        if "bad" in value:
            raise ValueError(f"cannot shout {value!r}")
        return value.upper()


class Quiet(TextStep):
    """Text to text, in lower case."""

    def process(self, value: str) -> str:
        return value.lower()


class Split(TextStep):
    """Text to messages."""

    gives = Kind.MESSAGES

    def __init__(self, separator: str = "|") -> None:
        self.separator = separator

    def process(self, value: str) -> list[str]:
        return value.split(self.separator) if value else []


class Roles(TextStep):
    """Text to messages with a role."""

    gives = Kind.ROLE_MESSAGES

    def process(self, value: str) -> list[dict[str, str]]:
        return [{"role": "bot", "content": value}]


class Chunk(TextStep):
    """Messages to chunks."""

    takes = Kind.MESSAGES
    gives = Kind.CHUNKS
    uses = ("max_sen_len",)

    def __init__(self, max_sen_len: int) -> None:
        self.max_sen_len = max_sen_len

    def process(self, value: list[str]) -> list[str]:
        return [message[: self.max_sen_len] for message in value] or ["."]


class Tokenize(TextStep):
    """Chunks to tokens. The annotation of the tokenizer can be resolved by type checkers alone."""

    takes = Kind.CHUNKS
    gives = Kind.TOKENS
    uses = ("tokenizer",)

    def __init__(self, tokenizer: Tokenizer, extra: int = 0) -> None:
        self.tokenizer = tokenizer
        self.extra = extra

    def process(self, value: list[str]) -> list[list[int]]:
        return [[*self.tokenizer(chunk), self.extra] for chunk in value]


class Typed(TextStep):
    """A step with parameters of many types, which returns its parameters."""

    def __init__(
        self,
        count: int = 1,
        share: float = 0.5,
        on: bool = True,
        mode: Literal["Keep", "Drop"] = "Keep",
        words: tuple[str, ...] = (),
        limits: dict[str, int] | None = None,
        anything=None,
        **others: Any,
    ) -> None:
        self.params = (count, share, on, mode, words, limits, anything, others)

    def process(self, value: str) -> str:
        return repr(self.params)


class Picky(TextStep):
    """Raises an error of a chosen type when it is built."""

    def __init__(self, error: str = "", unreadable: Tokenizer = None) -> None:
        if error:
            raise {"value": ValueError, "key": KeyError, "runtime": RuntimeError, "ours": TokenizerError}[error](
                "no good"
            )

    def process(self, value: str) -> str:
        return value


class Abstract(TextStep):
    """Does not implement ``process``."""

    def process_batch(self, values: Sequence[str]) -> list[str]:
        return list(values)


class NotOnEmpty(TextStep):
    """Fails on empty text."""

    def process(self, value: str) -> str:
        return value[0]


class Number(TextStep):
    """Returns a number instead of a text for digits."""

    def process(self, value: Any) -> Any:
        return int(value) if value.isdigit() else value


class Nothing(TextStep):
    """Returns nothing."""

    def process(self, value: str) -> Any:
        pass


class Drops(TextStep):
    """Returns one result for a batch of any size."""

    def process(self, value: str) -> str:
        return value

    def process_batch(self, values: Sequence[str]) -> list[str]:
        return list(values)[:1]


class Generates(TextStep):
    """Returns a generator of results."""

    def process(self, value: str) -> str:
        return value + "."

    def process_batch(self, values: Sequence[str]) -> Iterator[str]:  # type: ignore[override]
        return (self.process(value) for value in values)


class Together(TextStep):
    """Fails on every batch of several rows, but on no single row."""

    def process(self, value: str) -> str:
        return value

    def process_batch(self, values: Sequence[str]) -> list[str]:
        if len(values) > 1:
            raise RuntimeError("one at a time")
        return list(values)


class Words(TextStep):
    """Chunks to tokens that know their places: a token for each word, the number of its letters, between two zeros."""

    takes = Kind.CHUNKS
    gives = Kind.TOKENS

    def process(self, value: list[str]) -> list[list[int]]:
        return [self._tokens(chunk) for chunk in value]

    def _tokens(self, chunk: str) -> list[int]:
        ids = [0, *map(len, chunk.split()), 0]
        if not isinstance(chunk, TracedText):
            return ids
        places = [word.place for word in chunk.split()]
        return TracedTokens(ids, [None, *places, None], [None, *range(len(places)), None])


class Fresh(TextStep):
    """Text to the same text, without places if it has an exclamation mark."""

    def process(self, value: str) -> str:
        return f"{value}" if "!" in value else value


class Sees(TextStep):
    """Text to text; sees whether it is traced."""

    def process(self, value: str) -> str:
        if "raise" in value and type(value) is not str:
            raise TypeError(type(value).__name__)
        return value if type(value) is str else value[1:]
