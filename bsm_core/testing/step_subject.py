"""A text step under test: the values that checks give it, here and in other processes."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any, ClassVar

from bsm_core.artifact.config import StepSpec
from bsm_core.preprocess.step_params import build_step
from bsm_core.preprocess.steps import Kind, StepContext, TextStep
from bsm_core.testing.checks import Check, ClassSubject
from bsm_core.testing.elsewhere import SECONDS, ElsewhereError
from bsm_core.testing.toys import CONFIG, toy_tokenizer

TEXTS = (
    "Hello, lovely dress, fits well.",
    "",
    "  Two  spaces & a <b>tag</b>\n",
    "[bom] hello [eom] [bom] is it late? [eom]",
    "[customer]: where is it [agent]: on its way",
    "crème brûlée 😀 £5",
    "a" * 40,
)
"""Ordinary texts, from which values of the other kinds are made."""


class StepSubject(ClassSubject[TextStep]):
    """A text step, built with each of its :attr:`~bsm_core.TextStep.example_params`."""

    checks: ClassVar[Sequence[Check]]

    @cached_property
    def steps(self) -> list[tuple[Mapping[str, Any], TextStep]]:
        """The step with each set of parameters."""
        return [(params, build(self.cls, params)) for params in self.cls.example_params]

    @property
    def texts(self) -> Sequence[str]:
        """Texts that it can be expected to take."""
        return (*self.cls.example_texts, "") if self.cls.example_texts else TEXTS

    def values(self, texts: Sequence[str] | None = None) -> list[Any]:
        """Values of the kind that it takes; of :attr:`texts` where None."""
        texts = self.texts if texts is None else texts
        return [value for text in texts for value in values_of(self.cls.takes, text)]


def values_of(kind: Kind, text: str) -> Iterator[Any]:
    """Values of a kind that hold a text; of empty text also a list of nothing."""
    if kind is Kind.TEXT:
        yield text
        return
    if not text:
        yield []
    if kind is Kind.ROLE_MESSAGES:
        yield [{"role": "customer", "content": text}, {"role": "", "content": "hi"}]
    elif kind is Kind.TOKENS:
        yield [[2, *(3 + ord(c) % 60 for c in text[:14]), 3], [2, 3]]
    else:
        yield [text, "hi", "and so on"]


def is_of_kind(kind: Kind, value: Any) -> bool:
    """Whether a value is of a kind, to its depth."""
    if kind is Kind.TEXT:
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if kind is Kind.TOKENS:
        return all(isinstance(chunk, list) and all(type(i) is int for i in chunk) for chunk in value)
    if kind is Kind.ROLE_MESSAGES:
        return all(isinstance(m, dict) and all(isinstance(m.get(k), str) for k in ("role", "content")) for m in value)
    return all(isinstance(item, str) for item in value)


def build(cls: type[TextStep], params: Mapping[str, Any]) -> TextStep:
    """The step with these parameters, as a config would give them."""
    return build_step(cls, StepSpec(cls.__name__, params), context_of(cls), "example_params")


def context_of(cls: type[TextStep]) -> StepContext:
    """What a toy artifact provides to it."""
    tokenizer = toy_tokenizer() if "tokenizer" in cls.uses else None
    return StepContext("text", tokenizer, {**CONFIG, "chunk_trancate": False, "max_total_chunks": 5})


def provided(cls: type[TextStep]) -> dict[str, Any]:
    """The parameters that the toy artifact provides."""
    return context_of(cls).provide(cls.uses)


def shown(value: Any) -> str:
    """A value for messages: in ASCII, and not too long."""
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def results_in_here(module: str, name: str, params: Mapping[str, Any], texts: Sequence[str]) -> list[Any]:
    """The results of a step in this process; the class is found by its name."""
    cls: Any = reduce(getattr, name.split("."), importlib.import_module(module))
    values = [value for text in texts for value in values_of(cls.takes, text)]
    return list(build(cls, params).process_batch(values))


def results_in_a_worker(*arguments: Any) -> list[Any]:
    """The same in a worker that this process spawns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, *arguments), daemon=True)  # as the data loader's are
    worker.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            raise ElsewhereError(f"no answer of the worker in {SECONDS:g} s")
        failed, answer = ours.recv()
    except EOFError:
        worker.join(1)
        raise ElsewhereError(f"the worker ended with status {worker.exitcode}") from None
    finally:
        worker.kill()  # it may have left a thread behind
        worker.join()
    if failed:
        raise ElsewhereError(answer)
    return list(answer)


def _work(pipe: Any, *arguments: Any) -> None:
    try:
        pipe.send((False, results_in_here(*arguments)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        pipe.send((True, f"{type(error).__name__}: {error}"))
