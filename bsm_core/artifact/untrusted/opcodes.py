"""Checking the opcodes of a pickle before it is loaded.

A short pickle can crash the interpreter (the hash of a tuple that is nested a million deep), take hours (the hash of a
tuple whose elements are shared), or fill the memory (copies of one array). So the opcodes are followed here without
building a value. Each value on the stack is only its cost: roughly the number of objects that are touched when it is
hashed or copied, as an integer for what cannot change, and in a list of one integer for what later opcodes change.

The numbers among these objects are counted as well. The hash of a text cannot be foreseen, but many numbers, and tuples
of numbers, can be chosen to have one hash. The time to make a dict of such keys grows with the square of their number.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping, Sequence
from mmap import mmap
from typing import Any

_FEW_OPCODES, _BYTES_OF_OPCODE, _MOST_OPCODES = 1_000_000, 5, 5_000_000
"""Opcodes of any pickle; bytes for each further one, of which an entry of a vocabulary has more; opcodes of all."""
_MOST_WORK = 20_000_000
_DEEPEST_TUPLE = 50
_LONGEST_INTEGER = 1_000
"""Bytes, or digits where a pickle has an integer as text."""
_MOST_NUMBERS = 100_000
"""Numbers that are keys of dicts or elements of sets."""
_INNER_WEIGHT, _LONG_WEIGHT = 10, 50
"""Weight of a number inside a key, such as a tuple, and of one of more than 64 bits: many can have one hash."""
_FREE_NUMBERS = 32
"""Numbers among the arguments of a call that count nothing: those of an array's shape are no elements of a set."""

_NUMBER, _DEPTH = 1 << 64, 1 << 128
"""A cost holds the objects in its 64 lowest bits, the numbers in the next 64, and the depth of a tuple above them."""
_MOST = 1 << 40
"""Largest count of objects, or of numbers, in one cost."""
_PLAIN_NUMBER = 1 + _NUMBER
_MARK = -1

_LENGTH_BYTES = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4}
_LENGTH_BYTES |= {pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8}


def check_opcodes(data: bytes | mmap, start: int = 0) -> int:
    """Check that a pickle can be loaded in little time and memory.

    Args:
        data: The pickle, perhaps with something before and after it.
        start: Where it begins.

    Returns:
        Where it ends.

    Raises:
        ValueError: The pickle is damaged, or exceeds a limit.
    """
    try:
        return _Opcodes(data, start).run()
    except (IndexError, KeyError) as error:
        raise ValueError("the pickle is damaged") from error


class _Opcodes:
    def __init__(self, data: bytes | mmap, start: int) -> None:
        self.data, self.size, self.at = data, len(data), start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.work = self.numbers = 0
        self.fresh = False  # whether the value on top is a tuple that was just made

    def run(self) -> int:
        most = min(_FEW_OPCODES + self.size // _BYTES_OF_OPCODE, _MOST_OPCODES)
        for _ in range(most):
            name, length, follow = _TABLE[self.data[self.at]]
            self.at += 1
            argument = self._argument(length) if length else b""
            if name == "STOP":
                return self.at
            if follow is None:
                self.stack.append(_PLAIN_NUMBER)
            else:
                follow(self, name, argument)
            self.fresh = name in _TUPLES or (self.fresh and name in _PUTS)
        raise ValueError(f"it has more than {most:,} instructions")

    def _argument(self, length: int) -> bytes:
        start = self.at
        if length == pickletools.UP_TO_NEWLINE:
            lines = 2 if self.data[start - 1] in b"ci" else 1  # GLOBAL and INST have a module and a name
            end = start
            for _ in range(lines):
                end = self.data.find(b"\n", end) + 1
                if not end:
                    raise ValueError("the pickle is damaged")
        elif length < 0:
            start += _LENGTH_BYTES[length]
            end = start + int.from_bytes(self.data[start - _LENGTH_BYTES[length] : start], "little")
        else:
            end = start + length
        if end > self.size:
            raise ValueError(f"it ends after {self.size:,} bytes, in the middle of a value")
        self.at = end
        return self.data[start:end]

    def _top(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return [_value(value) for value in values]

    def _since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] != _MARK:
            at -= 1
            if at < 0:
                raise IndexError
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _spend(self, cost: int, weight: int = 1) -> None:
        """Count the objects of a cost as touched, and its numbers as hashed."""
        self.work += cost % _NUMBER
        self.numbers += cost // _NUMBER * weight
        if self.work > _MOST_WORK + self.size:
            raise ValueError("it makes many copies of one value")
        if self.numbers > _MOST_NUMBERS:
            raise ValueError("it has too many numbers, or tuples of numbers, as keys of dicts or elements of sets")

    def _hash(self, keys: Sequence[Any]) -> None:
        plain = [key for key in keys if isinstance(key, int) and key < _DEPTH]
        self._spend(_sum(plain))
        if len(plain) < len(keys):
            self._spend(_sum(key for key in keys if isinstance(key, list) or key >= _DEPTH), _INNER_WEIGHT)

    def _make(self, parts: Sequence[Any]) -> None:
        """Push what a call makes of its arguments: it may hash each of them, as a set does."""
        cost = _sum(parts)
        numbers = cost // _NUMBER
        self._spend(cost if numbers > _FREE_NUMBERS else cost % _NUMBER, _INNER_WEIGHT)
        self.stack.append([1 + cost + (0 if numbers else _NUMBER)])

    def text(self, _name: str, argument: bytes) -> None:
        self.stack.append(1 + len(argument) // 16)

    def integer(self, name: str, argument: bytes) -> None:
        if len(argument) > _LONGEST_INTEGER:
            raise ValueError(f"it holds an integer of {len(argument):,} bytes")
        is_long = len(argument) > (20 if name in ("INT", "LONG") else 8)  # these two have digits
        self.stack.append(1 + _NUMBER * _LONG_WEIGHT if is_long else _PLAIN_NUMBER)

    def mark(self, _name: str, _argument: bytes) -> None:
        self.stack.append(_MARK)

    def container(self, _name: str, _argument: bytes) -> None:
        self.stack.append([1])

    def put(self, name: str, argument: bytes) -> None:
        index = len(self.memo) if name == "MEMOIZE" else _index(name, argument)
        if not 0 <= index <= self.size:  # the unpickler allocates memory for any index
            raise ValueError(f"memo index {index} in {self.size} bytes")
        self.memo[index] = _value(self.stack[-1])

    def get(self, name: str, argument: bytes) -> None:
        self.stack.append(self.memo[_index(name, argument)])

    def make_tuple(self, name: str, _argument: bytes) -> None:
        count = _TUPLES[name]
        values = self._since_mark() if count is None else self._top(count)
        depth = 1 + max((value // _DEPTH for value in values if isinstance(value, int)), default=0)
        if depth > _DEEPEST_TUPLE:
            raise ValueError(f"it holds tuples that are nested more than {_DEEPEST_TUPLE} deep")
        cost = _sum(values)
        self.stack.append(1 + cost + (0 if cost >= _NUMBER else _NUMBER) + depth * _DEPTH)

    def fill(self, name: str, _argument: bytes) -> None:
        """Follow an opcode that puts items into a list, a dict or a set."""
        items = self._top(1 if name == "APPEND" else 2) if name in ("APPEND", "SETITEM") else self._since_mark()
        container = self.stack[-1]
        if not isinstance(container, list):
            raise ValueError("it fills what is no list, dict or set")
        container[0] = _sum([container, *items])
        if name not in ("APPEND", "APPENDS"):
            self._hash(items[:: 1 if name == "ADDITEMS" else 2])

    def collect(self, _name: str, _argument: bytes) -> None:
        """Follow an opcode that makes something of the items since the mark."""
        self._make(self._since_mark())

    def call(self, name: str, _argument: bytes) -> None:
        """Follow an opcode that calls something."""
        if not self.fresh and name != "NEWOBJ_EX":  # a list in an older tuple may have grown since
            raise ValueError("it calls something with arguments of an earlier call")
        self._make(self._top(3 if name == "NEWOBJ_EX" else 2)[1:])

    def build(self, _name: str, _argument: bytes) -> None:
        """Follow an opcode that hands a state to an object."""
        self._make(self._top(1))
        self.stack.pop()
        _value(self.stack[-1])

    def drop(self, name: str, _argument: bytes) -> None:
        _ = self._since_mark() if name == "POP_MARK" else self.stack.pop()

    def duplicate(self, _name: str, _argument: bytes) -> None:
        self.stack.append(_value(self.stack[-1]))

    def constant(self, _name: str, _argument: bytes) -> None:
        """Follow an opcode that pushes None, True or False."""
        self.stack.append(1)

    def replace(self, name: str, _argument: bytes) -> None:
        """Follow an opcode that makes a plain value of one or two values."""
        self._top(2 if name == "STACK_GLOBAL" else 1)
        self.stack.append(1)

    def ignore(self, _name: str, _argument: bytes) -> None:
        pass


def _value(value: Any) -> Any:
    if value == _MARK:
        raise IndexError
    return value


def _cost(value: Any) -> int:
    return int((value[0] if isinstance(value, list) else value) % _DEPTH)


def _sum(values: Iterable[Any]) -> int:
    total = sum(map(_cost, values))
    return min(total % _NUMBER, _MOST) + min(total // _NUMBER, _MOST) * _NUMBER


def _index(name: str, argument: bytes) -> int:
    return int(argument) if name in ("PUT", "GET") else int.from_bytes(argument, "little")


def _is_text(op: pickletools.OpcodeInfo) -> bool:
    return op.name.endswith(("STRING", "UNICODE", "UNICODE8", "BYTES", "BYTES8", "BYTEARRAY8"))


_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None, "FROZENSET": None}
"""Number of values in what an opcode makes; None for all since the mark."""
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_FOLLOW: Mapping[str, Callable[[_Opcodes, str, bytes], None]] = {
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _Opcodes.integer),
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), _Opcodes.constant),
    **dict.fromkeys((op.name for op in pickletools.opcodes if _is_text(op)), _Opcodes.text),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _Opcodes.container),
    **dict.fromkeys(_PUTS, _Opcodes.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Opcodes.get),
    **dict.fromkeys(_TUPLES, _Opcodes.make_tuple),
    **dict.fromkeys(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"), _Opcodes.fill),
    **dict.fromkeys(("LIST", "DICT", "OBJ", "INST"), _Opcodes.collect),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX"), _Opcodes.call),
    **dict.fromkeys(("POP", "POP_MARK"), _Opcodes.drop),
    **dict.fromkeys(("BINPERSID", "STACK_GLOBAL"), _Opcodes.replace),
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER", "STOP"), _Opcodes.ignore),
    "MARK": _Opcodes.mark,
    "BUILD": _Opcodes.build,
    "DUP": _Opcodes.duplicate,
}
_TABLE = {ord(op.code): (op.name, op.arg.n if op.arg else 0, _FOLLOW.get(op.name)) for op in pickletools.opcodes}
"""Name, bytes of the argument and method of each opcode; an opcode without a method pushes a plain value."""
