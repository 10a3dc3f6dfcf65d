"""Artifacts that somebody made to hurt: each is refused at once, by name and reason, in one process that survives.

``bsm inspect`` and ``bsm run`` are both tried on each.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from support.confined import MEGABYTES, SECONDS, Outcome, confined

GOLDENS = Path(__file__).parents[1] / "data/goldens"
ENV = {"ID_FIELD": "order_id", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def model(tmp_path):
    """An artifact that is whole."""
    return Path(shutil.copytree(GOLDENS / "bimodal_bert/model", tmp_path / "model"))


def is_clean(outcome: Outcome) -> bool:
    return all(c.isprintable() or c == "\n" for c in outcome.out + outcome.err)


def safe(outcome: Outcome) -> bool:
    """Check that a command refused the artifact, within its limits."""
    assert outcome.status == 1, outcome
    assert "Traceback" not in outcome.err
    assert is_clean(outcome), outcome
    assert outcome.seconds < SECONDS
    assert outcome.megabytes < MEGABYTES
    return True


def inspected(tmp_path: Path, model: Path, *words: str) -> None:
    """Check that ``bsm inspect`` lists a problem with all of the words."""
    outcome = confined(tmp_path / "inspected", "inspect", model)
    assert safe(outcome)
    assert "\nproblems\n  none" not in outcome.out
    assert all(word in outcome.out.partition("\nproblems\n")[2] for word in words), outcome


def refused(tmp_path: Path, model: Path, *words: str) -> None:
    """Check that ``bsm run`` refuses the artifact with all of the words, in its message and in ``_FAILURE``."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    shutil.copy(GOLDENS / "golden.csv", data)
    folders = ("--model-dir", model, "--data-dir", data, "--output-dir", out)
    outcome = confined(tmp_path / "ran", "run", "--job_type", "testing", "--device", "cpu", *folders, env=ENV)
    assert safe(outcome)
    assert all(word in outcome.err for word in words), outcome
    failure = (out / "_FAILURE").read_text()
    assert failure.endswith("\n")
    assert failure.removesuffix("\n").isprintable()
    assert all(word in failure for word in words)
    assert [path.name for path in out.iterdir()] == ["_FAILURE"]


def with_config(model: Path, **config: object) -> None:
    """Add keys to the config of an artifact."""
    artifacts = torch.load(model / "model_artifacts.pth", weights_only=False)
    torch.save(artifacts | {"config": artifacts["config"] | config}, model / "model_artifacts.pth")


def with_pickle(path: Path, pickled: bytes, name: str = "data.pkl") -> None:
    """Write a file of ``torch.save`` whose pickle is these bytes, under another name if one is given."""
    whole = io.BytesIO()
    torch.save({"config": {}}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            is_pickle = member.endswith("data.pkl")
            new.writestr(member.replace("data.pkl", name), pickled if is_pickle else old.read(member))


# Names


FORGED = "score\x1b[31m\n12:00:00 INFO forged\u202e"
SHOWN = r"score\x1b[31m\n12:00:00 INFO forged\u202e"


def test_names_with_escape_sequences_in_tables_are_shown_escaped(tmp_path, model):
    (model / "impute_dict.pkl").write_bytes(pickle.dumps({FORGED: "x\x1b[2J"}, 2))
    refused(tmp_path, model, "impute_dict.pkl", SHOWN, r"x\x1b[2J")
    inspected(tmp_path, model, "impute_dict.pkl", SHOWN, r"x\x1b[2J")


def test_names_of_weights_are_shown_escaped(tmp_path, model):
    weights = torch.load(model / "model.pth", weights_only=True)
    torch.save(weights | {f"{FORGED}.w": torch.zeros(1)}, model / "model.pth")
    refused(tmp_path, model, SHOWN)


def test_a_dtype_of_safetensors_is_shown_escaped(tmp_path, model):
    header = json.dumps({"w": {"dtype": "F\x1b[31m", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (model / "model.pth").unlink()
    refused(tmp_path, model, "model.safetensors")


def test_names_of_files_cannot_forge_a_section(tmp_path, model):
    (model / "x\nproblems\n  none\x1b[2J").write_bytes(b"")
    outcome = confined(tmp_path / "inspected", "inspect", model)
    assert outcome.status == 0
    assert outcome.out.count("\nproblems\n") == 1
    assert r"x\nproblems\n  none\x1b[2J" in outcome.out
    assert is_clean(outcome)


# Pickles

KEY = b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns."
"""A dict whose key is a tuple that is nested a million deep: its hash crashes the interpreter."""
LAUGHS = b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60)) + b"."
SAME_KEY = b"\x80\x02})q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40)) + b"Ns."
ITSELF = b"\x80\x02}q\x00X\x05\x00\x00\x00scoreh\x00s."
COPIES = (
    b"\x80\x02]q\x00("
    + b"K\x01" * 100_000
    + b"e"
    + b"c__builtin__\nset\nq\x01h\x00\x85Rq\x02"
    + b"h\x01h\x00\x85R" * 9000
    + b"."
)
PICKLES = {
    "nested-key": KEY,
    "laughs": LAUGHS,
    "shared tuple as a key": SAME_KEY,
    "a dict that holds itself": ITSELF,
    "copies": COPIES,
    "huge-number": pickle.dumps({"score": 10**5000}, 2),
    "huge number as text": b"}S'score'\nL" + b"9" * 5000 + b"L\ns.",
}


@pytest.mark.parametrize("pickled", PICKLES.values(), ids=PICKLES)
def test_pickles(tmp_path, model, pickled):
    (model / "impute_dict.pkl").write_bytes(pickled)
    refused(tmp_path, model, "impute_dict.pkl")


NESTED = b"\x80\x02}X\x06\x00\x00\x00config}X\x01\x00\x00\x00a" + b"]" * 5000 + b"a" * 4999 + b"ss."
LOOP = b"\x80\x02}X\x06\x00\x00\x00config}X\x01\x00\x00\x00a]q\x00h\x00ass."


@pytest.mark.parametrize(
    "pickled", [KEY, NESTED, LOOP, SAME_KEY, LAUGHS], ids=["key", "nested", "loop", "same", "laughs"]
)
def test_pickles_in_torch_files(tmp_path, model, pickled):
    with_pickle(model / "model_artifacts.pth", pickled)
    refused(tmp_path, model, "model_artifacts.pth")


def test_a_pickle_in_a_torch_file_is_known_by_its_name_in_any_case(tmp_path, model):
    with_pickle(model / "model_artifacts.pth", KEY, "data.PKL")
    refused(tmp_path, model, "model_artifacts.pth", "nested")


def test_a_config_in_json_that_is_nested_deep(tmp_path, model):
    (model / "hyperparameters.json").write_text('{"a": ' + "[" * 900 + "]" * 900 + "}")
    refused(tmp_path, model, "hyperparameters.json", "nested")


MANY = {
    "lists": (3_900_000, b'{"a":[', lambda i: b"[],", b"0]}"),
    "keys": (120_000, b"{", lambda i: b'"%x":%d,' % (i, i), b'"a":0}'),
}


@pytest.mark.parametrize(("number", "begin", "value", "end"), MANY.values(), ids=MANY)
def test_a_config_in_json_with_very_many_values(tmp_path, model, number, begin, value, end):
    (model / "hyperparameters.json").write_bytes(begin + b"".join(map(value, range(number))) + end)
    refused(tmp_path, model, "hyperparameters.json")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(10**9, 0), torch.zeros(1).expand(10**9), torch.zeros([1] * 100), torch.zeros(1).to_sparse()],
    ids=["no rows", "expanded", "dimensions", "sparse"],
)
def test_tensors_in_the_config(tmp_path, model, tensor):
    with_config(model, x=tensor)
    refused(tmp_path, model, "model_artifacts.pth")


def test_views_of_one_tensor_in_the_config(tmp_path, model):
    with_config(model, x=[torch.zeros(500_000)] * 100)
    refused(tmp_path, model, "model_artifacts.pth", "50,000,000")


def two_in_one(whole: bytes, shift: int = 47) -> bytes:
    """Return a zip file with the members of another, of which ``zipfile`` sees one empty member instead."""
    end = whole.rindex(b"PK\5\6")
    count, size, offset = struct.unpack("<HII", whole[end + 10 : end + 20])
    members, table = whole[:offset], whole[offset : offset + size]
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *[0] * 3, 0x21, 0, 0, 0, 1, 0, size, 0, 0, 0, shift) + b"x"
    total = len(entry) + size
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, total, offset + shift)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, offset + total, 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    return members + entry + table + end64 + locator + last


@pytest.mark.parametrize("file", ["model_artifacts.pth", "model.pth"])
def test_a_zip_file_that_torch_reads_differently(tmp_path, model, file):
    with_pickle(model / file, KEY)
    (model / file).write_bytes(two_in_one((model / file).read_bytes()))
    assert zipfile.ZipFile(model / file).namelist() == ["x"]
    refused(tmp_path, model, file, "two zip files in one")
    inspected(tmp_path, model, file, "two zip files in one")


# Configs


@pytest.mark.parametrize("key", ["num_classes", "max_total_chunks", "num_workers", "hidden_common_dim", "max_sen_len"])
def test_large_sizes_in_the_config(tmp_path, model, key):
    with_config(model, is_binary=False, **{key: 10**9})
    refused(tmp_path, model, key)


ENCODERS = {
    "attribute-map": (
        {"model_type": "clap_text_model", "attribute_map": {"x": "auto_map"}, "x": {"A": "m.M"}},
        "config.json",
    ),
    "backbone": ({"model_type": "dpt", "backbone": "someone/some-repository", "use_timm_backbone": False}, "'dpt'"),
    "layers": ({"model_type": "bert", "num_hidden_layers": 1_000_000}, "num_hidden_layers"),
    "width": ({"model_type": "bert", "hidden_size": 999_996, "num_hidden_layers": 12}, "more than"),
    "vocabulary": ({"model_type": "bert", "vocab_size": 10**12}, "vocab_size"),
    "groups": ({"model_type": "albert", "inner_group_num": 1_000_000}, "inner_group_num"),
    "a type that is no text": ({"model_type": ["bert"]}, "model_type"),
}


@pytest.mark.parametrize(("config", "word"), ENCODERS.values(), ids=ENCODERS)
def test_encoders(tmp_path, model, config, word):
    (model / "text_encoder/config.json").write_text(json.dumps(config))
    (model / "text_encoder/m.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')\nclass M: ...\n")
    refused(tmp_path, model, word)
    assert not (tmp_path / "proof").exists()


DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000,
    "pair": [],
    "special_tokens": {},
}
TOKENIZERS = {
    "a normalizer that multiplies": {"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 40}},
    "a normalizer that writes": {"normalizer": {**DOUBLE, "content": "a" * 1000}},
    "padding": {"padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0}},
    "an unknown form": {"normalizer": {"type": "Unknown\x1b[31m"}},
    "no model": {"model": None},
    "bytes of bytes": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{**BYTES, "use_regex": False}] * 24}},
    "a text many times": {"post_processor": TEMPLATE},
    "a regular expression": {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(?:.|.){18}\\z\\A"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
    "added tokens": {"added_tokens": [{"id": i, "content": f"t{i}"} for i in range(10_001)]},
}


@pytest.mark.parametrize("content", [b'{"a":[' + b"[]," * 3_900_000 + b"0]}", b" " * (81 << 20)], ids=["lists", "size"])
def test_large_files_of_tokenizers(tmp_path, model, content):
    (model / "tokenizer/tokenizer.json").write_bytes(content)
    refused(tmp_path, model, "tokenizer.json")


MODELS = {"dropout": 0.5, "vocab": {"a": -1}, "max_input_chars_per_word": 10_000}


@pytest.mark.parametrize("change", TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers(tmp_path, model, change):
    path = model / "tokenizer/tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(tmp_path, model, "tokenizer.json")


@pytest.mark.parametrize(("key", "value"), MODELS.items())
def test_models_of_tokenizers(tmp_path, model, key, value):
    path = model / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    content["model"][key] = value
    path.write_text(json.dumps(content))
    refused(tmp_path, model, "tokenizer.json", key)


SETTINGS = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10**9}


def test_settings_of_a_tokenizer_without_its_file(tmp_path, model):
    (model / "tokenizer/tokenizer.json").rename(model / "tokenizer/vocab.json")
    (model / "tokenizer/tokenizer_config.json").write_text(json.dumps(SETTINGS))
    refused(tmp_path, model, "tokenizer_config.json", "extra_ids")


# Files that inflate


def test_weights_that_inflate(tmp_path, model):
    whole = io.BytesIO()
    torch.save({"w": torch.zeros(1024)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(model / "model.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(256 << 20) if name.endswith("data/0") else old.read(name))
    refused(tmp_path, model, "model.pth", "inflates")
    inspected(tmp_path, model, "model.pth", "inflates")
