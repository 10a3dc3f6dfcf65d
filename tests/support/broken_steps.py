"""Valid text steps, and for each check of the kit a step that fails this check alone."""

from __future__ import annotations

import json
import multiprocessing
from typing import ClassVar

from bsm_core import Kind, TextStep


class Good(TextStep):
    def __init__(self, marks: int = 1) -> None:
        self.marks = marks

    def process(self, value: str) -> str:
        return value.upper() + "!" * self.marks


class GoodSplitter(TextStep):
    gives = Kind.MESSAGES
    uses = ("max_sen_len",)
    example_params: ClassVar = ({"separator": "."}, {"separator": ","})

    def __init__(self, separator: str, max_sen_len: int) -> None:
        self.separator, self.most = separator, max_sen_len

    def process(self, value: str) -> list[str]:
        return [part for part in value.split(self.separator) if part][: self.most]


class Upper(TextStep):
    def process(self, value):
        return value.upper()


class Messages(TextStep):
    takes = Kind.MESSAGES
    gives = Kind.MESSAGES

    def process(self, value):
        return [message.upper() for message in value]


class DeclaresItsKinds(Upper):
    takes = "text"


class IsBuiltFromJson(Upper):
    def __init__(self, words: list[str]) -> None:
        self.words = words


class WorksOnEmptyText(TextStep):
    def process(self, value):
        return value[0].upper() + value[1:]


class RefusesUnknownParameters(Upper):
    def __init__(self, **options) -> None:
        self.options = options


class GivesItsKind(TextStep):
    def process(self, value):
        return None if "dress" in value else value.upper()


class TakesWhiteSpace(TextStep):
    def process(self, value):
        return value.split()[0] if value else ""


class TakesRightToLeftText(TextStep):
    def process(self, value):
        return {"\u202b": None}[value[0]].upper() if value[:1] == "\u202b" else value.upper()


class TakesCombiningMarks(TextStep):
    def process(self, value):
        assert "\u0335\u0321" not in value
        return value.upper()


class TakesNul(TextStep):
    def process(self, value):
        return value.index("\0") / 0 if "\0" in value else value.upper()


class TakesLoneSurrogates(TextStep):
    def process(self, value):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise TypeError("bytes or str")
        return value.upper()


class TakesAMegabyte(TextStep):
    def process(self, value):
        return self.process(value[1:]) if len(value) > 10_000 else value.upper()


class LeavesItsInputAlone(Messages):
    def process(self, value):
        value.sort()
        return value


class BatchEqualsRowByRow(Upper):
    def process_batch(self, values):
        return [self.process(value) + ("?" if i else "") for i, value in enumerate(values)]


class TakesTracedText(TextStep):
    def process(self, value):
        return value.upper() if type(value) is str else value


class TakesAnEmptyBatch(Upper):
    def process_batch(self, values):
        longest = max(map(len, values))
        return [self.process(value)[:longest] for value in values]


class IsTheSameInEveryProcess(TextStep):
    def process(self, value):
        return " ".join(set(value.split()))


class CanBePickled(TextStep):
    def __init__(self) -> None:
        self.clean = lambda value: value.strip()

    def process(self, value):
        return self.clean(value)


class WorksInASpawnedWorker(Upper):
    def process(self, value):
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("the pool was never started")
        return value.upper()


class RefusesAWrongNeighbour(Messages):
    def __init__(self) -> None:
        self.takes = Kind.ROLE_MESSAGES


class Remembers(TextStep):
    """Returns the empty text for a text that the step has processed before."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def process(self, value):
        if value in self.seen:
            return ""
        self.seen.add(value)
        return value


class ChangesSomeText(TextStep):
    """Replaces sizes, which the kit's texts do not contain."""

    def process(self, value):
        return value.replace("32B", "size")


class DropsRows(TextStep):
    """Returns no result for texts with NUL characters."""

    def process(self, value):
        return value

    def process_batch(self, values):
        return [value for value in values if "\0" not in value]


class LooksAtTheWholeBatch(Upper):
    def process_batch(self, values):
        return [self.process(value) for value in values] if len(values) < 100 else ["" for _ in values]


class ChatInJson(TextStep):
    """Valid: refuses texts that are not JSON."""

    example_texts: ClassVar = ('{"text": "hello"}', '{"text": ""}')

    def process(self, value):
        return json.loads(value)["text"] if value else ""
