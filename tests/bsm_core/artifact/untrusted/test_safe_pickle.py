from __future__ import annotations

import collections
import contextlib
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact.untrusted.safe_pickle import STAND_INS, StandIn, load_pickle
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def load(tmp_path):
    def load(data: bytes) -> object:
        path = tmp_path / "impute_dict.pkl"
        path.write_bytes(data)
        return load_pickle(path)

    return load


class Call:
    """Pickles as a call."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self._reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self._reduced


def call(module: str, name: str, argument: str = "") -> bytes:
    """The pickle that calls ``module.name(argument)``."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


# What is let in

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers())
    ),
)


@given(value=plain, protocol=st.sampled_from(list(PROTOCOLS)))
def test_plain_values_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert load_pickle(path) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("factory", [int, float, str, list, dict, bool, set, tuple])
def test_ordered_and_default_dicts_come_as_plain_dicts(load, protocol, factory):
    ordered = collections.OrderedDict(b=1, a=2)
    default = collections.defaultdict(factory, x=factory())
    back = load(pickle.dumps([ordered, default], protocol))
    assert [type(value) for value in back] == [dict, dict]
    assert list(back[0].items()) == [("b", 1), ("a", 2)]
    assert back[1] == {"x": factory()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), np.int64(-3), np.uint8(7), np.bool_(True), np.str_("né"), np.float16(2)]
)
def test_numpy_scalars_come_as_python_values(load, protocol, value):
    back = load(pickle.dumps({value: value}, protocol))
    assert back == {value.item(): value.item()}
    assert type(back[value.item()]) is type(value.item())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="f4").reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(0.5),
        np.zeros((0, 3)),
        np.array(["a", "bcd"]),
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
    ],
    ids=str,
)
def test_numpy_arrays_come_back(load, protocol, array):
    back = load(pickle.dumps([array], protocol))[0]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy_are_known(load, core):
    pickled = pickle.dumps(np.float64(0.5), 2)
    here = b"numpy._core" if b"numpy._core" in pickled else b"numpy.core"
    assert load(pickled.replace(here, core)) == 0.5


# What is refused


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "open"),
        ("builtins", "bytearray"),
        ("importlib", "import_module"),
        ("pickle", "loads"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("copyreg", "_reconstructor"),
        ("torch", "load"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "matrix"),
        ("numpy.core.multiarray", "fromstring"),
        ("bsm_core.artifact.untrusted.safe_pickle", "StandIn"),
        ("collections", "OrderedDict.__init__"),
    ],
)
@pytest.mark.parametrize("called", [True, False])
def test_any_other_global_is_refused_by_name(load, module, name, called):
    data = call(module, name, "true") if called else f"c{module}\n{name}\n.".encode()
    with pytest.raises(UnsafeArtifactError) as caught:
        load(data)
    assert f"'{module}.{name}'" in str(caught.value)
    assert "impute_dict.pkl" in str(caught.value)
    assert "impute_dict.json" in caught.value.fix


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_code_does_not_run(load, tmp_path, protocol):
    proof = tmp_path / "proof"
    with pytest.raises(UnsafeArtifactError):
        load(pickle.dumps(Call(exec, f"open({str(proof)!r}, 'w')"), protocol))
    assert not proof.exists()


def test_python_2_names_are_refused_too(load):
    with pytest.raises(UnsafeArtifactError, match="eval"):
        load(call("__builtin__", "eval", "1"))


def test_a_dotted_name_reaches_nothing_behind_an_allowed_one(load):
    stack_global = b"\x80\x04\x8c\x0bcollections\x8c\x1eOrderedDict.__class__.__init__\x93."
    with pytest.raises(UnsafeArtifactError, match="__class__"):
        load(stack_global)


@pytest.mark.parametrize("opcode", [b"(i%s\n%s\n.", b"(c%s\n%s\no.", b"c%s\n%s\n)\x81.", b"c%s\n%s\n)}\x92."])
def test_the_other_ways_to_make_an_object_are_refused(load, opcode):
    with pytest.raises(UnsafeArtifactError, match=r"os\.system"):
        load(b"\x80\x04" + opcode % (b"os", b"system"))


@pytest.mark.parametrize("opcode", [b"\x82\x01.", b"\x83\x01\x00.", b"P1\n.", b"K\x01Q."])
def test_extensions_and_persistent_ids_are_refused(load, opcode):
    with pytest.raises(CorruptArtifactError):
        load(b"\x80\x04" + opcode)


def test_what_is_only_mentioned_cannot_be_called(load):
    with pytest.raises(UnsafeArtifactError, match="int"):
        load(call("builtins", "int", "9" * 100))


def test_an_allowed_name_cannot_be_changed(load):
    poison = b"ccollections\nOrderedDict\n(N}V_make\nVx\nstb."
    with pytest.raises(UnsafeArtifactError, match=r"OrderedDict\.__setstate__"):
        load(poison)
    assert load(pickle.dumps(collections.OrderedDict(a=1))) == {"a": 1}


def test_nothing_but_stand_ins_is_given_out():
    assert {type(value) for value in STAND_INS.values()} == {StandIn}


def _reduced(array: np.ndarray) -> tuple:
    return array.__reduce_ex__(2)


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, "a"], dtype=object),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([b"x"], dtype="V1"),
        np.array([1j]),
    ],
    ids=lambda value: str(value.dtype),
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_anything_but_numbers_and_text_are_refused(load, value, protocol):
    with pytest.raises(UnsafeArtifactError, match=r"numpy\.dtype"):
        load(pickle.dumps(value, protocol))


def test_a_scalar_of_objects_is_refused(load):
    scalar = np.float64(1).__reduce__()[0]
    with pytest.raises(UnsafeArtifactError, match=r"numpy\.dtype\('O8'\)"):
        load(pickle.dumps(Call(scalar, np.dtype("O"), pickle.dumps("inner"))))


@pytest.mark.parametrize(
    "state",
    [
        (3, "|", None, ("f",), {"f": (np.dtype("i4"), 0)}, 8, 1, 27),  # fields
        (3, "<", ("i4", (2,)), None, None, 8, 4, 0),  # a sub-array
        (4, "<", None, None, None, 8, 8, 0, {"a": 1}),  # metadata
        (3, "?", None, None, None, -1, -1, 0),
    ],
)
def test_a_forged_dtype_is_refused(load, state):
    # With flags of its own choice, numpy's __setstate__ would make an array of pointers out of bytes.
    with pytest.raises(UnsafeArtifactError, match="__setstate__"):
        load(pickle.dumps(Call(np.dtype, "f8", False, True, state=state)))


def test_the_flags_and_size_of_a_dtype_are_not_believed(load):
    dtype = Call(np.dtype, "f8", False, True, state=(3, "<", None, None, None, 1, 1, 63))
    assert load(pickle.dumps(Call(np.float64(1).__reduce__()[0], dtype, struct.pack("<d", 0.5)))) == 0.5


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((2,), b"12345678"),
        ((1,), b"123456789"),
        ((-1,), b"12345678"),
        ((-1, -1), b"12345678"),
        ((1 << 60, 0, 1), b"x"),
        ((True,), b"12345678"),
    ],
)
def test_an_array_whose_bytes_do_not_fill_its_shape_is_corrupt(load, shape, data):
    make, args, _ = _reduced(np.zeros(1))
    with pytest.raises(CorruptArtifactError, match="do not make an array of shape"):
        load(pickle.dumps(Call(make, *args, state=(1, shape, np.dtype("f8"), False, data))))


@pytest.mark.parametrize("data", [[1.0], "text", None])
def test_an_array_of_something_else_than_bytes_is_refused(load, data):
    make, args, _ = _reduced(np.zeros(1))
    with pytest.raises(UnsafeArtifactError, match="numpy array"):
        load(pickle.dumps(Call(make, *args, state=(1, (1,), np.dtype("f8"), False, data))))


@pytest.mark.parametrize("dtype", ["O", "f8", None])
def test_an_array_whose_dtype_is_no_dtype_is_refused(load, dtype):
    make, args, _ = _reduced(np.zeros(1))
    with pytest.raises(UnsafeArtifactError, match="numpy array of"):
        load(pickle.dumps(Call(make, *args, state=(1, (1,), dtype, False, b"12345678"))))


def test_a_subclass_of_array_is_refused(load):
    make, _, _ = _reduced(np.zeros(1))
    with pytest.raises(UnsafeArtifactError):
        load(pickle.dumps(Call(make, dict, (0,), b"b")))


@pytest.mark.parametrize(("text", "encoding"), [("a", "rot13"), ("a", "zlib_codec"), (1, "latin1")])
def test_encode_does_latin_1_alone(load, text, encoding):
    import _codecs

    with pytest.raises(UnsafeArtifactError, match=r"_codecs\.encode"):
        load(pickle.dumps(Call(_codecs.encode, text, encoding)))


# What is damaged


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        pickle.dumps({"a": 1.0})[:-3],
        b"\x80\xff.",
        b".",
        b"(.",
        b"K\x01b.",
        b"\x8d" + b"\xff" * 8 + b".",
    ],
)
def test_damage_is_corrupt_and_names_the_file(load, data):
    with pytest.raises(CorruptArtifactError, match=r"impute_dict\.pkl"):
        load(data)


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"], ids=["binary", "text"])
def test_a_huge_memo_index_takes_no_memory(load, put):
    with pytest.raises(CorruptArtifactError, match="memo index 2147483647"):  # for which 32 GiB would be allocated
        load(b"\x80\x04K\x01" + put + b".")


def test_a_memo_index_that_a_pickle_of_its_size_can_need_is_none_of_these(load):
    assert load(b"\x80\x04K\x01q\x02h\x02\x86.") == (1, 1)


def test_no_private_name_of_pickle_is_needed(load, monkeypatch):
    monkeypatch.delattr(pickle, "_Unpickler")
    assert load(pickle.dumps({"a": [1, np.float64(0.5)]})) == {"a": [1, 0.5]}


@given(data=st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.pkl"
    path.write_bytes(data)
    with contextlib.suppress(CorruptArtifactError, UnsafeArtifactError):
        load_pickle(path)
