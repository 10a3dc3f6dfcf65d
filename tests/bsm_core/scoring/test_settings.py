from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import Settings
from bsm_core.errors import BSMError, ConfigError, UsageError
from bsm_core.scoring import job
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.settings import sources

FLAGS = {"job_type": "inference"}

# setting: what a flag, a variable, the artifact and the default give (text as typed, then the value), where they can.
LAYERS = {
    "id_field": [("a", "a"), ("b", "b"), None, None],
    "model_dir": [("/a", Path("/a")), None, None, Path("/opt/ml/processing/input/model")],
    "data_dir": [("/a", Path("/a")), None, None, Path("/opt/ml/processing/input/inference_data")],
    "limit": [("7", 7), None, None, None],
    "output_dir": [("/a", Path("/a")), None, None, Path("/opt/ml/processing/output/predictions")],
    "output_format": [("csv", "csv"), ("tsv", "tsv"), ("parquet", "parquet"), None],
    "predicted_class": [(True, True), ("true", True), None, False],
    "keep_columns": [("a,b", ("a", "b")), None, None, ()],
    "emit": [("Embeddings", "embeddings"), ("embeddings", "embeddings"), None, None],
    "device": [("2", 2), ("[0,1]", (0, 1)), ("gpu", "gpu"), "auto"],
    "devices": [("2", 2), None, None, None],
    "engine": [("Ray", "ray"), None, None, "local"],
    "ray_address": [("a:6379", "a:6379"), ("auto", "auto"), None, None],
    "num_actors": [("2", 2), None, None, None],
    "shard": [("0/3", Shard(0, 3)), ("2/3", Shard(2, 3)), None, None],
    "accelerator": [("cpu", "cpu"), ("gpu", "gpu"), ("cpu", "cpu"), "auto"],
    "precision": [("bf16", "bf16"), ("int8", "int8"), None, "auto"],
    "backend": [("Eager", "eager"), None, None, "auto"],
    "num_workers": [("2", 2), ("3", 3), (4, 4), None],
    "window_rows": [("2", 2), None, None, 4096],
    "report": [("a.html", Path("a.html")), ("B.HTM", Path("B.HTM")), None, None],
    "row_issues": [("a.csv", Path("a.csv")), ("b.parquet", Path("b.parquet")), None, None],
    "max_cell_mb": [("2", 2), ("3", 3), None, 16],
    "max_bad_rows": [("2", 2), None, None, "50%"],
    "on_bad_row": [("null", "null"), None, None, "fail"],
    "on_bad_line": [("skip", "skip"), None, None, "fail"],
    "csv_delimiter": [(";", ";"), None, ("|", "|"), None],
    "csv_escape": [("\\", "\\"), None, ("'", "'"), None],
    "csv_encoding": [("Latin-1", "iso8859-1"), None, ("cp1252", "cp1252"), None],
    "csv_header": [("none", "none"), None, ("none", "none"), "first"],
    "csv_columns": [("a,b", ("a", "b")), None, (["a,b", "c"], ("a,b", "c")), None],
    "csv_decimal": [(",", ","), None, (",", ","), None],
    "csv_thousands": [(" ", " "), None, ("'", "'"), None],
    "resume": [("never", "never"), ("Require", "require"), None, "auto"],
    "run_record": [(True, True), None, None, False],
    "profile": [(True, True), None, None, False],
    "self_check": [(False, False), None, None, True],
    "allow_downloads": [(True, True), None, None, False],
    "strict": [(True, True), None, None, False],
}


def resolve(env=None, artifact=None, **flags):
    return Settings.resolve({**FLAGS, **flags}, env or {}).with_artifact(artifact or {})


def refused(env=None, artifact=None, kind=UsageError, **flags):
    with pytest.raises(kind) as caught:
        resolve(env, artifact, **flags)
    return caught.value


# Precedence


def test_every_setting_is_in_the_table_of_layers():
    assert set(LAYERS) | {"job_type", "batch_size"} == set(sources())
    for name, (_, env, artifact, _) in LAYERS.items():
        assert (sources()[name].env is None) == (env is None)
        assert sources()[name].in_artifact == (artifact is not None)


@pytest.mark.parametrize("name", LAYERS)
def test_a_flag_beats_the_variable_which_beats_the_artifact_which_beats_the_default(name):
    flag, env, artifact, default = LAYERS[name]
    flags = {name: flag[0]}
    variables = {sources()[name].env: env[0]} if env else {}
    config = {name: artifact[0]} if artifact else {}
    assert getattr(resolve(variables, config, **flags), name) == flag[1]
    if env:
        assert getattr(resolve(variables, config), name) == env[1]
    if artifact:
        assert getattr(resolve({}, config), name) == artifact[1]
    assert getattr(resolve({}, {}), name) == default


def test_batch_size_alone_yields_to_the_artifact():
    env, artifact = {"BATCH_SIZE": "8"}, {"batch_size": 16}
    assert resolve(env, artifact, batch_size="4").batch_size == 4
    assert resolve(env, artifact).batch_size == 16
    assert resolve(env, {}).batch_size == 8
    assert resolve({}, artifact).batch_size == 16
    assert resolve(env, {"batch_size": None}).batch_size == 8
    assert resolve().batch_size == 32


def test_an_empty_variable_is_not_set():
    empty = {source.env: "" for source in sources().values() if source.env}
    assert resolve(empty) == resolve()
    assert resolve(empty, {"num_workers": 2}).num_workers == 2


def test_the_artifact_sets_only_what_it_may():
    config = {"id_field": "x", "model_dir": "/x", "window_rows": 7, "keep_columns": ["x"], "lr": 1}
    config |= {"run_record": True, "self_check": False, "strict": True}
    assert resolve({}, config) == resolve()


# DEVICE, by the contract's table and beyond it

FORMS = {
    "auto": "auto",
    "cpu": "cpu",
    "gpu": "gpu",
    "cuda": "gpu",
    " CUDA ": "gpu",
    "Auto": "auto",
    "1": 1,
    " 4 ": 4,
    "[0]": (0,),
    "[0,2,3]": (0, 2, 3),
    "[ 3, 0 ]": (3, 0),
}
NOT_FORMS = [
    *("0", "-1", "01", "1.5", "1e3", "two", "gpu:0", "cuda:0", "0,1", "(0,1)", "[]", "[0,0]", "[-1]", "[0,true]"),
    *("true", "null", "NaN", "{}", '"gpu"', "[[0]]", "[0", "  ", "9" * 5000),
]


@pytest.mark.parametrize("text", FORMS)
def test_a_device(text):
    assert resolve({"DEVICE": text}).device == resolve(device=text).device == FORMS[text]


@pytest.mark.parametrize("value", [1, 4, [0, 2], (0, 2), "gpu"])
def test_a_device_as_a_caller_or_an_artifact_gives_it(value):
    expected = tuple(value) if isinstance(value, list) else value
    assert resolve(device=value).device == resolve({}, {"device": value}).device == expected


@pytest.mark.parametrize("text", NOT_FORMS)
def test_no_device(text):
    error = refused({"DEVICE": text})
    assert error.exit_code == 2
    (detail,) = error.details
    assert detail.startswith("DEVICE: ")
    assert f"(it is {text!r}"[:60] in detail


@pytest.mark.parametrize("value", [True, 0, 1.0, [True], [0.0], {"gpu": 1}])
def test_no_device_as_a_caller_gives_it(value):
    assert refused(device=value).details[0].startswith("--device: ")


def test_a_gpu_twice_is_said_to_be_so():
    assert "names a GPU twice" in str(refused({"DEVICE": "[1,1]"}))


@given(st.text())
def test_any_text_is_a_device_or_a_usage_error(text):
    try:
        device = resolve(device=text).device
    except UsageError:
        return
    assert device in ("auto", "cpu", "gpu") or isinstance(device, int | tuple)


@pytest.mark.parametrize("text", ["parquet", "Parquet", "PARQUET", " parquet "])
def test_an_output_format_in_any_case(text):
    given = resolve({"OUTPUT_FORMAT": text}), resolve(output_format=text), resolve({}, {"output_format": text})
    assert [settings.output_format for settings in given] == ["parquet"] * 3


@pytest.mark.parametrize("text", ["gpu", "GPU", "Gpu", " gpu "])
def test_an_accelerator_in_any_case(text):
    given = resolve({"ACCELERATOR": text}), resolve(accelerator=text), resolve({}, {"accelerator": text})
    assert [settings.accelerator for settings in given] == ["gpu"] * 3


# What cannot be used


def test_all_problems_at_once_each_with_its_flag_or_variable():
    env = {"DEVICE": "many", "ACCELERATOR": "tpu", "BATCH_SIZE": "0", "NUM_WORKERS": "-1", "OUTPUT_FORMAT": "json"}
    error = refused(env, num_workers="x", window_rows="0", devices="0", job_type="training")
    assert error.exit_code == 2
    assert {detail.split(": ")[0] for detail in error.details} == {
        *("DEVICE", "ACCELERATOR", "BATCH_SIZE", "OUTPUT_FORMAT"),
        *("--num-workers", "--window-rows", "--devices", "--job_type"),
    }
    assert "(it is 'many')" in str(error)
    assert "(it is 'x')" in str(error)


def test_the_kind_of_job_is_inference_unless_it_is_given():
    assert Settings.resolve({}, {}).job_type == "inference"
    assert Settings.resolve({"job_type": "testing"}, {}).job_type == "testing"


def test_a_file_beats_the_variable_and_a_flag_beats_the_file():
    env, file = {"BATCH_SIZE": "8", "DEVICE": "gpu"}, {"batch_size": (16, "run.toml: batch-size")}
    assert Settings.resolve({}, env, file).with_artifact({"batch_size": 64}).batch_size == 16
    assert Settings.resolve({"batch_size": "4"}, env, file).batch_size == 4
    assert Settings.resolve({}, env, file).device == "gpu"
    with pytest.raises(UsageError, match="settings that cannot be used") as caught:
        Settings.resolve({}, {}, {"batch_size": ("many", "run.toml: batch-size")})
    assert "run.toml: batch-size: " in str(caught.value)


@pytest.mark.parametrize("job_type", ["inference", "validation", "testing"])
def test_job_types(job_type):
    assert resolve(job_type=job_type).job_type == job_type


def test_a_value_of_the_artifact_that_cannot_be_used_is_the_artifacts_error():
    error = refused({}, {"device": "cuda:0", "num_workers": "some", "batch_size": 0}, kind=ConfigError)
    assert error.exit_code == 1
    assert {detail.split(": ")[0] for detail in error.details} == {
        *("config.device", "config.num_workers", "config.batch_size")
    }


def test_flags_and_variables_are_checked_before_the_artifact_is_read():
    refused({"BATCH_SIZE": "0"}, {"batch_size": 16})


def test_what_was_set_is_not_lost_with_the_layer_of_the_artifact():
    settings = resolve({"DEVICE": "[1,0]"}, {"batch_size": 16}, keep_columns="a,b", data_dir="/x")
    assert (settings.device, settings.keep_columns, settings.data_dir) == ((1, 0), ("a", "b"), Path("/x"))
    assert settings.with_artifact({"device": "cpu", "batch_size": 8, "num_workers": 3}).device == (1, 0)


def test_a_better_layer_hides_what_the_artifact_says_wrong():
    assert resolve({"DEVICE": "cpu"}, {"device": "cuda:0"}).device == "cpu"


def test_a_setting_that_does_not_exist():
    error = refused(batch_sise=4, zzz=1)
    assert "'batch_sise'; did you mean 'batch_size'?" in str(error)
    assert "'zzz'" in error.details
    assert "num_workers" in error.fix


@pytest.mark.parametrize(
    ("env", "artifact", "flags", "where"),
    [
        ({}, {}, {"device": "2"}, "--devices and --device"),
        ({"DEVICE": "2"}, {}, {}, "--devices and DEVICE"),
        ({"DEVICE": "[0,5]"}, {}, {}, "--devices and DEVICE"),
        ({}, {"device": 2}, {}, "--devices and config.device"),
    ],
)
def test_a_number_of_processes_that_contradicts_the_gpus(env, artifact, flags, where):
    error = refused(env, artifact, devices="3", **flags)
    assert error.details == (f"{where}: 3 process(es) contradict 2 GPU(s)",)


def test_a_number_of_processes_that_contradicts_nothing():
    assert resolve(devices="2", device="2").devices == 2
    assert resolve(devices="2", device="[4,5]").devices == 2
    assert resolve(devices="2", device="gpu").devices == 2
    assert resolve(devices="3", device="2", accelerator="cpu").devices == 3  # which beats the device


# The rest


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        *[("a", ("a",)), ("b,a", ("b", "a")), ("all", ("all",)), ("", ()), ("a,,b,", ("a", "b"))],
        *[("a b, c", ("a b", " c")), ('a,"b, c",d', ("a", "b, c", "d")), ('"say ""hi""",5"', ('say "hi"', '5"'))],
    ],
)
def test_keep_columns(given, columns):
    assert resolve(keep_columns=given).keep_columns == columns


def test_keep_columns_as_a_caller_gives_them():
    assert resolve(keep_columns=["a,b", "c"]).keep_columns == ("a,b", "c")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        resolve().batch_size = 3


def test_an_unknown_precision_is_refused_with_those_there_are():
    assert "should be one of auto, fp32, bf16, fp16, int8" in str(refused(precision="fp8"))
    assert resolve(precision="BF16").precision == "bf16"


def test_settings_made_from_values_keep_them_beside_an_artifact():
    settings = Settings(job_type="testing", num_workers=3).with_artifact({"num_workers": 5, "output_format": "tsv"})
    assert (settings.job_type, settings.num_workers, settings.output_format) == ("testing", 3, "tsv")


ODD = (3, True, [1], {}, {"a": 1}, ["a.csv"], [0, 2, "x", {}], 1.5, float("inf"), "a\0b")


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("model_dir", "data_dir")] + ["job_type"])
def test_a_value_of_another_type_is_an_error_for_people(name, tmp_path):
    """The settings alone are at fault, or the artifact, which is not there."""
    places = {each: str(tmp_path / each) for each in ("model_dir", "data_dir", "output_dir")}
    for value in ODD:
        for file in ({}, {name: (value, "run.toml: key")}):
            flags = {**places, "id_field": "id", **({} if file else {name: value})}
            if file:
                flags.pop(name, None)
            with pytest.raises(BSMError):
                job.run(flags, {}, file)


@pytest.mark.parametrize("name", ["model_dir", "data_dir", "output_dir"])
def test_a_place_that_is_no_text_is_an_error_for_people(name, tmp_path):
    places = {each: str(tmp_path / each) for each in ("model_dir", "data_dir", "output_dir")}
    for value in (3, True, [1], {"a": 1}, ["a.csv"], 1.5, "a\0b"):
        with pytest.raises(UsageError, match=r"--\w+-dir: "):
            job.run({**places, name: value}, {})


@pytest.mark.parametrize("name", sources())
def test_a_truth_value_is_no_number_and_a_number_is_no_truth_value(name):
    is_flag = Settings.model_fields[name].annotation is bool
    for value in (0, 1, 1.0) if is_flag else (True, False):
        with pytest.raises(UsageError, match="true or false"):
            Settings.resolve({name: value}, {})
