from __future__ import annotations

import json
import os
import shutil
import tarfile

import pytest
import torch
from support.broken_steps import Good
from support.plugins import component, forget_modules, write_distribution
from support.toy import toy_rows

from bsm_core import Predictor, cli
from bsm_core.artifact import Artifact, describe, unpacked
from bsm_core.artifact.provenance_file import Provenance, read_provenance
from bsm_core.errors import ArtifactError, CorruptArtifactError, ProvenanceError, UnknownModelClassError
from bsm_core.plugins.registry import Provider, Registry, default_registry
from bsm_core.runtime.versions import installed
from bsm_core.scoring import provenance
from bsm_core.scoring.provenance import add_provenance, components_of, record_of, require_same
from bsm_core.testing import isolated_registry
from bsm_core.testing import toy_artifact as write_artifact
from bsm_core.testing.toys import toy_tokenizer


@pytest.fixture
def recorded(toy_artifact):
    add_provenance(toy_artifact, Predictor.open(toy_artifact))
    return toy_artifact


def compare(folder, **load):
    artifact = Artifact.load(folder)
    require_same(artifact, Predictor.load(artifact, **load))


def differences(folder, **load):
    with pytest.raises(ProvenanceError) as caught:
        compare(folder, **load)
    assert caught.value.where == "provenance.json"
    return list(caught.value.details)


def edit(folder, change):
    values = json.loads((folder / "provenance.json").read_text())
    change(values)
    (folder / "provenance.json").write_text(json.dumps(values))


def test_what_is_recorded(recorded):
    record = read_provenance(recorded)
    assert record.versions == installed()
    assert record.files == {n: h for n, h in Artifact.load(recorded).hashes.items() if n != "provenance.json"}
    assert [(c.kind, c.name, c.column, c.distribution, c.version, c.object) for c in record.components] == [
        ("model_class", "toy_model", None, "toy-bsm", "1.0", "toy_bsm_model:ToyModel"),
        ("step", "toy_trap", "chat", "toy-bsm", "1.0", "toy_bsm_steps:ToyTrap"),
        ("step", "toy_tokens", "chat", "toy-bsm", "1.0", "toy_bsm_steps:ToyTokens"),
    ]
    model = record.components[0]
    assert model.given["max_sen_len"] == 8
    assert "lr" not in model.given
    assert model.used["lr"] == 2e-5
    assert model.used["size"] == 4


def test_a_record_with_the_former_name_of_the_distribution_is_understood(recorded):
    def rename(values):
        values["versions"]["bsm"] = values["versions"].pop("bsm-core")
        values["components"][0]["distribution"] = "bsm"

    edit(recorded, rename)
    record = read_provenance(recorded)
    assert record.versions == installed()
    assert record.components[0].distribution == "bsm-core"
    assert differences(recorded) == ["model class toy_model: distribution was bsm-core, is toy-bsm"]


def test_parameters_given_and_used(tmp_path, toy_site):
    given = {"toy_split": "toy_bsm_steps:ToySplit", "toy_encode": "toy_bsm_steps:ToyEncode", "shout": Good}
    with isolated_registry(steps=given):
        steps = [{"name": "shout", "marks": 2}, "toy_split", "toy_encode"]
        folder = write_artifact(tmp_path, text_processing_steps=steps, tokenizer="tokenizer")
        toy_tokenizer().save_pretrained(folder / "tokenizer")
        shout, split, encode = components_of(Predictor.open(folder))[1:]
    assert (shout.given, shout.used) == ({"marks": 2}, {"marks": 2})
    assert (split.given, split.used) == ({}, {})
    assert encode.given == {}
    assert encode.used.pop("tokenizer").endswith(" of 64 tokens")
    assert encode.used == {"max_sen_len": 16}


def test_defaults_are_used(tmp_path):
    with isolated_registry(steps={"shout": Good}):
        folder = write_artifact(tmp_path, text_processing_steps=["shout", "toy_tokens"])
        shout = components_of(Predictor.open(folder))[1]
    assert (shout.given, shout.used) == ({}, {"marks": 1})


def test_the_same_artifact_gives_the_same_bytes(recorded):
    before = (recorded / "provenance.json").read_bytes()
    add_provenance(recorded, Predictor.open(recorded))
    assert (recorded / "provenance.json").read_bytes() == before


def test_an_artifact_is_what_it_was(recorded, tmp_path):
    compare(recorded)
    compare(recorded, batch_size=1)
    moved = tmp_path / "moved"
    shutil.move(recorded, moved)
    compare(moved)


def test_an_artifact_without_a_record(toy_artifact):
    with pytest.raises(ProvenanceError, match="has no record of what made it") as caught:
        compare(toy_artifact)
    assert "bsm pack MODEL_DIR NEW" in caught.value.fix


@pytest.mark.parametrize(
    ("key", "was", "said"),
    [
        ("version", "0.9", "step toy_tokens of 'chat': version was 0.9, is 1.0"),
        ("distribution", "acme", "step toy_tokens of 'chat': distribution was acme, is toy-bsm"),
        ("object", "a:B", "step toy_tokens of 'chat': object was a:B, is toy_bsm_steps:ToyTokens"),
        ("used", {"marks": 2}, "step toy_tokens of 'chat': parameter marks was 2, is not there"),
    ],
)
def test_another_component(recorded, key, was, said):
    edit(recorded, lambda values: values["components"][2].update({key: was}))
    assert differences(recorded) == [said]


def test_a_plugin_in_another_version_is_a_warning_of_each_run(run, recorded, caplog):
    edit(recorded, lambda values: values["components"][2].update(version="0.9"))
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    said = "step toy_tokens: toy-bsm 0.9 made the artifact, toy-bsm 1.0 is installed; --strict makes this an error"
    run(model_dir=recorded)
    assert caplog.messages.count(said) == 1
    (recorded / "provenance.json").write_text("{")
    run(model_dir=recorded)


def test_other_components(recorded):
    edit(recorded, lambda values: values["components"].pop(1))
    assert differences(recorded) == [
        "components were toy_model, toy_tokens, are toy_model, toy_trap, toy_tokens",
    ]


def test_other_libraries(recorded, monkeypatch):
    monkeypatch.setattr(provenance, "installed", lambda: installed() | {"torch": "1.0", "new": "2"})
    assert differences(recorded) == [
        f"library torch was {installed()['torch']}, is 1.0",
        "library new was not there, is 2",
    ]


def test_other_files(recorded):
    (recorded / "impute_dict.json").write_text('{"amount": 2.000}')
    (recorded / "risk_table_map.pkl").unlink()
    (recorded / "notes.txt").write_text("hi")
    found = differences(recorded)
    assert [line.rpartition(" was ")[0] for line in found] == [
        "file impute_dict.json",
        "file risk_table_map.pkl",
        "file notes.txt",
    ]
    assert found[1].endswith("is not there")
    assert "was not there, is " in found[2]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"format": 2}',
        '{"format": 1, "components": [], "versions": {"x\\u001b[0m": "1"}, "files": {}}',
        '{"format": 1, "components": [], "versions": {}, "files": {"a": "short"}}',
        " " * (16 * 2**20 + 1),
    ],
    ids=["no JSON", "another format", "control characters", "no hash", "too large"],
)
def test_a_record_that_is_none(recorded, content):
    (recorded / "provenance.json").write_text(content)
    with pytest.raises(CorruptArtifactError, match="does not hold a record of what made this artifact") as caught:
        compare(recorded)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1, 2}, {(1, 2): 3}, b"\xff", object(), len, "\ud800"],
    ids=["NaN", "infinity", "set", "tuple keys", "bytes", "object", "function", "surrogate"],
)
def test_any_parameter_is_recorded_as_json(value):
    recorded = record_of(component("step", "s", "m:S"), "s", "chat", used={"value": value})
    text = json.dumps(recorded.model_dump(), allow_nan=False)
    assert " at 0x" not in text
    whole = Provenance(components=[recorded], versions={}, files={})
    assert Provenance.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize("name", [b"mod\xc3\xa8le.txt", b"a\nb.txt", b"\xff.txt"])
def test_a_file_may_have_any_name(toy_artifact, name):
    path = os.fsencode(toy_artifact) + b"/" + name
    with open(path, "w"):  # noqa: PTH123 - pathlib takes no bytes
        add_provenance(toy_artifact, Predictor.open(toy_artifact))
    compare(toy_artifact)
    os.unlink(path)  # noqa: PTH108
    (line,) = differences(toy_artifact)
    assert line.isascii()
    assert line.endswith("is not there")


def test_an_archive_is_compared_without_the_files_that_are_not_read(recorded, tmp_path):
    (recorded / "notes.txt").write_text("hi")
    add_provenance(recorded, Predictor.open(recorded))
    target = tmp_path / "packed.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        tar.add(recorded, ".")
    with unpacked(target) as folder:
        assert not (folder / "notes.txt").exists()
        compare(folder)
        (folder / "impute_dict.json").unlink()
        assert len(differences(folder)) == 1


def test_a_record_cannot_drive_a_terminal(recorded):
    edit(recorded, lambda values: values["components"][0]["used"].update({"size": "\x1b[2J", "\x1b]0;x": 1}))
    found = differences(recorded)
    assert len(found) == 2
    assert all(line.isprintable() for line in found)


def test_a_record_that_could_not_be_read_is_not_written(toy_artifact, monkeypatch):
    monkeypatch.setattr("bsm_core.artifact.provenance_file.MOST_BYTES", 100)
    with pytest.raises(ArtifactError, match="what made the artifact takes"):
        add_provenance(toy_artifact, Predictor.open(toy_artifact))
    assert not (toy_artifact / "provenance.json").exists()


def test_a_guard_keeps_an_artifact_from_being_packed(toy_artifact, tmp_path, monkeypatch, capsys):
    code = "from bsm_core import hookimpl\n\n@hookimpl\ndef bsm_artifact_loaded():\n    raise ValueError('not today')\n"
    write_distribution(tmp_path / "site", "acme-vouch", {"acme_vouch": code}, {"guards": {"acme_vouch": "acme_vouch"}})
    monkeypatch.syspath_prepend(tmp_path / "site")
    default_registry.cache_clear()
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "packed")]) == 1
    assert "HookFailedError: guard 'acme_vouch' failed in bsm_artifact_loaded" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
    forget_modules(tmp_path / "site")
    default_registry.cache_clear()


def test_strict_is_a_setting_of_the_run(run):
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(ProvenanceError):
        run(strict=True)
    add_provenance(run.artifact, Predictor.open(run.artifact))
    assert run(strict=True).rows == 5
    edit(run.artifact, lambda values: values["versions"].update(torch="1.0"))
    assert run().rows == 5
    with pytest.raises(ProvenanceError, match=r"library torch was 1\.0"):
        run(strict=True)
    assert not (run.out / "_SUCCESS").exists()


def test_the_run_record_names_components_with_their_parameters(run):
    toy_rows(5).to_csv(run.data / "t.csv", index=False)
    run(run_record=True)
    components = json.loads((run.out / "run.json").read_text())["components"]
    assert [c["name"] for c in components] == ["toy_model", "toy_trap", "toy_tokens"]
    assert components[0]["given"]["max_sen_len"] == 8
    assert components[0]["used"]["lr"] == 2e-5


def test_pack_records_and_inspect_shows(toy_artifact, tmp_path, capsys):
    packed = tmp_path / "packed.tar.gz"
    assert cli.main(["pack", str(toy_artifact), str(packed)]) == 0
    description = describe(packed)
    assert [c["name"] for c in description.provenance["components"]] == ["toy_model", "toy_trap", "toy_tokens"]
    made, _, provided = description.to_text().partition("made with\n")[2].partition("provided by\n")
    assert f"torch {installed()['torch']}" in made
    assert provided.startswith("  model class toy_model: toy-bsm==1.0:toy_bsm_model:ToyModel\n")


def test_pack_goes_on_where_a_plugin_is_not_installed(toy_artifact, tmp_path, capsys, monkeypatch, quiet_log):
    values = json.loads((toy_artifact / "hyperparameters.json").read_text()) | {"model_class": "acme_net"}
    (toy_artifact / "hyperparameters.json").write_text(json.dumps(values))
    content = torch.load(toy_artifact / "model_artifacts.pth", weights_only=True)
    torch.save({**content, "config": values}, toy_artifact / "model_artifacts.pth")
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "packed")]) == 0
    assert "packed without a record of what made it: UnknownModelClassError" in capsys.readouterr().err
    assert not (tmp_path / "packed" / "provenance.json").exists()


def test_an_edit_that_leaves_the_version_alone_is_seen(tmp_path, monkeypatch):
    site = tmp_path / "site"
    source = (
        "from bsm_core import TextStep\n\nclass Shout(TextStep):\n    def process(self, value):\n        return value\n"
    )
    write_distribution(site, "acme", {"acme_steps": source}, {"steps": {"shout": "acme_steps:Shout"}})
    monkeypatch.syspath_prepend(site)
    with isolated_registry(steps={"shout": "acme_steps:Shout"}):
        folder = write_artifact(tmp_path, text_processing_steps=["shout", "toy_tokens"])
        add_provenance(folder, Predictor.open(folder))
        compare(folder)
        (site / "acme_steps.py").write_text(source + "# edited\n")
        (line,) = differences(folder)
    assert line.startswith("step shout of 'text': source was ")
    forget_modules(site)


def test_what_is_not_installed_is_named_by_the_record(recorded):
    with pytest.raises(UnknownModelClassError) as caught:
        Predictor.open(recorded, registry=Registry([]))
    assert caught.value.fix == "the artifact was made with toy-bsm==1.0: install that"
    assert "no text step 'toy_trap' (config.text_processing_steps)" in caught.value.details


def test_what_is_installed_and_cannot_be_used_is_not_to_be_installed_again(recorded, monkeypatch):
    monkeypatch.setenv("BSM_PLUGINS", "")
    default_registry.cache_clear()
    with pytest.raises(UnknownModelClassError) as caught:
        Predictor.open(recorded)
    assert "left out by BSM_PLUGINS: toy-bsm 1.0" in caught.value.details
    assert caught.value.fix == "add toy-bsm to the variable BSM_PLUGINS, which leaves it out"
    [problem] = [problem for problem in describe(recorded).problems if "toy_model" in problem]
    assert "To fix: add toy-bsm to the variable BSM_PLUGINS" in problem
    default_registry.cache_clear()


def test_of_what_is_left_out_in_another_version_nothing_is_to_be_installed(recorded):
    registry = Registry([], blocked=[Provider("Toy_BSM", "0.9")])
    with pytest.raises(UnknownModelClassError) as caught:
        Predictor.open(recorded, registry=registry)
    assert caught.value.fix == "add Toy_BSM to the variable BSM_PLUGINS, which leaves it out"


def test_a_description_advises_what_a_run_advises(recorded):
    problems = describe(recorded, Registry([])).problems
    assert problems
    assert all("To fix: the artifact was made with toy-bsm==1.0: install that" in problem for problem in problems)


def test_a_description_names_each_component_once(recorded):
    described = describe(recorded)
    assert described.to_text().count("toy_model: ") == 1
    assert "(recorded:" not in described.to_text()
    edit(recorded, lambda values: values["components"][0].update(version="0.9"))
    [line] = [line for line in describe(recorded).to_text().splitlines() if "model class toy_model: " in line]
    assert line.startswith("  model class toy_model: toy-bsm==1.0:")
    assert "(recorded: toy-bsm==0.9:" in line


def test_pack_keeps_a_record_that_it_cannot_make(recorded, tmp_path, monkeypatch, capsys, quiet_log):
    before = read_provenance(recorded)
    monkeypatch.setenv("BSM_PLUGINS", "")
    default_registry.cache_clear()
    assert cli.main(["pack", str(recorded), str(tmp_path / "packed"), "--safe-only"]) == 0
    assert "packed with the record that it had: UnknownModelClassError" in capsys.readouterr().err
    default_registry.cache_clear()
    after = read_provenance(tmp_path / "packed")
    assert (after.components, after.versions) == (before.components, before.versions)
    assert "model.pth" in before.files.keys() - after.files.keys()


def test_a_set_is_recorded_in_one_order():
    values = {"words": frozenset(f"word {i}" for i in range(50))}
    recorded = record_of(component("step", "s", "m:S"), "s", used=values)
    assert recorded.used["words"] == sorted(values["words"])
