"""Reading pickles that may come from anyone.

A pickle refers to code by name, and calls it. Here a name stands for a stand-in of ours, never for the real object:
the plain containers, and numpy arrays and scalars of numbers and text, which the stand-ins build themselves after
checking every argument. (numpy's own ``dtype.__setstate__`` trusts its arguments; a forged one corrupts memory.)
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bsm_core.artifact.files import SAFE_ADVICE
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")


class ForbiddenGlobalError(Exception):
    """A pickle refers to something that is not a plain value; the argument is its name."""


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, scalars and numpy arrays.

    Args:
        path: A pickle file, of any protocol.

    Returns:
        The value; ordered and default dicts come as ``dict``, numpy scalars as Python's.

    Raises:
        UnsafeArtifactError: It refers to anything else; the error names it.
        CorruptArtifactError: It is no pickle, or a damaged one.
    """
    try:
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except ForbiddenGlobalError as error:
        raise forbidden(str(error), path.name, path.with_suffix(".json").name) from None
    except Exception as error:
        raise CorruptArtifactError(
            f"{path.name} cannot be read as a pickle: {type(error).__name__}: {error}",
            where=path.name,
            fix="copy the artifact again, or have it saved again",
        ) from error


def forbidden(name: str, file: str, safe_twin: str | None = None) -> UnsafeArtifactError:
    """The error for a file that refers to forbidden code.

    Args:
        name: What it refers to, ``module.name``.
        file: The file.
        safe_twin: The file that is read in its place where it is there.
    """
    instead = f"; or save {safe_twin}, which is read instead of {file}" if safe_twin else ""
    return UnsafeArtifactError(
        f"{file} refers to {name!r}, which is no plain value and could run code",
        where=file,
        fix=SAFE_ADVICE + instead,
    )


class _Unpickler(pickle._Unpickler):
    # The one written in Python: the C one reserves memory for whatever memo index a pickle names.

    def find_class(self, module: str, name: str) -> Any:
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as protocols 0 to 2 call it
        if full not in STAND_INS:
            raise ForbiddenGlobalError(full)
        return STAND_INS[full]


class StandIn:
    """What a pickle gets for a name it refers to.

    Args:
        name: The name.
        make: What a call gives; None where it is only mentioned, never called.
    """

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self._name, self._make = name, make

    def __call__(self, *args: Any) -> Any:
        """What a pickle gets that calls the name."""
        if self._make is None:
            raise ForbiddenGlobalError(f"{self._name}()")
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenGlobalError(f"{self._name}.__setstate__")  # a pickle may not change the stand-in itself


class PickledDtype:
    """A numpy dtype on its way in: one of numbers, booleans or text, no fields, no objects."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object, *_flags: object) -> None:
        if not (isinstance(code, str) and _DTYPE.fullmatch(code)):
            raise ForbiddenGlobalError(f"numpy.dtype({code!r})")
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        version, order, *rest = state
        if version != 3 or order not in ("<", ">", "|", "=") or rest[:3] != [None, None, None]:
            raise ForbiddenGlobalError(f"numpy.dtype({self._code!r}).__setstate__")
        self._order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        """The real one."""
        return np.dtype(self._order + self._code)


class PickledArray(np.ndarray[Any, Any]):
    """An array on its way in; once its state is set, an ordinary array in the machine's byte order."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, data = state
        array = _from_bytes(data, dtype, shape, "F" if fortran_order else "C")
        checked: Any = (1, array.shape, array.dtype, bool(fortran_order), array.tobytes("A"))
        super().__setstate__(checked)


def _from_bytes(data: Any, dtype: Any, shape: Any = (), order: Any = "C", *_axes: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, PickledDtype):
        raise ForbiddenGlobalError(f"a numpy array of {dtype!r}")
    if not (isinstance(data, bytes | bytearray) and isinstance(shape, tuple) and order in ("C", "F")):
        raise ForbiddenGlobalError(f"a numpy array of shape {shape!r} and {type(data).__name__} data")
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes are no array of shape {shape!r}")
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), order)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _from_bytes(data, dtype).item()


def _reconstruct(kind: Any, *_shape_and_dtype: Any) -> PickledArray:
    if kind is not STAND_INS["numpy.ndarray"]:
        raise ForbiddenGlobalError(f"numpy array of kind {kind!r}")
    return PickledArray((0,), np.uint8)


def _dict(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


def _default_dict(_factory: Any = None) -> dict[Any, Any]:
    return {}  # what is missing stays missing


def _no_bytes() -> bytes:
    return b""  # how old protocols spell this one


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ForbiddenGlobalError(f"_codecs.encode(..., {encoding!r})")
    return text.encode("latin-1")  # how old protocols spell bytes


def _stand_ins() -> Mapping[str, StandIn]:
    makers: dict[str, Callable[..., Any] | None] = {
        "builtins.bytes": _no_bytes,
        "builtins.set": set,
        "builtins.frozenset": frozenset,
        "collections.OrderedDict": _dict,
        "collections.defaultdict": _default_dict,
        "_codecs.encode": _encode,
        "numpy.dtype": PickledDtype,
        "numpy.ndarray": None,
    }
    factories = ("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode")  # of default dicts
    makers |= {f"builtins.{kind}": None for kind in factories}
    for home in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
        makers[f"{home}.multiarray._reconstruct"] = _reconstruct
        makers[f"{home}.multiarray.scalar"] = _scalar
        makers[f"{home}.numeric._frombuffer"] = _from_bytes
    return {name: StandIn(name, make) for name, make in makers.items()}


STAND_INS = _stand_ins()
"""Everything a pickle may refer to."""
