"""Which classes of transformers the files of a tokenizer may select."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers.models.auto import tokenization_auto
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from bsm_core.artifact.untrusted.tokenizer_classes import LOADS_ITS_FOLDER, loads_its_folder
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError

TYPES: list[str] = sorted({*tokenization_auto.TOKENIZER_MAPPING_NAMES, *transformers.CONFIG_MAPPING})
LOADS_MORE = {
    "RagTokenizer",  # asks AutoTokenizer for two other folders
    "BertJapaneseTokenizer",  # options of a dictionary: the path of a file
    "Wav2Vec2PhonemeCTCTokenizer",  # espeak
    "VitsTokenizer",
    "FastSpeech2ConformerTokenizer",  # nltk, which downloads
    "Pop2PianoTokenizer",
}


class SelectedError(Exception):
    """Name of a class of transformers that was asked to load a folder."""


@pytest.fixture
def selected(monkeypatch):
    """Make every class say its name when it is asked for a folder."""

    def tell(cls: type, *_: object, **__: object) -> None:
        raise SelectedError(cls.__name__)

    owners = {transformers.PreTrainedTokenizerBase}
    for name in tokenization_auto.TOKENIZER_MAPPING_NAMES.values():
        found = tokenizer_class_from_name(name) if name else None
        owners |= {base for base in getattr(found, "__mro__", ()) if "from_pretrained" in vars(base)}
    for owner in owners:
        monkeypatch.setattr(owner, "from_pretrained", classmethod(tell))


def asked_for(folder: Path) -> str | None:
    """Return the class that loads a folder: empty if there is none, None if the folder is refused."""
    with pytest.raises((UnsafeArtifactError, CorruptArtifactError)) as caught:
        load_tokenizer(folder)
    if isinstance(caught.value, UnsafeArtifactError):
        return None
    if isinstance(caught.value.__cause__, SelectedError):
        return str(caught.value.__cause__)
    assert re.search("Unrecognized configuration class|the following libraries|requires the", str(caught.value))
    return ""


@pytest.mark.parametrize(("named", "fast"), [(None, True), ("BertTokenizer", False)])
def test_every_type_of_model_selects_a_class_of_the_list_or_is_refused(tmp_path, selected, named, fast):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}))
    if fast:
        (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    refused = set()
    for kind in TYPES:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        if (found := asked_for(tmp_path)) is None:
            refused.add(kind)
        else:
            assert found.removesuffix("Fast") in {*LOADS_ITS_FOLDER, ""}, kind
    assert "rag" in refused
    unknown = {kind for kind in refused if tokenization_auto.TOKENIZER_MAPPING_NAMES.get(kind) not in LOADS_MORE}
    assert not unknown  # a class that a new version of transformers has: read it, and add it to a list


@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("end", ["", "Fast", "FastFast"])
def test_a_class_that_loads_more_is_refused_under_each_of_its_names(tmp_path, selected, place, end):
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    for name in sorted(LOADS_MORE):
        (tmp_path / place).write_text(json.dumps({"tokenizer_class": name + end, "model_type": "bert"}))
        assert asked_for(tmp_path) is None, name


def _classes() -> Iterator[Any]:
    for name in sorted(LOADS_ITS_FOLDER):
        for alias in (name, f"{name}Fast"):
            found = tokenizer_class_from_name(alias)
            if found is not None and not hasattr(found, "_backends"):
                yield found


def test_the_classes_of_the_list_load_as_the_base_class_does():
    classes = set(_classes())
    assert len(classes) > 80
    for found in classes:
        owners = {next(b for b in found.__mro__ if name in vars(b)) for name in ("from_pretrained", "_from_pretrained")}
        assert owners == {transformers.PreTrainedTokenizerBase}, found
        given = {key for key in inspect.signature(found.__init__).parameters if key.endswith("_kwargs")}
        assert given <= {"sp_model_kwargs"}, found  # options of another library, which may name files
        if found.__module__.startswith("transformers.models."):
            nodes = ast.walk(ast.parse(inspect.getsource(sys.modules[found.__module__])))
            called = [node.func for node in nodes if isinstance(node, ast.Call)]
            loads = {"from_pretrained", "cached_file", "hf_hub_download", "import_module", "__import__", "exec", "eval"}
            assert not loads & {getattr(call, "attr", getattr(call, "id", "")) for call in called}, found


def test_a_class_that_an_installed_package_registers_is_known():
    class OfAPlugin(transformers.PreTrainedTokenizerFast):
        pass

    class LoadsMore(transformers.PreTrainedTokenizerFast):
        @classmethod
        def from_pretrained(cls, *_: object, **__: object) -> None:
            pass

    assert loads_its_folder(OfAPlugin)
    assert not loads_its_folder(LoadsMore)
    assert not loads_its_folder(transformers.BertModel)
    assert not loads_its_folder("BertTokenizer")


@pytest.mark.parametrize("fast", [True, False])
def test_a_rag_tokenizer_runs_no_code(tmp_path, fast):
    """transformers asks whether to trust the code of the inner folders; the answer is yes here."""
    folder, proof = tmp_path / "tokenizer", tmp_path / "proof"
    inner = folder / "question_encoder_tokenizer"
    inner.mkdir(parents=True)
    config = {"model_type": "rag", "question_encoder": {"model_type": "vit"}, "generator": {"model_type": "vit"}}
    (folder / "config.json").write_text(json.dumps(config))
    (inner / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}))
    for place in (folder, inner):
        (place / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Evil: ...\n")
    if fast:
        (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}}}')
    code = "import sys; from pathlib import Path; import bsm_core.artifact.untrusted.tokenizer_folder as t"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}; t.load_tokenizer(Path(sys.argv[1]))", str(folder)],
        input="y\n" * 10,
        capture_output=True,
        text=True,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)},
    )
    assert not proof.exists()
    assert "UnsafeArtifactError" in answer.stderr
    assert "RagTokenizer" in answer.stderr
