from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from bsm_core import Batch, ModelBase, ModelConfig
from bsm_core.errors import ConfigError


class Affine(ModelBase):
    """One Linear on two features."""

    def __init__(self, config):
        super().__init__(config)
        self.norm = torch.nn.LayerNorm(2)
        self.linear = torch.nn.Linear(2, config.num_classes)

    def forward(self, batch):
        return self.linear(self.norm(batch.features))


def make(**values):
    torch.manual_seed(0)
    return Affine.from_config(values)


def batch(rows=3, labels=None):
    return Batch(rows, features=torch.arange(rows * 2.0).reshape(rows, 2) % 5, labels=labels)


def test_probabilities_of_two_classes_are_complements():
    got = make().predict_step(batch())
    assert got.dtype == torch.float64
    assert got.shape == (3, 2)
    assert (got[:, 0] == 1 - got[:, 1]).all()
    assert torch.allclose(got, make()(batch()).double().softmax(-1))


def test_probabilities_of_more_classes_sum_to_one():
    got = make(num_classes=5).predict_step(batch())
    assert got.shape == (3, 5)
    assert torch.allclose(got.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)


def test_no_rows_give_no_probabilities():
    assert make(num_classes=3).predict_step(Batch(0)).shape == (0, 3)


def test_all_wrong_config_keys_are_named_and_null_is_the_default():
    with pytest.raises(ConfigError) as caught:
        Affine.from_config({"num_classes": 0, "lr": "fast"}, where="here")
    assert [d.split(":")[0] for d in caught.value.details] == ["num_classes", "lr"]
    assert caught.value.where == "here"
    assert make(lr=None).config.lr == ModelConfig().lr


def test_binary_is_two_classes_whatever_num_classes_says():
    assert make(is_binary=True, num_classes=1).config.num_classes == 2
    assert make(is_binary=False, num_classes=4).config.num_classes == 4


def test_the_token_budget_is_batch_size_chunks_of_full_length():
    assert make(batch_size=3, max_sen_len=7).token_budget.tokens == 21


def test_class_weights_are_stored_and_weigh_the_loss():
    model = make(class_weights=[1.0, 3.0])
    assert model.state_dict()["class_weights_tensor"].tolist() == [1.0, 3.0]
    assert model.state_dict()["loss_op.weight"].tolist() == [1.0, 3.0]
    labelled = batch(2, torch.tensor([0, 1]))
    each = torch.nn.functional.cross_entropy(model(labelled), labelled.labels, reduction="none")
    assert model.training_step(labelled, 0).item() == pytest.approx(((each[0] + 3 * each[1]) / 4).item())


def test_class_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(ConfigError, match="class_weights"):
        make(class_weights=[1.0, 2.0, 3.0])


def test_biases_and_norms_are_not_decayed():
    optimizer = make(weight_decay=0.5, run_scheduler=False).configure_optimizers()
    decayed, others = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 2)]
    assert len(others["params"]) == 3


def test_training_with_a_schedule_warms_up_and_decays_to_nothing():
    rates = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    model = make(lr=0.1, warmup_steps=2)
    data = DataLoader([batch(4, torch.tensor([0, 1, 0, 1]))] * 6, batch_size=None)
    before = model.linear.weight.detach().clone()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, callbacks=[Watch()], **options).fit(
        model, data
    )
    assert rates == pytest.approx([0.05, 0.1, 0.075, 0.05, 0.025, 0.0])
    assert not torch.equal(before, model.linear.weight)
