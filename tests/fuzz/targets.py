"""Readers of bytes that may come from anyone, as functions of bytes.

A target raises :class:`bsm_core.errors.BSMError` for bytes that it refuses. Any other exception, a crash, a hang or
memory without a bound is a finding.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bsm_core.artifact import unpacked
from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.untrusted.safe_pickle import load_pickle
from bsm_core.artifact.untrusted.tokenizer_file import check_tokenizer_file
from bsm_core.artifact.untrusted.torch_files import load_torch
from bsm_core.runtime.validation import check_values
from bsm_core.tables.read import TableSource

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
    """Extract an archive."""
    path = folder / "model.tar.gz"
    path.write_bytes(data)
    with unpacked(path) as found:
        return sorted(found.rglob("*"))


def read_tokenizer(data: bytes, folder: Path) -> object:
    """Check a ``tokenizer.json``."""
    path = folder / "tokenizer.json"
    path.write_bytes(data)
    return check_tokenizer_file(path)


def read_config(data: bytes, folder: Path) -> object:
    """Check the values of a config."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return check_values(ArtifactConfig, values) if isinstance(values, dict) else None


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


def _csv_rows(data: bytes) -> list[tuple[bytes, ...]] | None:
    """Return the rows after the header, as Python's ``csv`` reads them; None for a file that it refuses."""
    try:
        text = data.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    return [tuple(cell.encode() for cell in row) for row in rows[1:]]


def _archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(content.getvalue(), 1)


def _saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


TABLE = {"a": {"bins": {"x": 0.5, 1: np.float64(2)}, "default_bin": 0.1}, "b": [1, (2, None), {3}]}
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "pickle": (read_pickle, [pickle.dumps(TABLE, protocol) for protocol in range(2, 6)]),
    "torch": (read_torch, [_saved({"config": TABLE}), _saved({"w": torch.arange(6.0).reshape(2, 3)})]),
    "archive": (read_archive, [_archive({"a.txt": b"text", "folder/b.json": b"{}"})]),
    "tokenizer": (read_tokenizer, [json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}).encode()]),
    "config": (read_config, [json.dumps({"model_class": "bert", "text_name": "t", "num_classes": 2}).encode()]),
    "csv": (read_csv, [b'id,text\n1,"a, ""b""\nc"\n2,x\n', b"\xef\xbb\xbfid\r\n1\r\n\r\n2\r\n"]),
}
"""Targets by name, each with valid inputs from which a fuzzer begins."""


def run(name: str, data: bytes) -> object:
    """Call a target in a folder of its own."""
    with TemporaryDirectory() as folder:
        return TARGETS[name][0](data, Path(folder))
