import os
import re
import signal
import time

from bsm_core import Kind, TextStep


class ToyTokens(TextStep):
    """One chunk for each ``|``-separated part of the text; a token a character. Refuses ``!``."""

    gives = Kind.TOKENS

    def process(self, value: str) -> list[list[int]]:
        if "!" in value:
            raise ValueError("no shouting")
        return [[min(ord(c), 127) for c in part] for part in value.split("|")]


class ToyTrap(TextStep):
    """Ends the process, or the run, on certain texts."""

    def process_batch(self, values: list[str]) -> list[str]:
        if "KILL" in values:
            os.kill(os.getpid(), signal.SIGKILL)
        if "STOP" in values:
            os._exit(3)
        if "LEAVE" in values:
            raise SystemExit(0)
        return values

    def process(self, value: str) -> str:
        return self.process_batch([value])[0]


class ToyWait(TextStep):
    """Says that it waits, and waits to be interrupted."""

    def process_batch(self, values: list[str]) -> list[str]:
        if any(values):
            print("waiting", flush=True)
            while True:  # signal.pause would wait for ever for a signal that came just before it
                time.sleep(0.01)
        return values

    def process(self, value: str) -> str:
        return self.process_batch([value])[0]


class ToySwallow(TextStep):
    """Says that it waits, and swallows what would interrupt it."""

    def process_batch(self, values: list[str]) -> list[str]:
        waits = ToyWait()
        while any(values):
            try:
                waits.process_batch(values)
            except BaseException:  # noqa: BLE001
                values = [value.lower() for value in values]
        return values

    def process(self, value: str) -> str:
        return self.process_batch([value])[0]


class ToyClean(TextStep):
    """Without what stands in angle brackets."""

    def process(self, value: str) -> str:
        return re.sub("<[^>]*>", "", value)


class ToySplit(TextStep):
    """The ``|``-separated parts of the text."""

    gives = Kind.MESSAGES

    def process(self, value: str) -> list[str]:
        return value.split("|")


class ToyEncode(TextStep):
    """One chunk for each message, by the artifact's tokenizer."""

    takes = Kind.MESSAGES
    gives = Kind.TOKENS
    uses = ("tokenizer", "max_sen_len")

    def __init__(self, tokenizer, max_sen_len: int) -> None:
        self.tokenizer, self.max_sen_len = tokenizer, max_sen_len

    def process(self, value: list[str]) -> list[list[int]]:
        return [self.tokenizer(part, truncation=True, max_length=self.max_sen_len)["input_ids"] for part in value]
