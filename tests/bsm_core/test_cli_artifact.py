"""Files that ``bsm inspect``, ``pack`` and ``export`` open, one by one; for ``bsm run`` see scoring/test_job.py."""

from __future__ import annotations

import json

from support.plugins import run_python
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.scoring.self_check import add_check

COUNT = """
    import json, os, pathlib, sys
    from collections import Counter

    counts = {{"read": Counter(), "hashed": Counter(), "parsed": Counter()}}
    hashing = []

    def count(event, arguments):
        if event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        path, mode = pathlib.Path(os.path.abspath(arguments[0])), arguments[1]
        if mode in (None, "r", "rb") and {folder!r} in map(str, path.parents) and path.is_file():
            counts["hashed" if hashing else "read"][os.path.relpath(path, {folder!r}).replace(os.sep, "/")] += 1

    sys.addaudithook(count)
    import safetensors.torch
    from bsm_core.artifact import files
    from bsm_core.backends import export
    from bsm_core.cli import main

    def counted(load):
        def parse(path, *arguments, **keywords):
            counts["parsed"][os.path.basename(path)] += 1
            return load(path, *arguments, **keywords)
        return parse

    def hashed(sha256):
        def digest(path):
            hashing.append(path)
            try:
                return sha256(path)
            finally:
                hashing.pop()
        return digest

    safetensors.torch.load_file = counted(safetensors.torch.load_file)  # Rust opens the file, which no hook sees
    files.sha256 = hashed(files.sha256)
    export.export = lambda model, folder: None
    found = []
    for command in {commands!r}:
        code = main(command)
        found.append([code, counts])
        counts = {{name: Counter() for name in counts}}
    print()
    print(json.dumps(found))
"""
WEIGHTS, CHECK = "model.safetensors", "self_check.json"
TABLES = {"risk_table_map.json", "impute_dict.json"}
PICKLES = {"risk_table_map.pkl", "impute_dict.pkl"}  # read beside their twins, with which they must agree
SMALL = TABLES | {"hyperparameters.json", "model_artifacts.pth"}
TWINS = {"model.pth", "risk_table_map.pkl", "impute_dict.pkl"}


def test_each_file_of_an_artifact_is_opened_once_and_hashed_once(toy_site, tmp_path):
    """Counted are reads of files that Python opens, apart from hashing, and how often safetensors parses a file.

    The header of safetensors is looked at before it is parsed. Weights in a pickle beside their twin are looked at,
    then mapped into memory. A packed artifact is copied, and the copy is read in the working folder
    ``.bsm-pack-*/artifact``.
    """
    for name in ("old", "pickled"):
        write_toy_artifact(tmp_path / name)
    add_check(tmp_path / "old", toy_rows())
    for name in (WEIGHTS, *TABLES):
        (tmp_path / "pickled" / name).unlink()
    toy_rows().to_csv(tmp_path / "t.csv", index=False)
    commands = {
        "inspect": ["inspect", "old"],
        "pack": ["pack", "old", "new"],
        "export": ["export", "old", "exported"],
        "pack pickles": ["pack", "pickled", "unpickled", "--data", "t.csv"],
    }
    given = [[str(tmp_path / word) if (tmp_path / word).exists() else word for word in c] for c in commands.values()]
    for command in given[1:]:
        command[2] = str(tmp_path / command[2])
    output = run_python(COUNT.format(folder=str(tmp_path), commands=given), SITE, preloaded=True).splitlines()[-1]
    codes, counts = zip(*json.loads(output), strict=True)
    assert codes == (0, 0, 0, 0)
    found = dict(zip(commands, counts, strict=True))

    assert found["inspect"] == {
        "parsed": {WEIGHTS: 1},
        "read": {f"old/{name}": 1 for name in SMALL | PICKLES | {CHECK, WEIGHTS}} | {"old/model.pth": 2},
        "hashed": {f"old/{name}": 1 for name in SMALL | TWINS | {CHECK, WEIGHTS}},
    }
    twins = dict.fromkeys(SMALL | PICKLES | {CHECK, WEIGHTS}, 1) | {"model.pth": 2}
    for command, source, target, content in (
        ("pack", "old", "new", twins),
        ("export", "old", "exported", twins),
        ("pack pickles", "pickled", "unpickled", dict.fromkeys(SMALL - TABLES | TWINS, 1)),
    ):
        counts = found[command]
        assert of(counts["read"], f"{source}/") == {path.name: 1 for path in (tmp_path / source).iterdir()}, command
        assert of(counts["read"], "/artifact/") == content, command
        assert counts["parsed"] == ({} if source == "pickled" else {WEIGHTS: 1}), command
        hashed = {path.name for path in (tmp_path / target).iterdir()} - {"provenance.json"}
        assert of(counts["hashed"], "/artifact/") == dict.fromkeys(hashed, 1), command
        assert of(counts["hashed"], f"{source}/") == {}, command


def of(counts, folder):
    """The counts of the files of a folder."""
    return {name.rpartition(folder)[2]: count for name, count in counts.items() if folder in name}
