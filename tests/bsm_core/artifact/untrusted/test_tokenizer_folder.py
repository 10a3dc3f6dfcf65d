from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.artifacts import write_artifact, write_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from bsm_core.artifact import Artifact
from bsm_core.artifact.description import describe
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError
from bsm_plugins_text.tokenizer import BertTokenizeProcessor

TRAINED_ON = [
    "Hello World, the naïve café costs 12 today",
    "the order is late again",
    "中文 字 ok",
    "Don't stop me NOW",
]
TEXTS = [
    "Hello World, naïve café",
    "THE ORDER [MASK] <mask> of  the day <x>\n",
    "中文ok",
    "don't é ﬁ ½",
    " Now  <y>",
    ".",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def word_piece() -> Tokenizer:
    """A cased tokenizer, as BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=250, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([*TRAINED_ON, *map(str.lower, TRAINED_ON)], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_pairs() -> Tokenizer:
    """A tokenizer of bytes, as RoBERTa's and GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": ROBERTA_SPECIAL, "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(TRAINED_ON, trainers.BpeTrainer(vocab_size=400, **options))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unigram(special: list[str], first: str, last: str) -> Tokenizer:
    """A tokenizer as SentencePiece makes, as that of XLM-RoBERTa and DeBERTa."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    options = {"special_tokens": special, "unk_token": special[3], "show_progress": False}
    tokenizer.train_from_iterator(TRAINED_ON, trainers.UnigramTrainer(vocab_size=120, **options))
    ends = [(token, special.index(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    return tokenizer


def xlm_roberta() -> Tokenizer:
    """A tokenizer as that of XLM-RoBERTa."""
    return unigram(ROBERTA_SPECIAL, "<s>", "</s>")


def deberta() -> Tokenizer:
    """A tokenizer as that of DeBERTa, version 2 and 3."""
    return unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[CLS]", "[SEP]")


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    **dict.fromkeys(["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizer"], word_piece),
    **dict.fromkeys(["MPNetTokenizer", "NoSuchTokenizer", "PreTrainedTokenizerFast"], word_piece),
    **dict.fromkeys(["RobertaTokenizer", "RobertaTokenizerFast", "GPT2Tokenizer", "DebertaTokenizer"], byte_pairs),
    **dict.fromkeys(["XLMRobertaTokenizer", "CamembertTokenizer", "TokenizersBackend"], xlm_roberta),
    **dict.fromkeys(["DebertaV2Tokenizer", "DebertaV2TokenizerFast"], deberta),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "lower": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "accents": {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False},
    "prefix": {"add_prefix_space": True},
    "short": {"model_max_length": 4, "padding_side": "left", "truncation_side": "left"},
    "special": {"additional_special_tokens": ["<x>", "ORDER"]},
    "added": {"added_tokens_decoder": {"700": {"content": "<y>", "lstrip": True, "special": True}}},
}


def tokenizer_folder(folder: Path, tokenizer: Tokenizer, **settings: Any) -> Path:
    """Write a folder with ``tokenizer.json`` and ``tokenizer_config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def vocabulary_alone(folder: Path, tokenizer: Tokenizer) -> None:
    """Replace ``tokenizer.json`` by the files of older versions."""
    (folder / "tokenizer.json").unlink()
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "WordPiece":
        (folder / "vocab.txt").write_text(
            "".join(f"{token}\n" for token in sorted(model["vocab"], key=model["vocab"].get))
        )
    else:
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))


def same_ids(folder: Path) -> bool:
    """Return whether bsm returns the ids of ``AutoTokenizer``, whole and cut to eight."""
    auto = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ours = load_tokenizer(folder)
    for most in (8, 500):
        wanted = auto(TEXTS, truncation=True, max_length=most)["input_ids"]
        if BertTokenizeProcessor(ours, most).process(TEXTS) != wanted:
            return False
    return True


# The ids are those of AutoTokenizer


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_auto_tokenizer(tmp_path, family, settings):
    folder = tokenizer_folder(tmp_path / "tok", FAMILIES[family](), tokenizer_class=family, **SETTINGS[settings])
    assert same_ids(folder)
    saved = tmp_path / "saved"  # as `bsm train` and save_artifact do
    load_tokenizer(folder).save_pretrained(saved)
    assert same_ids(saved)
    assert load_tokenizer(saved)(TEXTS)["input_ids"] == load_tokenizer(folder)(TEXTS)["input_ids"]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", ["BertTokenizer", "DistilBertTokenizerFast", "RobertaTokenizer", "GPT2Tokenizer"])
def test_ids_of_a_vocabulary_alone_are_those_of_auto_tokenizer(tmp_path, family, settings):
    tokenizer = byte_pairs() if family in ("RobertaTokenizer", "GPT2Tokenizer") else word_piece()
    folder = tokenizer_folder(tmp_path, tokenizer, tokenizer_class=family, **SETTINGS[settings])
    vocabulary_alone(folder, tokenizer)
    assert same_ids(folder)


@pytest.mark.parametrize("alone", [True, False])
def test_the_files_of_older_versions_count(tmp_path, alone):
    tokenizer = word_piece()
    folder = tokenizer_folder(tmp_path, tokenizer, tokenizer_class="BertTokenizer", do_lower_case=False)
    if alone:
        vocabulary_alone(folder, tokenizer)
    before = load_tokenizer(folder)(TEXTS)["input_ids"]
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"additional_special_tokens": ["<x>"], "mask_token": "[MASK]"})
    )
    (folder / "added_tokens.json").write_text(json.dumps({"<y>": tokenizer.get_vocab_size() + 1}))
    assert same_ids(folder)
    assert load_tokenizer(folder)(TEXTS)["input_ids"] != before


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "no-such-type", "dpt"])
def test_the_config_beside_the_tokenizer_chooses_its_class(tmp_path, kind):
    trained = word_piece()
    folder = tokenizer_folder(tmp_path, trained, do_lower_case=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "backbone": "someone/some-repository"}))
    expected = "the order" if kind in ("bert", "distilbert", "electra") else "THE ORDER"
    tokenizer = load_tokenizer(folder)
    assert tokenizer("THE ORDER")["input_ids"] == trained.encode(expected).ids
    if kind != "dpt":  # whose config alone would make transformers ask for the repository
        assert same_ids(folder)


def test_a_difference_from_tokenizer_json_is_said(tmp_path, caplog):
    folder = tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer", do_lower_case=False)
    load_tokenizer(folder, "tok")
    assert not caplog.messages
    tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer", do_lower_case=True)
    load_tokenizer(folder, "tok")
    [line] = caplog.messages
    assert line.startswith("tok: AutoTokenizer of transformers 5.")
    assert "splits 'Hello, World! It" in line or 'splits "Hello, World! It' in line


def test_an_id_that_is_not_that_of_tokenizer_json_is_said(tmp_path, monkeypatch):
    """Some versions of transformers build a vocabulary with other ids."""
    trained = word_piece()
    folder = tokenizer_folder(tmp_path, trained)
    content = json.loads(trained.to_str())
    content["model"]["vocab"] = {token: number + (number > 20) for token, number in trained.get_vocab().items()}
    other = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: other)
    lines = []
    load_tokenizer(folder, "tok", lines.append)
    assert [" gives another id to " in line for line in lines] == [True]


# What cannot be built


def test_a_sentencepiece_model_alone_needs_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"model")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    with pytest.raises(CorruptArtifactError, match=r"sentencepiece\.bpe\.model.* is not installed") as caught:
        load_tokenizer(tmp_path)
    assert "pip install sentencepiece" in caught.value.fix


@pytest.mark.parametrize(
    ("family", "file", "needed"),
    [
        ("BertTokenizer", "vocab.json", r"vocab\.txt"),
        ("RobertaTokenizer", "vocab.json", r"merges\.txt"),
        ("XLMRobertaTokenizer", "vocab.txt", r"sentencepiece\.bpe\.model"),
    ],
)
def test_a_vocabulary_that_the_class_does_not_read_is_no_tokenizer(tmp_path, family, file, needed):
    tokenizer = byte_pairs() if file == "vocab.json" else word_piece()
    tokenizer_folder(tmp_path, tokenizer, tokenizer_class=family)
    vocabulary_alone(tmp_path, tokenizer)
    (tmp_path / "merges.txt").unlink(missing_ok=True)
    with pytest.raises(CorruptArtifactError, match=f"a {family} needs {needed}|add {needed}") as caught:
        load_tokenizer(tmp_path)
    assert f"found: {file}" in caught.value.details


@pytest.mark.parametrize(
    "kind", ["AutoTokenizer", "AutoModel", "AutoProcessor", "RagTokenizer", "BertModel", "pipeline"]
)
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_a_class_that_is_no_tokenizer_is_refused(tmp_path, kind, where):
    folder = tokenizer_folder(tmp_path, word_piece())
    (folder / where).write_text(json.dumps({"tokenizer_class": kind, "auto_map": {"AutoModel": "x.M"}}))
    with pytest.raises(UnsafeArtifactError, match=kind):
        load_tokenizer(folder)


@pytest.mark.parametrize("value", ["/etc/passwd", 3])
@pytest.mark.parametrize("key", ["vocab_file", "tokenizer_file", "special_tokens_map_file", "vocab", "merges"])
def test_the_file_of_special_tokens_names_no_file(tmp_path, key, value):
    folder = tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer")
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]", key: value}))
    with pytest.raises(UnsafeArtifactError, match=f"special_tokens_map.json: the key '{key}'"):
        load_tokenizer(folder)


@pytest.mark.parametrize("value", ["/etc", "", False, None])
@pytest.mark.parametrize("key", ["local_files_only", "name_or_path", "is_local"])
def test_the_file_of_special_tokens_does_not_say_where_files_are(tmp_path, key, value):
    folder = tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer")
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]", key: value}))
    with pytest.raises(UnsafeArtifactError, match=f"special_tokens_map.json: the key '{key}'"):
        load_tokenizer(folder)


def test_the_file_of_special_tokens_may_hold_other_settings(tmp_path):
    folder = tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer")
    others = {"bos_token_id": 101, "model_max_length": 7, "padding_side": "left", "tokenizer_file": None}
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]", **others}))
    assert load_tokenizer(folder).model_max_length == 7
    assert same_ids(folder)


def test_what_only_the_built_tokenizer_shows_is_checked_too(tmp_path, monkeypatch):
    tokenizer = byte_pairs()
    tokenizer.model.dropout = 0.1
    built = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: built)
    with pytest.raises(CorruptArtifactError, match="other tokens in each run"):
        load_tokenizer(tokenizer_folder(tmp_path, byte_pairs()))


def test_a_tokenizer_that_auto_tokenizer_cannot_build_says_how_to_use_its_file_alone(tmp_path):
    folder = tokenizer_folder(tmp_path, xlm_roberta(), tokenizer_class="AlbertTokenizer", eos_token=3)
    with pytest.raises(CorruptArtifactError, match=r"cannot be built") as caught:
        load_tokenizer(folder, "tok")
    assert '"tokenizer_class": "PreTrainedTokenizerFast"' in caught.value.fix


@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "added_tokens.json"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, file):
    folder = tokenizer_folder(tmp_path, word_piece(), tokenizer_class="BertTokenizer")
    if file == "vocab.txt":
        vocabulary_alone(folder, word_piece())
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 466062\n")
    with pytest.raises(CorruptArtifactError, match="pointers of Git LFS") as caught:
        load_tokenizer(folder, "tok")
    assert caught.value.details == (file,)
    assert "git lfs pull" in caught.value.fix


# Files and settings, one by one


def test_tokenizer_json_is_preferred_to_a_vocabulary_file(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    assert len(load_tokenizer(tmp_path)) > 10


def test_a_vocabulary_file_alone_makes_a_tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert load_tokenizer(tmp_path)("hello")["input_ids"] == [2, 5, 3]


@pytest.mark.parametrize("fast", [True, False])
def test_code_that_a_tokenizer_points_to_does_not_run(tmp_path, fast):
    write_tokenizer(tmp_path)
    proof = tmp_path / "proof"
    (tmp_path / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Tok: ...\n")
    settings = {"tokenizer_class": "Tok", "auto_map": {"AutoTokenizer": ["evil.Tok", "evil.Tok"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if fast:
        load_tokenizer(tmp_path)
    else:
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_text("[PAD]\n")
        with pytest.raises(CorruptArtifactError):
            load_tokenizer(tmp_path)
    assert not proof.exists()


def test_code_of_others_is_never_trusted(tmp_path, monkeypatch):
    asked = {}
    build = transformers.AutoTokenizer.from_pretrained

    def spied(folder, **options):
        asked.update(options)
        return build(folder, **options)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", spied)
    load_tokenizer(write_tokenizer(tmp_path))
    assert asked.pop("config").to_dict() == transformers.PreTrainedConfig().to_dict()
    assert asked == {"local_files_only": True, "trust_remote_code": False}


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab": "{outside}"},
        {"vocab_file": "{outside}"},
        {"init_inputs": ["{outside}"]},
        {"fast_tokenizer_files": ["../outside.json"]},
        {"mecab_kwargs": 1, "mecab_dic": "{outside}"},
        {"sp_model_kwargs": {"model_file": "{outside}"}},
        {"sudachi_kwargs": {"sudachi_config_path": "{outside}"}},
        {"some_kwargs": {"deeper_kwargs": [{"vocab": "{outside}"}]}},
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_settings_of_a_tokenizer_open_no_file(tmp_path, fast, settings):
    outside = tmp_path / "outside.txt"
    outside.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsecret\n")
    folder = write_tokenizer(tmp_path / "model")
    if not fast:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text("{}")
    text = json.dumps({"tokenizer_class": "BertTokenizer", **settings}).replace("{outside}", str(outside))
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(UnsafeArtifactError, match="could make the tokenizer read another file"):
        load_tokenizer(folder)


def test_paths_that_older_versions_wrote_are_harmless(tmp_path):
    write_tokenizer(tmp_path)
    paths = {"tokenizer_file": "/there", "special_tokens_map_file": "/there", "name_or_path": "/there", "vocab": None}
    paths |= {"sp_model_kwargs": {}, "chat_kwargs": {"image_file": None}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(paths))
    load_tokenizer(tmp_path)


@pytest.mark.parametrize("key", ["do_lower_case", "tokenize_chinese_chars"])
@pytest.mark.parametrize("value", [True, False])
def test_a_setting_that_the_tokenizer_contradicts_is_named(tmp_path, caplog, key, value):
    write_artifact(tmp_path)
    path = tmp_path / "tokenizer/tokenizer.json"
    normalizer = {"type": "BertNormalizer", "clean_text": True, "strip_accents": None} | {
        "lowercase": value,
        "handle_chinese_chars": value,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))
    for said in (value, not value):
        (tmp_path / "tokenizer/tokenizer_config.json").write_text(json.dumps({key: said}))
        caplog.clear()
        artifact = Artifact.load(tmp_path)
        artifact.tokenizer(artifact.config.text_fields[0])
        warnings = [line for line in caplog.messages if "tokenizer_config.json has" in line]
        assert [line.startswith(f"tokenizer: tokenizer_config.json has {key}") for line in warnings] == [True] * (
            said != value
        )
        assert describe(tmp_path).warnings == caplog.messages[: len(warnings)]


def test_a_broken_tokenizer_is_corrupt_and_named(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptArtifactError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
