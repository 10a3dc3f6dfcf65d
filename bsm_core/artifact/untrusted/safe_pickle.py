"""Reading pickles that may come from anyone.

A pickle refers to code by name, and calls it. Here each name that is allowed leads to a stand-in, never to the real
object. The stand-ins build plain containers, and numpy arrays and scalars of numbers and text, after checking every
argument: numpy's own ``dtype.__setstate__`` trusts its arguments, and a forged one corrupts memory.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bsm_core.artifact.files import SAFE_ADVICE, corrupt, refuse_pointers, unreadable
from bsm_core.artifact.untrusted.opcodes import check_opcodes
from bsm_core.artifact.untrusted.values import check_nesting, check_shape
from bsm_core.errors import UnsafeArtifactError, short_repr

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")


class ForbiddenGlobalError(Exception):
    """A pickle refers to something other than a plain value; the argument is its name."""


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, scalars and numpy arrays.

    Args:
        path: A pickle file, of any protocol.

    Returns:
        The value. Ordered and default dicts are returned as ``dict``, numpy scalars as Python scalars.

    Raises:
        UnsafeArtifactError: The pickle refers to anything else; the error names it.
        CorruptArtifactError: The file is damaged or not a pickle.
    """
    try:
        data = path.read_bytes()
        check_opcodes(data)
        value = _Unpickler(io.BytesIO(data)).load()
        check_nesting(value)
        return value
    except ForbiddenGlobalError as error:
        raise forbidden(str(error), path.name, path.with_suffix(".json").name) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, error) from error
        refuse_pointers(path.parent, [path])
        problem = f"cannot be read as a pickle: {type(error).__name__}: {error}"
        raise corrupt(path.name, problem, "copy the artifact again, or have it saved again") from error


def forbidden(name: str, file: str, safe_twin: str | None = None) -> UnsafeArtifactError:
    """Return the error for a file that refers to forbidden code.

    Args:
        name: The forbidden reference, ``module.name``.
        file: Name of the file.
        safe_twin: Name of the file that would be read instead if it were there.
    """
    return UnsafeArtifactError(
        f"{file} refers to {name!r}, which is not a plain value and could run code",
        where=file,
        fix=SAFE_ADVICE + (f"; or save {safe_twin}, which is read instead of {file}" if safe_twin else ""),
    )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"  # its name in protocols 0 to 2
        if full not in STAND_INS:
            raise ForbiddenGlobalError(full)
        return STAND_INS[full]


class StandIn:
    """Object that a pickle gets for a name it refers to.

    Args:
        name: The name.
        make: Called instead of the real object; None for a name that may only be mentioned.
    """

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self._name, self._make = name, make

    def __call__(self, *args: Any) -> Any:
        """Return what the pickle gets from calling the name."""
        if self._make is None:
            raise ForbiddenGlobalError(f"{self._name}()")
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenGlobalError(f"{self._name}.__setstate__")  # a pickle may not change the stand-in itself


class PickledDtype:
    """Numpy dtype while it is unpickled: of numbers, booleans or text, without fields and objects.

    Attributes:
        dtype: The numpy dtype.
    """

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_flags: object) -> None:
        if not (isinstance(code, str) and _DTYPE.fullmatch(code)):
            raise ForbiddenGlobalError(f"numpy.dtype({short_repr(code)})")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        version, order, *rest = state
        if version != 3 or order not in ("<", ">", "|", "=") or rest[:3] != [None, None, None]:
            raise ForbiddenGlobalError(f"numpy.dtype({self.dtype.str!r}).__setstate__")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray(np.ndarray[Any, Any]):
    """Array while it is unpickled. After ``__setstate__`` it is an ordinary array in the machine's byte order."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, data = state
        array = _from_bytes(data, dtype, shape, "F" if fortran_order else "C")
        checked: Any = (1, array.shape, array.dtype, bool(fortran_order), array.tobytes("A"))
        super().__setstate__(checked)


def _from_bytes(data: Any, dtype: Any, shape: Any = (), order: Any = "C", *_axes: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, PickledDtype):
        raise ForbiddenGlobalError(f"a numpy array of {short_repr(dtype)}")
    if not (isinstance(data, bytes | bytearray) and isinstance(shape, tuple) and order in ("C", "F")):
        raise ForbiddenGlobalError(f"a numpy array of shape {short_repr(shape)} and {type(data).__name__} data")
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes do not make an array of shape {short_repr(shape)}")
    check_shape(shape)
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), order)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _from_bytes(data, dtype).item()


def _reconstruct(kind: Any, *_shape_and_dtype: Any) -> PickledArray:
    if kind is not STAND_INS["numpy.ndarray"]:
        raise ForbiddenGlobalError(f"numpy array of kind {short_repr(kind)}")
    return PickledArray((0,), np.uint8)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ForbiddenGlobalError(f"_codecs.encode(..., {short_repr(encoding)})")
    return text.encode("latin-1")  # old protocols write bytes as encoded text


_MAKERS: dict[str, Callable[..., Any] | None] = {
    "builtins.bytes": lambda: b"",  # old protocols write empty bytes as a call of bytes()
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "collections.OrderedDict": dict,
    "collections.defaultdict": lambda _factory=None: {},  # without the factory: a missing key stays missing
    "_codecs.encode": _encode,
    "numpy.dtype": PickledDtype,
    "numpy.ndarray": None,
}
for _kind in ("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode"):  # factories of default dicts
    _MAKERS[f"builtins.{_kind}"] = None
for _home in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _MAKERS[f"{_home}.multiarray._reconstruct"] = _reconstruct
    _MAKERS[f"{_home}.multiarray.scalar"] = _scalar
    _MAKERS[f"{_home}.numeric._frombuffer"] = _from_bytes

STAND_INS = {name: StandIn(name, make) for name, make in _MAKERS.items()}
"""Stand-in of every name that a pickle may refer to."""
