from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import training
from support.plugins import run_python
from support.processes import Running
from support.toy import CONFIG, SITE, toy_rows

from bsm_core import __version__, cli
from bsm_core.artifact import unpacked
from bsm_core.artifact.check_rows import read_check_rows
from bsm_core.cli.commands import run_command
from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.self_check import add_check

BOTH = ["pack", "a", "b", "--data", "c", "--no-self-check"]
HEAVY = ("torch", "lightning", "pyarrow", "transformers", "pandas", "numpy", "rich", "shtab")


def change_impute(artifact: Path) -> None:
    (artifact / "impute_dict.json").write_text('{"amount": 99}')
    (artifact / "impute_dict.pkl").unlink()


# What nothing heavy may be imported for


@pytest.mark.parametrize(
    "command",
    [
        "",
        "--help",
        "--version",
        "plugins",
        "plugins --json",
        "plugins list",
        "run --help",
        "inspect --help",
        "train --help",
        "export --help",
    ],
)
def test_light_commands_import_nothing_heavy(command):
    heavy = (*HEAVY, "pydantic") if command in ("", "--help", "--version") else HEAVY
    code = f"""
        import sys
        from bsm_core.cli import main
        try:
            code = main({command.split()!r})
        except SystemExit as error:
            code = error.code
        print()
        print(code, [name for name in {heavy!r} if name in sys.modules])
    """
    assert run_python(code, SITE).splitlines()[-1] == "0 []"


def test_the_help_of_the_module_imports_nothing_heavy():
    code = f"""
        import runpy, sys
        sys.argv = ["run", "--help"]
        try:
            runpy.run_module("bsm_core.run", run_name="__main__")
        except SystemExit as error:
            print()
            print(error.code, [name for name in {HEAVY!r} if name in sys.modules])
    """
    assert run_python(code).splitlines()[-1] == "0 []"


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"bsm {__version__}\n"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for command in (
        "run",
        "train",
        "import",
        "plugins",
        "inspect",
        "pack",
        "export",
        "convert",
        "compare",
        "doctor",
        "completion",
    ):
        assert f"\n    {command} " in out


@pytest.mark.parametrize("arguments", [["score"], ["inspect"], ["pack", "a"], ["convert", "a"], BOTH])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("run --job_type testing --no-such-flag", "bsm run"),
        ("convert a b --no-such-flag", "bsm convert"),
        ("clean --no-such-flag a", "bsm clean"),
        ("compare a b --no-such-flag", "bsm compare"),
        ("plugins --no-such-flag", "bsm plugins"),
        ("plugins check x --no-such-flag", "bsm plugins check"),
        ("plugins --no-such-flag check x", "bsm plugins"),
        ("--no-such-flag run --job_type testing", "bsm"),
    ],
)
def test_an_unknown_flag_prints_the_usage_of_its_command(arguments, command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"usage: {command} [-h]")
    assert f"\n{command}: error: unrecognized arguments: --no-such-flag" in error


def test_bsm_alone_prints_its_help(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: bsm [-h]")
    assert out.count("\n  bsm ") == 5


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu"], "'run'"),
        (["run", "--bacth-size", "3"], "--batch-size"),
        (["run", "--engine", "rya"], "'ray'"),
        (["plugins", "new", "stpe", "x"], "'step'"),
    ],
)
def test_a_misspelled_word_is_answered_with_the_one_that_is_meant(arguments, meant, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


# --log-format json


def last_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert lines
    return [json.loads(line) for line in lines][-1]


@pytest.mark.parametrize(
    "words", ["rnu", "run --limt 4", "inspect", "plugins new step", "run --engine spark", "run --limit"]
)
def test_wrong_usage_is_an_object_of_json(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--log-format", "json", *words.split()])
    assert caught.value.code == 2
    line = last_line(capsys)
    assert (line["level"], line["error"], line["where"]) == ("ERROR", "UsageError", None)
    assert line["fix"].startswith("see bsm ")


def test_wrong_usage_is_an_object_of_json_where_the_file_says_so(tmp_path, capsys):
    (tmp_path / "run.toml").write_text("log-format = 'json'")
    with pytest.raises(SystemExit):
        cli.main(["run", "--config", str(tmp_path / "run.toml"), "--limt", "4"])
    assert last_line(capsys)["what"] == "unrecognized arguments: --limt 4; did you mean --limit?"
    with pytest.raises(SystemExit):
        cli.main(["run", "--config", str(tmp_path / "run.toml"), "--log-format", "text", "--limt", "4"])
    assert capsys.readouterr().err.startswith("usage: ")


def test_an_unreadable_file_of_flags_is_an_object_of_json(tmp_path, capsys):
    assert cli.main(["run", "--log-format", "json", "--config", str(tmp_path / "no.toml")]) == 2
    assert last_line(capsys)["where"] == str(tmp_path / "no.toml")


def test_a_bug_is_an_object_of_json(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("bsm_core.scoring.job.clean", lambda output: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        cli.main(["clean", "out", "--log-format", "json"])
    sys.excepthook(caught.type, caught.value, caught.tb)
    line = last_line(capsys)
    assert line["message"] == "ZeroDivisionError: division by zero"
    assert line["traceback"].startswith("Traceback (most recent call last)")


# bsm run


def test_run_is_the_module_of_that_name(monkeypatch):
    given = []
    monkeypatch.setattr(run_command, "execute", lambda arguments: given.append(arguments) or 3)
    assert cli.main(["run", "--job_type", "testing", "--device", "2"]) == 3
    assert (given[0].job_type, given[0].device, given[0].batch_size) == ("testing", "2", None)


# bsm train


@pytest.fixture
def train(toy_site, tmp_path, quiet_log):
    """Runs ``bsm train`` on forty rows; gives its exit status."""
    (tmp_path / "config.json").write_text(json.dumps(training.CONFIG))
    training.labelled_rows().to_csv(tmp_path / "rows.csv", index=False)

    def run_it(*further):
        return cli.main(["train", *training_arguments(tmp_path), *further])

    return run_it


def training_arguments(folder):
    places = {"--config": "config.json", "--data": "rows.csv", "--output": "model"}
    return [word for flag, name in places.items() for word in (flag, str(folder / name))]


def test_train_writes_an_artifact_and_tells_of_each_epoch(train, tmp_path, capsys):
    assert train() == 0
    assert cli.main(["inspect", str(tmp_path / "model")]) == 0
    captured = capsys.readouterr()
    assert [line.split(" ", 2)[2].partition(":")[0] for line in captured.err.splitlines()] == [
        "label 0 is class 0 (prob_class_0)",
        "label 1 is class 1 (prob_class_1)",
        "training on 30 rows, validating on 10",
        "epoch 1",
        "epoch 2",
        "epoch 3",
        "the best epoch is 3",
        "on the validation rows, this model",
        "on the validation rows, the majority class",
        "report of the validation rows",
        "artifact",
    ]
    assert "epoch" not in captured.out


def test_set_beats_the_config_in_json_or_as_text(train, tmp_path):
    sets = ["max_epochs=1", 'text_processing_steps=["toy_tokens"]', "id_name=a=b", "monitor=f1", "text_input_ids_key="]
    assert train(*(word for one in sets for word in ("--set", one))) == 0
    config = json.loads((tmp_path / "model/hyperparameters.json").read_text())
    assert (config["max_epochs"], config["text_processing_steps"]) == (1, ["toy_tokens"])
    assert (config["id_name"], config["monitor"], config["text_input_ids_key"]) == ("a=b", "f1", "")


def test_rows_to_measure_on_may_be_a_table_of_their_own(train, tmp_path):
    training.labelled_rows(6).to_csv(tmp_path / "held.tsv", index=False, sep="\t")
    assert train("--validation", str(tmp_path / "held.tsv"), "--accelerator", "cpu") == 0
    metrics = json.loads((tmp_path / "model/training_metrics.json").read_text())
    assert metrics["rows"] == {"training": 40, "validation": 6}


@pytest.mark.parametrize(
    ("further", "code", "words"),
    [
        (["--set", "max_epochs=0", "--set", "lr=x"], 1, ["ConfigError: 2 problem(s)", "\n  max_epochs: ", "\n  lr: "]),
        (["--set", "max_epochs"], 2, ["UsageError: --set 'max_epochs' cannot be used", "KEY=VALUE"]),
        (["--set", "=3"], 2, ["UsageError: --set '=3' cannot be used"]),
        (["--set", "label_name=y"], 1, ["MissingColumnsError", "'y', wanted by config.label_name"]),
        (["--set", "model_class=toy_modl"], 1, ["UnknownModelClassError", "did you mean 'toy_model'"]),
        (["--data", "none.csv"], 1, ["NoInferenceDataError: no such file", "none.csv"]),
        (["--config", "none.json"], 1, ["ConfigError: the config cannot be read", "none.json"]),
        (["--output", "{0}/rows.csv/model"], 1, ["SinkError: could not be written: Not a directory", "rows.csv"]),
        (["--output", "{0}"], 2, ["UsageError: the output already exists"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_a_training_error_is_a_message_and_a_status(train, tmp_path, capsys, further, code, words):
    assert train(*(word.format(tmp_path) for word in further)) == code
    captured = capsys.readouterr()
    assert all(word in captured.err for word in words), captured.err
    assert "To fix: " in captured.err
    assert "Traceback" not in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "rows.csv"]


def test_an_interrupted_training_goes_on_where_it_was(train, tmp_path, capsys):
    code = """
import sys, time
from bsm_core import cli
from bsm_core.training.metrics import History

def wait(self, trainer, module, begin=History.on_train_epoch_start):
    if trainer.current_epoch == 2:
        print("waiting", flush=True)
        while True:  # signal.pause would wait for ever for a signal that came just before it
            time.sleep(0.01)
    begin(self, trainer, module)

History.on_train_epoch_start = wait
sys.exit(cli.main(sys.argv[1:]))
"""
    process = Running("-c", code, "train", *training_arguments(tmp_path))
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    status, said = process.finish()
    assert status == 130
    *lines, last = said.splitlines()
    assert last == "interrupted by SIGINT"
    assert [line.split(" ")[1] for line in lines] == [*["INFO"] * 5, "WARNING"]  # classes, rows, two epochs
    assert "run the same job again to resume" in lines[-1]
    assert not (tmp_path / "model").exists()
    assert train() == 0
    again = capsys.readouterr().err
    assert "resuming from" in again
    assert "epoch 2:" not in again
    assert "epoch 3:" in again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model", "model-report.html", "rows.csv"]


# bsm init


def test_init_prints_a_config_that_trains_and_tells_of_each_column(tmp_path, capsys):
    pytest.importorskip("bsm_plugins_models.text")
    training.labelled_rows(60).to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["init", "--data", str(tmp_path / "rows.csv"), "--label", "label", "--set", "max_epochs=1"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    config = tomllib.loads(captured.out)
    assert (config["label_name"], config["max_epochs"], config["model_class"]) == ("label", 1, "tabular")
    assert "channel" in captured.err
    assert "tells the label" in captured.err
    assert cli.main([*arguments, "--output", str(tmp_path / "c.toml"), "--quiet"]) == 0
    assert (tmp_path / "c.toml").read_text() == captured.out
    assert cli.main([*arguments, "--output", str(tmp_path / "c.toml")]) == 2
    assert "the output exists already" in capsys.readouterr().err
    places = ["--data", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "model")]
    assert cli.main(["train", "--config", str(tmp_path / "c.toml"), *places]) == 0
    assert cli.main(["init", *places[:2], "--label", "lable"]) == 1
    assert "'label'" in capsys.readouterr().err


# bsm inspect, pack, convert


def test_inspect(toy_artifact, capsys):
    assert cli.main(["inspect", str(toy_artifact), "--json"]) == 0
    assert CONFIG["model_class"] in json.dumps(json.loads(capsys.readouterr().out))
    assert cli.main(["inspect", str(toy_artifact)]) == 0
    assert "toy_model" in capsys.readouterr().out


def test_inspect_tells_by_its_status_that_something_is_lacking(toy_artifact, capsys):
    (toy_artifact / "hyperparameters.json").unlink()
    assert cli.main(["inspect", str(toy_artifact)]) == 1
    assert "hyperparameters.json" in capsys.readouterr().out


def test_inspect_scores_a_row_in_which_all_is_missing(toy_artifact, capsys, monkeypatch):
    import toy_bsm_model

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", lambda self, batch: self.head.bias)
    assert cli.main(["inspect", str(toy_artifact), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith(
        "ModelFailedError: model class 'toy_model' returned float32 [2] as logits, expected floats [1, 2]"
    )


def test_pack(toy_artifact, tmp_path, capsys):
    packed = tmp_path / "packed"
    assert cli.main(["pack", str(toy_artifact), str(packed), "--safe-only"]) == 0
    assert capsys.readouterr().out == f"{packed}\n"
    assert (packed / "model.safetensors").exists()
    assert not list(packed.glob("*.pkl"))


def test_inspect_lists_a_self_check_that_fails(toy_artifact, capsys):
    add_check(toy_artifact, toy_rows())
    assert cli.main(["inspect", str(toy_artifact)]) == 0
    assert "self-check\n  8 row(s), fp32 on cpu, " in capsys.readouterr().out
    change_impute(toy_artifact)
    assert cli.main(["inspect", str(toy_artifact), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith("SelfCheckError: the artifact returns other probabilities here")
    assert "features differ: 'amount'" in problem


def test_pack_stores_the_first_rows_of_a_table(toy_artifact, tmp_path):
    toy_rows().to_csv(tmp_path / "t.csv", index=False)
    toy_rows().to_parquet(tmp_path / "t.parquet")
    packed = [tmp_path / f"{i}.tar.gz" for i in range(3)]
    for archive, table in zip(packed, ["t.csv", "t.csv", "t.parquet"], strict=True):
        assert cli.main(["pack", str(toy_artifact), str(archive), "--data", str(tmp_path / table)]) == 0
    with unpacked(packed[0]) as folder:
        assert read_check_rows(folder).rows == toy_rows(8)[["amount", "channel", "chat"]].to_dict("records")
    assert packed[0].read_bytes() == packed[1].read_bytes() == packed[2].read_bytes()
    assert not (toy_artifact / "self_check.json").exists()


def test_pack_stores_rows_for_an_artifact_of_pickles(toy_artifact, tmp_path):
    for name in ("model.safetensors", "risk_table_map.json", "impute_dict.json"):
        (toy_artifact / name).unlink()
    toy_rows(3).to_csv(tmp_path / "t.csv", index=False)
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "new"), "--data", str(tmp_path / "t.csv")]) == 0
    assert len(read_check_rows(tmp_path / "new").rows) == 3


def test_pack_keeps_check_rows_that_hold_and_refuses_others(toy_artifact, tmp_path, capsys):
    add_check(toy_artifact, toy_rows())
    stored = (toy_artifact / "self_check.json").read_bytes()
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "good")]) == 0
    assert (tmp_path / "good/self_check.json").read_bytes() == stored
    change_impute(toy_artifact)
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "bad")]) == 1
    assert "SelfCheckError" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "unchecked"), "--no-self-check"]) == 0
    assert (tmp_path / "unchecked/self_check.json").read_bytes() == stored
    toy_rows(3).to_csv(tmp_path / "t.csv", index=False)
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "meant"), "--data", str(tmp_path / "t.csv")]) == 0
    assert cli.main(["inspect", str(tmp_path / "meant")]) == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (toy_rows(0), "DataError: there are no rows to check the artifact with"),
        (toy_rows(2)[["id", "chat"]], "MissingColumnsError: 2 column(s) are missing from the data"),
    ],
    ids=["none", "columns"],
)
def test_a_table_that_gives_no_check_rows_leaves_no_artifact(toy_artifact, tmp_path, capsys, rows, words):
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "new"), "--data", str(tmp_path / "t.csv")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_packing_without_check_rows_needs_no_plugin(toy_artifact, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BSM_PLUGINS", "")
    default_registry.cache_clear()
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / "new")]) == 0
    assert "UnknownModelClassError: no model class 'toy_model'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "busy"),
    [
        (["pack", "{0}/model", "{0}/new"], "bsm_core.artifact.save._complete"),
        (["pack", "{0}/model", "{0}/new.tar.gz"], "bsm_core.artifact.save._write_archive"),
        (["export", "{0}/model", "{0}/new"], "bsm_core.backends.export.export"),
        (["inspect", "{0}/model"], "bsm_core.scoring.self_check.check"),
        (["convert", "{0}/model", "{0}/new"], "bsm_core.tables.convert.convert"),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_message_and_a_status(toy_artifact, tmp_path, capsys, monkeypatch, command, busy, number):
    add_check(toy_artifact, toy_rows())
    monkeypatch.setattr(busy, lambda *_, **__: signal.raise_signal(number))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert cli.main([word.format(tmp_path) for word in command]) == 128 + number
    assert capsys.readouterr() == ("", f"interrupted by {number.name}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("run --job_type testing", ", or give --batch-size LESS or --window-rows LESS or --num-workers LESS"),
        ("pack a b", ", or set batch_size to LESS or num_workers to LESS in the config"),
        ("convert a b", ""),
        ("compare a b", ""),
    ],
)
def test_an_error_about_memory_names_what_the_command_has(monkeypatch, capsys, command, advice):
    def fail(*_, **__):
        raise MemoryError

    for name in ("scoring.job.run", "artifact.pack", "tables.convert.convert", "scoring.comparing.compare.compare"):
        monkeypatch.setattr(f"bsm_core.{name}", fail)
    assert cli.main(command.split()) in (1, 2)
    assert capsys.readouterr().err.endswith(f"To fix: raise the limit (ulimit -v){advice}\n")


@pytest.mark.parametrize("name", ["my model.tar.gz", " model.tar.gz", "my\nmodel.tar.gz", "m\udce9.tar.gz"])
def test_an_archive_may_have_any_name(toy_artifact, tmp_path, capsys, name):
    assert cli.main(["pack", str(toy_artifact), str(tmp_path / name)]) == 0
    assert (tmp_path / f"{name}.sha256").exists()
    assert cli.main(["inspect", str(tmp_path / name)]) == 0
    assert capsys.readouterr().err == ""


def test_convert(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("id,x\n007,1\n008,2\n")
    assert cli.main(["convert", str(tmp_path / "a.csv"), str(tmp_path / "b.tsv")]) == 0
    assert capsys.readouterr().out == f"2 rows: {tmp_path / 'b.tsv'}\n"
    assert (tmp_path / "b.tsv").read_text() == "id\tx\n007\t1\n008\t2\n"


def test_clean_names_the_folder(tmp_path, capsys):
    assert cli.main(["clean", str(tmp_path)]) == 0
    nothing = f"there is no work folder in {tmp_path}"
    assert capsys.readouterr().out == f"{nothing}, nor anything else of a run: is it the right one?\n"
    (tmp_path / "_SUCCESS-00001").touch()
    assert cli.main(["clean", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{nothing}\n"


def test_convert_a_file_of_another_dialect(tmp_path):
    (tmp_path / "a.csv").write_bytes('007|"é\\"x"'.encode("utf-16"))
    flags = ["--csv-delimiter", "|", "--csv-escape", "\\", "--csv-encoding", "utf-16"]
    flags += ["--csv-header", "none", "--csv-columns", "id,x"]
    assert cli.main(["convert", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), *flags]) == 0
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == 'id,x\n007,"é""x"\n'


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["convert", "{0}/none.csv", "{0}/b.tsv"],
            1,
            ["NoInferenceDataError: no such file", "none.csv", "check the path\n"],
        ),
        (["convert", "{0}/a.csv", "{0}/b.jsonl"], 1, ["DataError: a table cannot be written as .jsonl", ".pq"]),
        (["convert", "{0}/a.csv", "{0}/b.ndjson.gz"], 1, ["DataError: a table cannot be written as .ndjson.gz"]),
        (["convert", "{0}/bad.csv", "{0}/b.tsv"], 1, ["bad.csv, line 2", "double the quotes in it\n"]),
        (["convert", "{0}/wide.csv", "{0}/b.tsv"], 1, ["save the file as UTF-8, or give --csv-encoding utf-16\n"]),
        (
            ["compare", "{0}/wide.csv", "{0}/a.csv"],
            2,
            ["or convert the file first: bsm convert --csv-encoding utf-16 FILE plain.csv\n"],
        ),
        (
            ["pack", "{0}/model", "{0}/packed", "--data", "{0}/wide.csv"],
            1,
            ["save the file as UTF-8, or set csv_encoding to utf-16 in the config\n"],
        ),
        (
            ["pack", "{0}/model", "{0}/packed", "--data", "{0}/semicolons.csv"],
            1,
            ["a .tsv file needs tabs\n", "names, or set csv_delimiter to CHARACTER in the config\n"],
        ),
        (
            ["pack", "{0}/model", "{0}/packed", "--data", "{0}/rows.csv"],
            1,
            ["may be data and no header\n", "set csv_header to none and csv_columns to COLUMNS in the config\n"],
        ),
        (["pack", "{0}/model", "{0}/packed", "--data", "{0}/bad.csv"], 1, ["double the quotes in it\n"]),
        (["convert", "{0}/bad.jsonl", "{0}/b.tsv"], 1, ["bad.jsonl, line 1", "write one JSON object on each line\n"]),
        (["convert", "{0}/none.parquet", "{0}/b.tsv"], 1, ["DataError: the file has no columns", "none.parquet"]),
        (["clean", "{0}/no"], 2, ["UsageError: there is no such folder"]),
        (["clean", "{0}/a.csv"], 2, ["UsageError: this is a file, not a folder", "a.csv)"]),
        (["clean", "{0}/linked"], 2, ["the work folder is a link or a file", "remove the link or file\n"]),
        (["run", "--job_type", "testing", "--batch-size", "-1", "--output-dir", "{0}/out"], 2, ["see bsm run --help"]),
        (["convert", "{0}/a.csv", "{0}/a.csv"], 2, ["UsageError: a table cannot be written over itself"]),
        (["convert", "{0}/a.csv", "{0}/b.xls"], 1, ["DataError: not a data file", "b.xls", "the extensions are"]),
        (["convert", "{0}/a.csv", "{0}/a.csv/b.tsv"], 1, ["SinkError: could not be written", "a.csv/b.tsv"]),
        (
            ["convert", "{0}/a.csv", "{0}/no/b.tsv"],
            1,
            ["SinkError: could not be written: No such", "there is no folder", "no/b.tsv)"],
        ),
        (["pack", "{0}/none", "{0}/packed"], 1, ["MissingArtifactFilesError", "none"]),
        (["pack", "{0}/model", "{0}/a.csv/packed"], 1, ["SinkError: could not be written", "a.csv/packed"]),
    ],
)
def test_an_error_is_a_message_and_a_status(toy_artifact, tmp_path, capsys, arguments, code, words):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "bad.csv").write_text("id,amount,channel,chat\n1\n")
    (tmp_path / "wide.csv").write_text("id,x\n1,2\n", encoding="utf-16")
    (tmp_path / "semicolons.csv").write_text("id;x\n1;2\n")
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
    (tmp_path / "bad.jsonl").write_text("1\n")
    pq.write_table(pa.table({}), tmp_path / "none.parquet")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/.bsm").symlink_to(tmp_path)
    assert cli.main([argument.format(tmp_path) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(word in captured.err for word in words), captured.err
    assert "To fix: " in captured.err
    assert ".partial" not in captured.err


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "bsm_core.cli", "plugins"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SITE), "PYTHONUNBUFFERED": ""},  # the buffer is what fails late
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
