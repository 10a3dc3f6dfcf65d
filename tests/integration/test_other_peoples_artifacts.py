"""Artifacts as public bug reports describe them, made of a golden one: the same scores, or an error that helps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from bsm_core import Predictor
from bsm_core.errors import BSMError

GOLDENS = Path(__file__).parents[1] / "data/goldens"
ROWS = 12
Weights = dict[str, Tensor]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a golden artifact, with its weights in ``model.pth`` alone."""
    return Path(shutil.copytree(GOLDENS / "bimodal_bert/model", tmp_path / "model"))


def largest_difference(path: Path) -> float:
    """Return the largest difference of a score from the golden one."""
    rows = pd.read_csv(GOLDENS / "golden.csv", dtype=str, keep_default_na=False, nrows=ROWS)
    expected = pd.read_parquet(GOLDENS / "bimodal_bert/expected.parquet").head(ROWS)
    got = Predictor.from_artifact(path, device="cpu").predict(rows)
    return float((got - expected[got.columns].set_index(got.index)).abs().to_numpy().max())


def with_weights(model: Path, change: Callable[[Weights], Any]) -> None:
    path = model / "model.pth"
    torch.save(change(torch.load(path, weights_only=True)), path)


def renamed(change: Callable[[str], str]) -> Callable[[Weights], Weights]:
    return lambda weights: {change(name): value for name, value in weights.items()}


def old_layer_norms(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def in_fsdp(name: str) -> str:
    return "_fsdp_wrapped_module." + name.replace(".layer.", ".layer._checkpoint_wrapped_module._fsdp_wrapped_module.")


def beside(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: torch.ones(2) for name in names}


def with_copy(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {prefix + name: value + 1 for name, value in weights.items()}


CHECKPOINTS: dict[str, Callable[[Weights], Any]] = {
    "Lightning-AI/pytorch-lightning#2617, a loss with state": beside("criterion.pos_weight"),
    "Lightning-AI/pytorch-lightning#4666, metrics": beside("val_confusion_matrix.confmat", "test_recall.tp"),
    "Lightning-AI/pytorch-lightning#20233, a compiled part of a LightningModule": renamed("model._orig_mod.{}".format),
    "Lightning-AI/pytorch-lightning#17415, compiled submodules": renamed(lambda n: n.replace(".", "._orig_mod.", 1)),
    "chemprop/chemprop#1088, metrics with weights": beside("metrics.0.task_weights"),
    "MeteoSwiss/ldcast#12, LitEma": lambda w: w | {f"model_ema.{n.replace('.', '')}": v + 1 for n, v in w.items()},
    "FareedKhan-dev/train-llm-from-scratch#36, DDP of a compiled model": renamed("module._orig_mod.{}".format),
    "huggingface/transformers, LayerNorm of TensorFlow": renamed(old_layer_norms),
    "pytorch/pytorch, FSDP with activation checkpointing": renamed(in_fsdp),
    "averaged copy": with_copy("ema_model.module."),
    "model_state_dict, optimizer": lambda w: {"model_state_dict": w, "optimizer_state_dict": {"state": {}}, "epoch": 1},
    "state_dict in float16": lambda w: {"state_dict": {name: value.half() for name, value in w.items()}},
    "state_dict in bfloat16": lambda w: {"model": {name: value.bfloat16() for name, value in w.items()}},
}


@pytest.mark.parametrize("change", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints(model, change, request):
    with_weights(model, change)
    half = "float16" in request.node.name
    assert largest_difference(model) < (0.05 if half else 1e-5)


def packed(model: Path, *flags: str, around: str = "") -> Path:
    """Pack the artifact with the ``tar`` of the system, as users do."""
    folder = model
    if around:
        folder = model.parent / "packed"
        folder.mkdir()
        model.rename(folder / around)
    target = model.parent / "model.tar.gz"
    subprocess.run(["tar", "-C", str(folder), "-czf", str(target), *flags, "."], check=True)
    return target


def test_pytorch_serve_2405_a_folder_around_the_model(model):
    (model / "MAR-INF").mkdir()
    (model / "MAR-INF/MANIFEST.json").write_text("{}")
    assert largest_difference(packed(model, around="mnist_scripted_v2")) < 1e-5


def test_sagemaker_python_sdk_3491_code_and_its_libraries_beside_the_model(model):
    library = model / "code/lib"
    library.mkdir(parents=True)
    (library / "link").symlink_to("/usr/lib")
    for number in range(300):
        (library / f"module_{number}.py").touch()
    (model / "code/model.pth").write_bytes(b"another")
    assert largest_difference(packed(model)) < 1e-5


def test_sagemaker_python_sdk_831_code_in_the_folder_of_the_model(model):
    (model / "code").mkdir()
    (model / "code/requirements.txt").write_text("x")
    assert largest_difference(packed(model, around="002")) < 1e-5


def test_mantiumai_aws_sagemaker_gptj_5_links_of_the_hub_cache(model):
    (model / "model.pth").rename(model.parent / "blob")
    (model / "model.pth").symlink_to("../blob")
    with pytest.raises(BSMError, match=r"'./model\.pth' is neither a plain file") as caught:
        largest_difference(packed(model))
    assert "--dereference" in str(caught.value)
    assert str(model.parent / "model.tar.gz") in str(caught.value)
    assert largest_difference(packed(model, "--dereference")) < 1e-5


def test_a_file_with_two_names(model):
    (model / "checkpoints").mkdir()
    os.link(model / "model.pth", model / "checkpoints/last.ckpt")
    assert largest_difference(packed(model, "--sort=name")) < 1e-5
    with tarfile.open(model.parent / "model.tar.gz") as tar:
        assert [member.name for member in tar if member.islnk()] == ["./model.pth"]


def replaced(model: Path, *names: str) -> None:
    (model / "model.pth").unlink()
    for name in names:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"x")


ERRORS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "huggingface/transformers#27923, microsoft/OmniParser#34": (
        lambda model: (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x\n"),
        "git lfs pull",
    ),
    "Lightning-AI/pytorch-lightning#15834": (
        lambda model: replaced(model, "epoch=1.ckpt/checkpoint/bf16_zero_pp_rank_4_mp_rank_00_optim_states.pt"),
        "convert('epoch=1.ckpt', 'weights.pth')",
    ),
    "deepspeedai/DeepSpeed#7388": (lambda model: replaced(model, "mp_rank_00_model_states.pt"), "DeepSpeed checkpoint"),
    "google-deepmind/gemma#8": (lambda model: replaced(model, "model.safetensors.index.json"), "sharded"),
    "aws/sagemaker-huggingface-inference-toolkit#9": (
        lambda model: replaced(model, "squad_tf/tf_model.h5"),
        "weights of another framework",
    ),
    "pytorch/pytorch, torch.distributed.checkpoint": (
        lambda model: replaced(model, "step-10/__0_0.distcp", "step-10/.metadata"),
        "dcp_to_torch step-10 weights.pth",
    ),
}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(("change", "words"), ERRORS.values(), ids=ERRORS)
def test_errors(model, change, words, archived):
    change(model)
    with pytest.raises(BSMError) as caught:
        largest_difference(packed(model) if archived else model)
    assert words in str(caught.value)
    assert "bsm-artifact-" not in str(caught.value)  # of the temporary folder


def with_settings(model: Path, **settings: Any) -> None:
    path = model / "tokenizer/tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_huggingface_transformers_45812_another_class_than_the_tokenizer_was_made_with(model, caplog):
    path = model / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}]}
    path.write_text(json.dumps(content))
    largest_difference(model)
    [line] = [line for line in caplog.messages if "AutoTokenizer" in line]
    assert "otherwise than tokenizer.json does" in line
    assert '"tokenizer_class": "PreTrainedTokenizerFast"' in line
    caplog.clear()
    with_settings(model, tokenizer_class="PreTrainedTokenizerFast")
    largest_difference(model)
    assert not [line for line in caplog.messages if "AutoTokenizer" in line]


def test_huggingface_transformers_17675_a_setting_that_is_ignored(model, caplog):
    lower = json.loads((model / "tokenizer/tokenizer.json").read_text())["normalizer"]["lowercase"]
    with_settings(model, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=not lower)
    assert largest_difference(model) < 1e-5
    assert any(
        f"has do_lower_case: {str(not lower).lower()}, and AutoTokenizer ignores it" in line for line in caplog.messages
    )


def test_dmis_lab_biobert_24_a_class_that_lowers_unless_it_is_told_not_to(model, caplog):
    path = model / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = {**content["normalizer"], "lowercase": False}
    path.write_text(json.dumps(content))
    settings = json.loads((model / "tokenizer/tokenizer_config.json").read_text())
    settings.pop("do_lower_case", None)
    (model / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    assert largest_difference(model) < 1e-5  # as AutoTokenizer makes it: in lower case
    assert any("otherwise than tokenizer.json does" in line for line in caplog.messages)
