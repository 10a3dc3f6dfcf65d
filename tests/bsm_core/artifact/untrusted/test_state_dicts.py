from __future__ import annotations

import logging
import time

import pytest
import safetensors.torch
import torch
from support.artifacts import state_dict
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from bsm_core.artifact.untrusted.state_dicts import check_dtypes, find_state_dict, fit_weights, strip_prefixes
from bsm_core.errors import CorruptArtifactError, WeightsMismatchError

WEIGHTS = state_dict()
SHAPES = {name: value.shape for name, value in WEIGHTS.items()}


def under(prefix: str, weights: dict[str, torch.Tensor] = WEIGHTS) -> dict[str, torch.Tensor]:
    """The weights, under names with a prefix."""
    return {prefix + name: value for name, value in weights.items()}


# The state dict in a checkpoint


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_has_its_state_dict_under_a_known_name(name):
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = {name: WEIGHTS, "optimizer_state_dict": optimizer, "epoch": 3, "scaler": None}
    assert find_state_dict(checkpoint, "model.pth") == WEIGHTS


def test_two_state_dicts_are_not_chosen_from():
    with pytest.raises(CorruptArtifactError, match="more than one state dict") as caught:
        find_state_dict({"model": WEIGHTS, "state_dict": WEIGHTS}, "model.pth")
    assert caught.value.details == ("found: state_dict", "found: model")


def test_an_averaged_copy_beside_the_weights_is_said(caplog):
    assert find_state_dict({"model": WEIGHTS, "model_ema": under("module.")}, "model.pth") == WEIGHTS
    assert "the weights of 'model' are used, not those of 'model_ema'" in caplog.text


def test_a_state_dict_under_another_name_is_named():
    with pytest.raises(CorruptArtifactError, match="neither a state dict") as caught:
        find_state_dict({"epoch": 3, "net": WEIGHTS}, "model.pth")
    assert "torch.load('model.pth', map_location='cpu')['net'], 'weights.pth')" in caught.value.fix


@pytest.mark.parametrize("name", ["`touch pwned`", "$(id)", "a'b", 'a"b', "a b", "-rf", "a\\b", "a;b", "ü"])
def test_a_name_that_a_shell_could_run_is_in_no_command(name):
    with pytest.raises(CorruptArtifactError) as caught:
        find_state_dict({"epoch": 3, name: WEIGHTS}, "model.pth")
    assert name not in caught.value.fix.partition("`python")[2]
    assert "['NAME']" in caught.value.fix


def test_extra_state_that_is_none_is_left_out():
    assert find_state_dict({**WEIGHTS, "layer._extra_state": None}, "model.pth") == WEIGHTS


@pytest.mark.parametrize("name", ["_flat_param", "_fsdp_wrapped_module.flat_param", "encoder._flat_param"])
def test_flat_parameters_of_fsdp_are_named(name):
    with pytest.raises(CorruptArtifactError, match="flat parameters of FSDP") as caught:
        find_state_dict({name: torch.ones(3)}, "model.pth")
    assert "state_dict_type='full'" in caught.value.fix


# Prefixes of wrappers


@pytest.mark.parametrize(
    ("key", "bare"),
    [
        ("a.weight", "a.weight"),
        ("module.a.weight", "a.weight"),
        ("module.module.a.weight", "a.weight"),
        ("_orig_mod.a.weight", "a.weight"),
        ("_forward_module.module._orig_mod.a.weight", "a.weight"),
        ("module._orig_mod._forward_module.a", "a"),
        ("encoder._orig_mod.layer.weight", "encoder.layer.weight"),
        ("encoder.module.weight", "encoder.module.weight"),
        ("my_module.weight", "my_module.weight"),
        ("modules.weight", "modules.weight"),
        ("_fsdp_wrapped_module.a.weight", "a.weight"),
        ("_fsdp_wrapped_module.a._checkpoint_wrapped_module._fsdp_wrapped_module.b", "a.b"),
        ("module._fsdp_wrapped_module._orig_mod.a._orig_mod.b", "a.b"),
    ],
)
def test_prefixes_of_wrappers_are_stripped(key, bare):
    assert strip_prefixes(key) == bare


def test_every_misfit_is_listed():
    weights = {"a": torch.ones(2), "b": torch.ones(3), "x": torch.ones(1)}
    expected = {"a": torch.Size([2]), "b": torch.Size([4]), "c": torch.Size([5])}
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights(weights, expected)
    assert caught.value.details == ("missing: c [5]", "unexpected: x [1]", "shape: b is [3], the model has [4]")


def test_optional_keys_may_be_lacking_on_either_side_but_not_differ_in_shape():
    a, loss = torch.ones(2), torch.ones(3)
    assert fit_weights({"a": a}, {"a": a.shape, "loss": loss.shape}, ["loss"]).keys() == {"a"}
    assert fit_weights({"a": a, "loss": loss}, {"a": a.shape}, ["loss"]).keys() == {"a"}
    with pytest.raises(WeightsMismatchError, match="shape: loss"):
        fit_weights({"a": a, "loss": loss}, {"a": a.shape, "loss": a.shape}, ["loss"])


@pytest.mark.parametrize("key", ["bert.embeddings.position_ids", "embeddings.position_ids"])
def test_position_ids_of_older_transformers_are_ignored(key):
    ids = torch.arange(3)
    assert fit_weights({key: ids}, {}) == {}
    assert fit_weights({}, {key: ids.shape}) == {}
    with pytest.raises(WeightsMismatchError):
        fit_weights({f"{key}.more": ids}, {})


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.net.", "classifier_module."])
def test_one_common_prefix_is_left_out_and_said(caplog, prefix):
    caplog.set_level(logging.INFO)
    assert fit_weights(under(prefix), SHAPES) == WEIGHTS
    assert caplog.messages == [f"the names of all weights begin with {prefix!r}, which is left out"]


def test_a_prefix_that_does_not_make_everything_fit_is_none():
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights(under("model.") | {"model.more": torch.ones(1)}, SHAPES)
    assert caught.value.details == ("unexpected: model.more [1]",)  # and not that every name is another one
    with pytest.raises(WeightsMismatchError):
        fit_weights(under("model.") | {"model.head.bias": torch.ones(3)}, SHAPES)
    with pytest.raises(WeightsMismatchError):
        fit_weights({"model.encoder.weight": WEIGHTS["encoder.weight"], "head.bias": WEIGHTS["head.bias"]}, SHAPES)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_prefix_of_all_names_of_a_model_may_be_lacking(caplog, prefix):
    caplog.set_level(logging.INFO)
    expected = {f"text.inner.{name}": shape for name, shape in SHAPES.items()} | {"loss_op.weight": torch.Size([2])}
    found = fit_weights(under(prefix), expected, ["loss_op.weight"])
    assert found == {f"text.inner.{name}": value for name, value in WEIGHTS.items()}
    of_class = "those of the model class begin"
    told = {
        "": f"the names of all weights lack 'text.inner.', with which {of_class}",
        "model.": f"the names of all weights begin with 'model.' where {of_class} with 'text.inner.'",
    }
    assert caplog.messages == [told[prefix]]


def test_a_misfit_is_listed_under_the_nearest_prefixes():
    expected = {f"text.{name}": shape for name, shape in SHAPES.items()}
    weights = under("model.") | {"model.head.bias": torch.ones(7), "other": torch.ones(1)}
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights(weights, expected)
    (size,) = SHAPES["head.bias"]
    assert caught.value.details == (
        "unexpected: other [1]",
        f"shape: text.head.bias is [7], the model has [{size}]",
    )


def test_weights_that_the_model_lacks_are_passed_over_where_they_may_be(caplog):
    weights = under("") | {"pooler.weight": torch.ones(1)}
    assert fit_weights(weights, SHAPES, surplus=True) == WEIGHTS
    assert caplog.messages == ["weights that the model has no place for are passed over: 'pooler.weight'"]
    with pytest.raises(WeightsMismatchError, match="1 place"):
        fit_weights(under("") | {"head.bias": torch.ones(7)}, SHAPES, surplus=True)


def test_weights_under_two_prefixes_are_not_chosen_from():
    with pytest.raises(WeightsMismatchError):
        fit_weights(under("student.") | under("other."), SHAPES)


@pytest.mark.parametrize("key", ["{}.encoder.weight", "a{}.head.bias", "{}.metrics.x.encoder.weight", "loss.{}"])
def test_many_prefixes_take_no_time(key):
    weights = {key.format(number): torch.ones(1) for number in range(20_000)}
    started = time.process_time()
    with pytest.raises(WeightsMismatchError):
        fit_weights(weights, SHAPES)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("prefix", ["model.", "model.model."])
def test_a_prefix_is_found_among_many(prefix):
    many = {f"loss.{number}.encoder.weight": torch.ones(1) for number in range(100)}
    assert fit_weights(many | under(prefix), SHAPES) == WEIGHTS


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [(2,), None])
def test_a_prefix_is_found_among_larger_modules_of_the_training(shape, last):
    many = {}
    for number in range(20):
        like = {name: value if shape is None else torch.ones(shape) for name, value in WEIGHTS.items()}
        many |= under(f"loss.{number}.", like | {"extra": torch.ones(1)})
    assert fit_weights(many | under("model.") if last else under("model.") | many, SHAPES) == WEIGHTS


# What belongs to the training


@pytest.mark.parametrize(
    "name",
    [
        "criterion.weight",
        "model.criterion.pos_weight",
        "loss_fn.weight",
        "focal_loss.alpha",
        "val_auroc.preds",
        "train_metrics.BinaryAccuracy.tp",
        "metrics.MulticlassF1Score.confmat",
        "val_f1.tp",
        "test_confusion_matrix.confmat",
        "n_averaged",
        "pos_weight",
        "class_weights",
        "ema_model.module.encoder.weight",
        "model_ema.encoderweight",
        "model_ema.decay",
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_state_of_the_training_is_passed_over_with_a_warning(caplog, name, prefix):
    assert fit_weights(under(prefix) | {name: torch.ones(7)}, SHAPES) == WEIGHTS
    assert [f"are passed over: {name!r}" in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("name", ["encoder.layer.7.weight", "lossy.weight", "accumulator.weight", "head.weight"])
def test_anything_else_beside_the_weights_is_an_error(name):
    with pytest.raises(WeightsMismatchError, match=f"unexpected: {name}"):
        fit_weights(WEIGHTS | {name: torch.ones(7)}, SHAPES)


def test_nothing_is_passed_over_where_weights_are_missing():
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights({"head.bias": WEIGHTS["head.bias"], "criterion.weight": torch.ones(7)}, SHAPES)
    assert caught.value.details == ("missing: encoder.weight [3, 4]", "unexpected: criterion.weight [7]")


def test_averaged_weights_alone_are_used(caplog):
    caplog.set_level(logging.INFO)
    assert fit_weights(under("ema_model."), SHAPES) == WEIGHTS
    assert "begin with 'ema_model.'" in caplog.text


def test_the_weights_are_preferred_to_their_averaged_copy(caplog):
    copy = {name: value + 1 for name, value in under("ema_model.").items()}
    assert fit_weights(under("model.") | copy, SHAPES) == WEIGHTS
    assert "'ema_model.encoder.weight'" in caplog.text


def test_the_averaged_model_of_torch_is_read(caplog):
    model = nn.Linear(2, 3)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    weights = {strip_prefixes(name): value for name, value in averaged.state_dict().items()}
    assert fit_weights(weights, {name: v.shape for name, v in model.state_dict().items()}).keys() == {"weight", "bias"}
    assert "'n_averaged'" in caplog.text


# Names of other versions


@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert."])
def test_gamma_and_beta_are_weight_and_bias(prefix):
    ours = {"bert.LayerNorm.weight": torch.ones(3), "bert.LayerNorm.bias": torch.zeros(3)}
    theirs = {f"{prefix}LayerNorm.gamma": ours["bert.LayerNorm.weight"], f"{prefix}LayerNorm.beta": torch.zeros(3)}
    shapes = {name.removeprefix("" if prefix == "bert." else "bert."): v.shape for name, v in ours.items()}
    if prefix == "model.bert.":
        shapes = {f"bert.{name}": shape for name, shape in shapes.items()}
    assert [value.tolist() for value in fit_weights(theirs, shapes).values()] == [[1, 1, 1], [0, 0, 0]]


def test_a_parameter_that_is_called_gamma_is_not_taken_for_a_weight():
    shapes = {"scale.gamma": torch.Size([3]), "scale.weight": torch.Size([3])}
    with pytest.raises(WeightsMismatchError, match=r"missing: scale\.weight"):
        fit_weights({"scale.gamma": torch.ones(3)}, shapes)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_weight_norm_has_two_forms():
    old, new = nn.utils.weight_norm(nn.Linear(2, 3)), weight_norm(nn.Linear(2, 3))
    for one, other in ((old, new), (new, old)):
        found = fit_weights(one.state_dict(), {name: v.shape for name, v in other.state_dict().items()})
        other.load_state_dict(found)
        assert torch.allclose(one(torch.ones(1, 2)), other(torch.ones(1, 2)))


@pytest.mark.parametrize("name", ["embeddings.position_ids", "bert.embeddings.token_type_ids"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_buffers_of_older_transformers_are_ignored(name, prefix):
    assert fit_weights(under(prefix) | {prefix + name: torch.arange(3)}, SHAPES) == WEIGHTS


# Tied weights, and other dtypes


def test_one_name_of_tied_weights_is_enough(tmp_path):
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "output": nn.Linear(2, 3, bias=False)})
    model["output"].weight = model["embedding"].weight
    safetensors.torch.save_model(model, tmp_path / "model.safetensors")  # which writes one of them
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert len(weights) == 1
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert fit_weights(weights, shapes, tied=[[*shapes]]).keys() == weights.keys()
    with pytest.raises(WeightsMismatchError):
        fit_weights(weights, shapes)
    for name in shapes:  # the longest name may be the one that is not there
        assert fit_weights({f"model.{name}": weights[min(weights)]}, shapes, tied=[[*shapes]]).keys() == {name}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_weights(dtype):
    check_dtypes({name: value.to(dtype) for name, value in WEIGHTS.items()}, WEIGHTS)


def test_integers_are_no_weights():
    state = WEIGHTS | {"norm.num_batches_tracked": torch.tensor(3)}
    check_dtypes(state, state)
    with pytest.raises(WeightsMismatchError, match="quantized") as caught:
        check_dtypes(state | {"encoder.weight": torch.ones(3, 4, dtype=torch.int8)}, state)
    assert caught.value.details == ("encoder.weight is int8",)
