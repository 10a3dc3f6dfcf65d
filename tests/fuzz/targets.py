"""Readers of bytes that may come from anyone, as functions of bytes.

A target raises :class:`bsm_core.errors.BSMError` for bytes that it refuses. Any other exception, a crash, a hang or
memory without a bound is a finding.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from bsm_core.artifact import unpacked
from bsm_core.artifact.config import json_config
from bsm_core.artifact.features.feature_scaling import FEATURE_SCALING, OneHot, read_feature_scaling
from bsm_core.artifact.files import read_json_object
from bsm_core.artifact.load import check_config
from bsm_core.artifact.untrusted.safe_pickle import load_pickle
from bsm_core.artifact.untrusted.tokenizer_file import check_tokenizer_file
from bsm_core.artifact.untrusted.torch_files import load_torch
from bsm_core.artifact.untrusted.transformers_weights import read_transformers_weights
from bsm_core.errors import BSMError
from bsm_core.tables.read import TableSource
from bsm_core.testing.toys import toy_tokenizer
from bsm_plugins_text.cs_adapter import CSAdapterProcessor
from bsm_plugins_text.cs_chat_splitter import CSChatSplitterProcessor
from bsm_plugins_text.dialogue_chunker import DialogueChunkerProcessor
from bsm_plugins_text.dialogue_splitter import DialogueSplitterProcessor
from bsm_plugins_text.emoji_remover import EmojiRemoverProcessor
from bsm_plugins_text.html_normalizer import HTMLNormalizerProcessor
from bsm_plugins_text.text_normalizer import TextNormalizationProcessor
from bsm_plugins_text.text_upper import TextUpperProcessor
from bsm_plugins_text.tokenizer import BertTokenizeProcessor

Target = Callable[[bytes, Path], object]
"""Function of the bytes and of an empty folder in which it may write."""


def read_pickle(data: bytes, folder: Path) -> object:
    """Read a pickle of an artifact."""
    path = folder / "impute_dict.pkl"
    path.write_bytes(data)
    return load_pickle(path)


def read_torch(data: bytes, folder: Path) -> object:
    """Read a file of ``torch.save``."""
    path = folder / "model.pth"
    path.write_bytes(data)
    return load_torch(path)


def read_archive(data: bytes, folder: Path) -> object:
    """Extract an archive. Bytes without the mark of gzip are packed first, so that a fuzzer can change members."""
    path = folder / "model.tar.gz"
    path.write_bytes(data if data.startswith(b"\x1f\x8b") else gzip.compress(_with_checksums(data), 0))
    with unpacked(path, keep=True) as found:
        return sorted(found.rglob("*"))


def read_scaling(data: bytes, folder: Path) -> object:
    """Read a scaling of features, and scale with it."""
    (folder / FEATURE_SCALING).write_bytes(data)
    found = read_feature_scaling(folder)
    numbers = [each for each in found.features.values() if not isinstance(each, OneHot)] if found else []
    return [each.scaled(np.array([-1e38, 0.5, 1e38])).tolist() for each in numbers]


def read_shards(data: bytes, folder: Path) -> object:
    """Read the index of shards of weights, of which there is one, ``x.safetensors``."""
    (folder / "model.safetensors.index.json").write_bytes(data)
    (folder / "x.safetensors").write_bytes(safetensors.torch.save({"a": torch.ones(2)}))
    return sorted(read_transformers_weights(folder))


def read_tokenizer(data: bytes, folder: Path) -> object:
    """Check a ``tokenizer.json``."""
    path = folder / "tokenizer.json"
    path.write_bytes(data)
    return check_tokenizer_file(path)


def read_config(data: bytes, folder: Path) -> object:
    """Read and check a config: the bytes themselves, or a valid config with lines ``key value`` that replace values."""
    path = folder / "hyperparameters.json"
    lines = [line.split(b" ", 1) for line in data.splitlines()]
    if lines and all(len(line) == 2 for line in lines):
        changed = {json.dumps(key.decode(errors="replace")).encode(): value for key, value in lines}
        data = b"{" + b",".join(key + b":" + value for key, value in (CONFIG | changed).items()) + b"}"
    path.write_bytes(data)
    config = check_config(read_json_object(path))
    return config.text_fields, json_config(config.as_mapping() | {"text_processing_steps": []}, where="config")


def read_csv(data: bytes, folder: Path) -> object:
    """Read a CSV file; its rows are those of Python's ``csv`` module wherever that calls the file valid."""
    path = folder / "data.csv"
    path.write_bytes(data)
    if not data:
        return None
    source = TableSource.open(path)
    if len(set(source.columns)) < len(source.columns):
        return None
    rows = []
    for window in source.windows(source.columns, rows=7):
        rows += [tuple(row.values()) for row in window.table.to_pylist()]
    expected = _csv_rows(data)
    assert expected is None or rows == expected, (rows, expected)
    return rows


def process_text(data: bytes, folder: Path) -> object:
    """Process a text with each built-in step that takes text, and the turns of a chat with the others."""
    text = data.decode(errors="replace")
    tokenizer = _toy_tokenizer()
    for step in (
        HTMLNormalizerProcessor(),
        EmojiRemoverProcessor(),
        TextNormalizationProcessor(),
        TextUpperProcessor(),
    ):
        assert isinstance(step.process(text), str)
    turns = CSAdapterProcessor().process(CSChatSplitterProcessor().process(text))
    chunks = DialogueChunkerProcessor(tokenizer, 16).process(DialogueSplitterProcessor().process(text) + turns)
    encoded = BertTokenizeProcessor(tokenizer, 16).process(chunks)
    assert len(encoded) == len(chunks) > 0
    assert all(len(ids) <= 16 for ids in encoded)
    return encoded


def _csv_rows(data: bytes) -> list[tuple[bytes, ...]] | None:
    """Return the rows after the header, as Python's ``csv`` reads them; None for a file that it refuses."""
    try:
        text = data.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    return [tuple(cell.encode() for cell in row) for row in rows[1:]]


def _tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _sparse() -> list[bytes]:
    """Archives with a sparse file, whose table goes on in a block after its header, or is in an extended header."""
    old = tarfile.TarInfo("folder/a.txt")
    old.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(old.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1  # the table goes on in the next block
    new = tarfile.TarInfo("folder/a.txt")
    new.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}
    rest = _tar(ARTIFACT)
    return [bytes(block) + bytes(tarfile.BLOCKSIZE) + rest, new.tobuf(tarfile.PAX_FORMAT) + rest]


def _extended() -> list[bytes]:
    """Archives with extended headers for one member and for all, and with long names of GNU tar."""
    member = tarfile.TarInfo("folder/b.txt")
    member.size = 1
    member.pax_headers = {"path": "folder/ü.txt", "size": "1", "mtime": "1.5"}
    extended = member.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(tarfile.BLOCKSIZE, b"\0")
    long = tarfile.TarInfo("folder/" + "c" * 101)
    long.type, long.linkname = tarfile.LNKTYPE, "folder/" + "d" * 101
    common = tarfile.TarInfo.create_pax_global_header({"comment": "of all"})
    rest = _tar(ARTIFACT)
    return [common + extended + rest, long.tobuf(tarfile.GNU_FORMAT) + rest]


def _with_checksums(archive: bytes) -> bytes:
    """Correct the checksum of each header of a tar archive: a change of any other byte makes it wrong."""
    content = bytearray(archive)
    for start in range(0, len(content) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
        if content[start + 257 : start + 262] == b"ustar":
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + tarfile.BLOCKSIZE])
    return bytes(content)


def _saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


_toy_tokenizer = cache(toy_tokenizer)
CONFIG = {b'"model_class"': b'"bimodal_bert"', b'"text_name"': b'"text"', b'"num_classes"': b"2"}
ARTIFACT = {"hyperparameters.json": b"", "model_artifacts.pth": b"", "model.pth": b"", "folder/a.txt": b"text"}
TABLE = {"a": {"bins": {"x": 0.5, 1: np.float64(2)}, "default_bin": 0.1}, "b": [1, (2, None), {3}]}
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "pickle": (read_pickle, [pickle.dumps(TABLE, protocol) for protocol in range(2, 6)]),
    "torch": (read_torch, [_saved({"config": TABLE}), _saved({"w": torch.arange(6.0).reshape(2, 3)})]),
    "archive": (read_archive, [archive := _tar(ARTIFACT), gzip.compress(archive), *_sparse(), *_extended()]),
    "scaling": (read_scaling, [b'{"features": {"a": {"kind": "quantile", "quantiles": [0, 1]}}}']),
    "shards": (read_shards, [b'{"weight_map": {"a": "x.safetensors"}}', b'{"weight_map": {"a": "y", "b": "z"}}']),
    "tokenizer": (read_tokenizer, [json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}).encode()]),
    "config": (
        read_config,
        [
            b'{"model_class": "bert", "text_name": "t", "num_classes": 2}',
            b'text_processing_steps ["text_upper", {"name": "x", "a": 1}]\nis_binary false\nnum_classes 3',
            b'tab_field_list ["a", "b"]\ncat_field_list ["b"]\nmax_sen_len 16\nbatch_size null\nchunk_truncate true',
            b'primary_text_name "a"\nsecondary_text_name "b"\nsecondary_text_processing_steps null',
        ],
    ),
    "csv": (read_csv, [b'id,text\n1,"a, ""b""\nc"\n2,x\n', b"\xef\xbb\xbfid\r\n1\r\n\r\n2\r\n"]),
    "text": (
        process_text,
        [b"[bom]agent: <b>hi</b> &amp; \xf0\x9f\x98\x80[eom] [bom]user: no![eom]", b"<![x <!-- a -->"],
    ),
}
"""Targets by name, each with valid inputs from which a fuzzer begins."""


def run(name: str, data: bytes, folder: Path) -> None:
    """Call a target in a folder, which is empty before and after; an error of bsm is a right answer."""
    with contextlib.suppress(BSMError):
        TARGETS[name][0](data, folder)
    for path in folder.iterdir():
        path.unlink()
