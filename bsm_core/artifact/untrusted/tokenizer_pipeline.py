"""Checking what a tokenizer does before and after its model: normalizer, pre-tokenizer, post-processor.

Each must take time and memory in proportion to the text. The limits are far from what tokenizers of BERT, GPT-2, T5,
Llama and their relatives have.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bsm_core.errors import short_repr

_MOST_GROWTH = 64
"""Characters that a normalizer and a pre-tokenizer may make of one."""
_MOST_STAGES = 30
"""Entries of one ``Sequence``."""
_MOST_OF_TYPE = {"Precompiled": 1, "ByteLevel": 2, "TemplateProcessing": 1}
_MOST_SPECIAL = 64
"""Special tokens that a post-processor may add to a text."""
_MOST_WAYS, _MOST_REPEATS, _LONGEST_REGEX = 1_000, 1_000, 10_000
"""Ways in which a regular expression may match at one place, not counting the lengths of ``x*``; the largest number in
braces; characters."""
_GROUP = re.compile(r"\((?:\?(?:[ims-]*:|>|<?[=!]|<[A-Za-z_]\w*>))?(?![?*])")
_FLAGS = re.compile(r"\(\?[ims-]+\)")
_ESCAPE = re.compile(r"\\(?:[pPx]\{[^{}]*\}|[^cCMgk1-9])", re.DOTALL)
_QUANTIFIER = re.compile(r"([*+?]|\{\d+\}|\{\d+,\d*\}|\{,\d+\})([?+]?)")


def pipeline_problems(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the parts of a ``tokenizer.json`` around the model, one line each."""
    parts = {key: list(objects(content.get(key))) for key in ("normalizer", "pre_tokenizer", "post_processor")}
    for key, found in parts.items():
        for inner in found:
            stages = max((len(value) for value in inner.values() if isinstance(value, list)), default=0)
            if inner.get("type") == "Sequence" and stages > _MOST_STAGES:
                yield f"{key}: it has {stages:,} stages, more than {_MOST_STAGES}"
            if problem := _regex_problem(inner.get("Regex")):
                yield f"{key}: the regular expression {short_repr(inner['Regex'])} {problem}"
    before = [*parts["normalizer"], *parts["pre_tokenizer"]]
    growth = math.prod(map(_growth, before))
    if growth > _MOST_GROWTH:
        yield f"normalizer: it makes up to {growth:.3g} characters of one"
    counts = Counter(str(inner.get("type")) for inner in (*before, *parts["post_processor"]) if "type" in inner)
    # A ByteLevel of the post-processor changes offsets alone.
    counts["ByteLevel"] -= sum(inner.get("type") == "ByteLevel" for inner in parts["post_processor"])
    for kind, most in _MOST_OF_TYPE.items():
        if counts[kind] > most:
            yield f"it has {counts[kind]:,} stages of type {kind}, more than {most}"
    for inner in parts["post_processor"]:
        if inner.get("type") == "TemplateProcessing":
            yield from _template_problems(inner)


def built_problems(backend: Any) -> Iterator[str]:
    """Yield what is wrong with a ``tokenizers.Tokenizer``, from whatever files it was built."""
    parts = {key: getattr(backend, key) for key in ("normalizer", "pre_tokenizer", "post_processor")}
    yield from pipeline_problems({k: json.loads(part.__getstate__()) for k, part in parts.items() if part is not None})


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a value, from the outside."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def _growth(stage: Mapping[str, Any]) -> float:
    """Return how many characters a stage makes of one, at most; those of Unicode's forms are left out."""
    kind, content, pattern = stage.get("type"), stage.get("content"), stage.get("pattern")
    if kind == "Prepend":
        return max(1.0, len(str(stage.get("prepend", ""))) / 8)
    if kind == "ByteLevel":
        return 2.0
    if kind == "BertNormalizer":
        return 3.0  # spaces around a Chinese character
    if kind == "Precompiled":
        return max(1.0, _longest_in_table(stage.get("precompiled_charsmap")) / 8)
    if not isinstance(content, str):
        return 1.0
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1.0, len(content) / max(1, len(text) if isinstance(text, str) else 1))


def _longest_in_table(table: Any) -> int:
    """Return the bytes of the longest text in SentencePiece's table of characters, after which there is a zero."""
    try:
        data = base64.b64decode(table)
    except (TypeError, ValueError):  # the tokenizers library refuses this, too
        return 0
    return max(map(len, data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")))


def _template_problems(template: Mapping[str, Any]) -> Iterator[str]:
    tokens = template.get("special_tokens")
    sizes = {key: len(_list(token.get("ids"))) for key, token in tokens.items()} if isinstance(tokens, dict) else {}
    for key, is_wrong in (("single", lambda found: found != {"A": 1}), ("pair", lambda found: 2 in found.values())):
        pieces = [piece for piece in _list(template.get(key)) if isinstance(piece, dict)]
        found = Counter(str(p["Sequence"].get("id")) for p in pieces if isinstance(p.get("Sequence"), dict))
        if is_wrong({name: min(count, 2) for name, count in found.items()}):
            yield f"post_processor.{key}: a text must stand in it once, and it has {dict(found)}"
        special = [p["SpecialToken"].get("id") for p in pieces if isinstance(p.get("SpecialToken"), dict)]
        if (added := sum(sizes.get(name, 1) for name in special if isinstance(name, str))) > _MOST_SPECIAL:
            yield f"post_processor.{key}: it adds {added:,} special tokens, more than {_MOST_SPECIAL}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True)
class _Cost:
    """Cost of a part of a regular expression.

    Attributes:
        ways: Ways in which it can match, where ``x*`` counts as one.
        waiting: Number of ``x*`` in it after which nothing can fail yet.
        degree: Number of ``x*`` in it that are tried at each length, because what follows can fail.
        fails: Whether it can fail.
        fixed: Whether it always matches the same number of characters, in one way.
    """

    ways: int = 1
    waiting: int = 0
    degree: int = 0
    fails: bool = True
    fixed: bool = True


class _RegexError(ValueError):
    pass


def _regex_problem(pattern: Any) -> str | None:
    """Return why a regular expression could take very long; None if its steps are few.

    The tokenizers library tries all ways to match. A repeated group with choices in it has exponentially many.
    """
    if not isinstance(pattern, str):
        return None
    if len(pattern) > _LONGEST_REGEX:
        return f"has {len(pattern):,} characters"
    try:
        cost, end = _alternatives(pattern, 0, 0)
    except _RegexError as error:
        return str(error)
    if end < len(pattern):
        return "has a closing parenthesis too many"
    if cost.ways > _MOST_WAYS:
        return f"can match in {cost.ways:,} ways at one place, more than {_MOST_WAYS:,}"
    if cost.degree > 1:
        return "has parts of any length one after another, each of which is tried with each length of the others"
    return None


def _alternatives(pattern: str, at: int, depth: int) -> tuple[_Cost, int]:
    if depth > 20:
        raise _RegexError("has groups that are nested more than 20 deep")
    branches = []
    while True:
        branch, at = _branch(pattern, at, depth)
        branches.append(branch)
        if not pattern.startswith("|", at):
            break
        at += 1
    cost = _Cost(
        sum(branch.ways for branch in branches),
        max(branch.waiting for branch in branches),
        max(branch.degree for branch in branches),
        all(branch.fails for branch in branches),
        len(branches) == 1 and branches[0].fixed,
    )
    return cost, at


def _branch(pattern: str, at: int, depth: int) -> tuple[_Cost, int]:
    total = _Cost(fails=False)
    while at < len(pattern) and pattern[at] not in "|)":
        item, at, is_group = _item(pattern, at, depth)
        while match := _QUANTIFIER.match(pattern, at):
            item, at, is_group = _repeated(item, match[1], is_group=is_group), match.end(), True
        total = _Cost(
            min(total.ways * item.ways, 1 << 40),
            item.waiting if item.fails else total.waiting + item.waiting,
            total.degree + item.degree + (total.waiting if item.fails else 0),
            total.fails or item.fails,
            total.fixed and item.fixed,
        )
    return total, at


def _item(pattern: str, at: int, depth: int) -> tuple[_Cost, int, bool]:
    """Return the cost of a character, a class or a group, its end, and whether it is a group."""
    if pattern[at] == "(":
        if flags := _FLAGS.match(pattern, at):
            return _Cost(fails=False), flags.end(), True
        match = _GROUP.match(pattern, at)
        if match is None:
            raise _RegexError("has a group of a kind that bsm does not know")
        cost, end = _alternatives(pattern, match.end(), depth + 1)
        if not pattern.startswith(")", end):
            raise _RegexError("lacks a closing parenthesis")
        if match[0].endswith(("=", "!", "?>")):  # only the first way to match is tried
            cost = replace(cost, waiting=0, fails=True)
        return cost, end + 1, True
    if pattern[at] == "[":
        return _Cost(), _end_of_class(pattern, at), False
    return _Cost(), _end_of_character(pattern, at), False


def _end_of_character(pattern: str, at: int) -> int:
    if pattern[at] != "\\":
        return at + 1
    match = _ESCAPE.match(pattern, at)
    if match is None:
        raise _RegexError("has a back reference, or an escape that bsm does not know")
    return match.end()


def _end_of_class(pattern: str, at: int) -> int:
    depth = 0
    while at < len(pattern):
        if pattern[at] == "[":
            depth += 1
            at += 2 if pattern.startswith("[^", at) else 1
            if pattern.startswith("]", at):
                raise _RegexError("has a class that begins with a closing bracket; write it as \\]")
            continue
        depth -= pattern[at] == "]"
        at = _end_of_character(pattern, at)
        if not depth:
            return at
    raise _RegexError("lacks a closing bracket")


def _repeated(item: _Cost, quantifier: str, *, is_group: bool) -> _Cost:
    if quantifier in "*+?":
        low, high = int(quantifier == "+"), 1 if quantifier == "?" else None
    else:
        first, comma, last = quantifier.strip("{}").partition(",")
        low = int(first or 0)
        high = int(last) if last else (None if comma else low)
    if max(low, high or 0) > _MOST_REPEATS:
        raise _RegexError(f"repeats a part more than {_MOST_REPEATS:,} times")
    if high == 1:
        return replace(item, ways=item.ways + (low == 0), fails=item.fails and low > 0, fixed=item.fixed and low == 1)
    if is_group and not (item.fixed and item.ways == 1):
        raise _RegexError("repeats a group with choices in it, which can take exponentially many steps")
    ways = 1 if high is None else abs(high - low) + 1
    return _Cost(ways, int(high is None), item.degree, item.fails and low > 0, high == low)
