"""The road of a text cell, from the file to the window's part: which folders of ``bsm_core`` it passes through."""

from __future__ import annotations

import inspect
import sys
from itertools import groupby
from typing import Any

import pyarrow as pa
import pytest
from support.toy import toy_rows

MARK = "zebra"
BESIDE = ("plugins", "on_predict_batch_start")
"""Hooks, and the Lightning callback that announces a window to them, see a batch but pass nothing on."""
END = "on_predict_batch_end"
"""Takes the window to the sink, in another thread."""


def holds_the_cell(value: Any) -> bool:
    """Whether a function's argument carries the marked cell, or tokens and kept columns made of its row."""
    if isinstance(value, str | bytes):
        return (MARK if isinstance(value, str) else MARK.encode()) in value
    if isinstance(value, pa.Table | pa.RecordBatch):
        return any(map(holds_the_cell, value.columns))
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return any(holds_the_cell(cell) for cell in value.to_pylist() if isinstance(cell, str | bytes))
    if isinstance(value, list | tuple | dict):
        return any(map(holds_the_cell, value.values() if isinstance(value, dict) else value))
    return type(value).__name__ in ("Window", "WindowInfo", "Batch") and holds_the_cell(vars(value))


@pytest.fixture
def walk(monkeypatch):
    """The folders whose functions are called with the cell among their arguments, in order."""
    folders: list[str] = []

    def look(frame: Any, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event != "call" or not module.startswith("bsm_core.") or frame.f_code.co_flags & inspect.CO_GENERATOR:
            return
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        folder = module.split(".")[1]
        if folder in BESIDE or frame.f_code.co_name in BESIDE:
            return
        if any(holds_the_cell(frame.f_locals.get(name)) for name in names):
            folders.append(folder)
            if frame.f_code.co_name == END:
                sys.setprofile(None)

    yield lambda: [folder for folder, _ in groupby(folders)], lambda: sys.setprofile(look)
    sys.setprofile(None)


def test_a_cell_enters_each_folder_once(run, walk):
    seen, begin = walk
    toy_rows(5).assign(chat=f"{MARK} crossing").to_csv(run.data / "t.csv", index=False)
    begin()
    run(keep_columns="chat", device="cpu")
    assert seen() == ["tables", "preprocess", "models", "scoring"]
