from __future__ import annotations

import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from bsm_core import Batch, ModelBase, ModelConfig, TextBatch
from bsm_core.errors import ConfigError, DataError, ModelFailedError, UsageError


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


class Gives(ModelBase):
    """Gives what it was told to give, or raises it."""

    def forward(self, batch):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def failure(answer, rows=3, **config):
    """The error of a model of two classes whose forward gives, or raises, ``answer``."""
    model = Gives.from_config(config)
    model.answer = answer
    with pytest.raises(ModelFailedError) as caught:
        model.predict_step(batch(rows))
    return caught.value


@pytest.mark.parametrize(
    ("answer", "gave"),
    [
        (torch.zeros(3, 1), "float32 [3, 1]"),
        (torch.zeros(2, 2), "float32 [2, 2]"),
        (torch.zeros(3), "float32 [3]"),
        (torch.zeros(3, 2, 1), "float32 [3, 2, 1]"),
        (torch.zeros(3, 2, dtype=torch.int64), "int64 [3, 2]"),
        ((torch.zeros(3, 2),), "a tuple"),
        (None, "a NoneType"),
    ],
    ids=["one column", "a row too few", "a vector", "a cube", "integers", "a tuple", "nothing"],
)
def test_logits_that_are_none_are_an_error_that_says_what_was_given_and_wanted(answer, gave):
    error = failure(answer)
    assert error.what == f"model class 'Gives' returned {gave} as logits, expected floats [3, 2]"
    assert error.where == f"{__name__}:Gives"
    assert "rows" in error.fix


def test_an_error_of_forward_names_the_class_and_the_line_and_keeps_its_cause():
    cause = ValueError("boom")
    error = failure(cause)
    assert error.what == "model class 'Gives' failed: ValueError: boom"
    assert error.__cause__ is cause
    assert re.fullmatch(r"line \d+ of test_base\.py, in forward", *error.details)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), DataError("ours"), SystemExit(3)], ids=repr)
def test_what_others_look_out_for_passes_through(error):
    model = Gives.from_config({})
    model.answer = error
    with pytest.raises(type(error)) as caught:
        model.predict_step(batch())
    assert caught.value is error


def test_probabilities_that_are_no_numbers_are_an_error_that_names_rows():
    logits = torch.zeros(30, 2)
    logits[3:28:2] = float("nan")
    error = failure(logits, rows=30)
    assert error.what == "model class 'Gives' returned probabilities that are NaN or infinite for 13 of 30 rows"
    assert error.details == ("rows: 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, ...",)
    assert failure(torch.tensor([[0.0, float("inf")]]), rows=1).details == ("rows: 0",)
    assert "for 1 of 1 rows" in failure(torch.full((1, 3), float("nan")), rows=1, num_classes=3).what


def test_a_class_that_is_ruled_out_is_no_error():
    model = Gives.from_config({"num_classes": 3})
    model.answer = torch.tensor([[0.0, 0.0, float("-inf")]])
    assert model.predict_step(batch(1)).tolist() == [[0.5, 0.5, 0.0]]


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


def test_training_names_the_model_that_fails_and_logits_that_are_none():
    model = Gives.from_config({})
    for answer, words in (
        (ValueError("boom"), "failed: ValueError: boom"),
        (torch.zeros(3), r"returned float32"),
    ):
        model.answer = answer
        with pytest.raises(ModelFailedError, match=f"model class 'Gives' {words}"):
            model.training_step(batch(3, torch.tensor([0, 1, 0])))


def test_a_validation_step_predicts():
    model = make().eval()
    assert torch.equal(model.validation_step(batch()), model.predict_step(batch()))


def test_a_class_takes_no_pretrained_weights_unless_it_says_so():
    with pytest.raises(ConfigError, match="model class Affine takes no pretrained weights") as caught:
        make().load_pretrained("text_encoder", {})
    assert caught.value.where == "config.text_encoder"


def test_class_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(ConfigError, match="class_weights"):
        make(class_weights=[1.0, 2.0, 3.0])


def test_biases_and_norms_are_not_decayed():
    optimizer = make(weight_decay=0.5, run_scheduler=False).configure_optimizers()
    others, decayed = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 2)]
    assert len(others["params"]) == 3


def test_encoders_learn_at_a_rate_of_their_own_where_the_config_has_one():
    class Encoding(Affine):
        def encoder_parameters(self):
            return self.norm.parameters()

    def rates(**values):
        groups = Encoding.from_config({"lr": 0.5, "run_scheduler": False, **values}).configure_optimizers().param_groups
        return sorted((group["lr"], len(group["params"])) for group in groups)

    assert rates(encoder_lr=0.25, weight_decay=0.125) == [(0.25, 2), (0.5, 1), (0.5, 1)]
    assert rates() == [(0.5, 4)]


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


@pytest.mark.parametrize(("warmup", "warns"), [(5, False), (6, True), (300, True)])
def test_a_warm_up_longer_than_the_training_is_a_warning(caplog, warmup, warns):
    model = make(lr=0.1, warmup_steps=warmup)
    model._trainer = SimpleNamespace(estimated_stepping_batches=6)
    model.configure_optimizers()
    told = f"warmup_steps={warmup}, but the training has 6 steps: the learning rate never reaches lr=0.1"
    assert caplog.messages == [told] * warns


def test_a_temperature_divides_the_logits_and_one_changes_no_bit():
    hot, plain, one = (
        make(num_classes=3, **more) for more in ({"calibration_temperature": 2.5}, {}, {"calibration_temperature": 1.0})
    )
    logits = plain(batch()).double()
    assert torch.allclose(hot.predict_step(batch()), (logits / 2.5).softmax(-1), atol=1e-15)
    assert torch.equal(one.predict_step(batch()), logits.softmax(-1))
    assert torch.equal(plain.predict_step(batch()), logits.softmax(-1))


@pytest.mark.parametrize("wrong", [0, -1, 1e9, float("nan"), "warm"])
def test_a_temperature_that_cannot_be_is_a_wrong_key(wrong):
    with pytest.raises(ConfigError, match="calibration_temperature"):
        make(calibration_temperature=wrong)


class Parts(ModelBase):
    """Doubles a text vector, adds the features, and classifies by the sum."""

    def encode_texts(self, batch):
        return {"chat": batch.texts["chat"].row_lengths[:, None] * torch.tensor([[1.0, 2.0]])}

    def fuse_rows(self, texts, features):
        if (features > 100).any():
            raise ValueError("too large")
        return torch.cat([2 * texts["chat"], features], dim=1)

    def classify_rows(self, fused):
        return torch.stack([fused.sum(1), -fused.sum(1)], dim=1)


def with_text(*features, **values):
    chunks = TextBatch.from_rows([[[5]] * (1 + row) for row in range(len(features))])
    return Batch(len(features), {"chat": chunks}, torch.tensor(features)[:, None], **values)


def test_forward_is_composed_of_the_parts_and_keeps_vectors_for_a_batch_that_asks():
    model, plain, asking = Parts(ModelConfig()), with_text(1.0, 3.0), with_text(1.0, 3.0, vectors={})
    assert model(plain).tolist() == [[7, -7], [15, -15]]
    assert torch.equal(model.predict_step(plain), model.predict_step(asking))
    assert plain.vectors is None
    kept = {name: vectors.tolist() for name, vectors in asking.vectors.items()}
    assert kept == {"embedding_chat": [[1, 2], [2, 4]], "embedding": [[2, 4, 1], [4, 8, 3]]}
    assert model.vector_sizes(plain) == {"embedding_chat": 2, "embedding": 3}
    assert plain.vectors is None


def test_a_copy_on_a_device_shares_the_vectors_and_a_selection_asks_for_its_own():
    batch = with_text(1.0, 3.0, vectors={})
    assert batch.to("cpu").vectors is batch.vectors
    Parts(ModelConfig()).predict_step(batch)
    assert batch.select(torch.tensor([1])).vectors == {}
    assert with_text(1.0).select(torch.tensor([0])).vectors is None


def test_vectors_of_other_rows_are_whole_where_a_row_is_set_aside():
    model, batch = Parts(ModelConfig()), with_text(1.0, 200.0, 3.0, vectors={})
    model.set_aside = True
    assert model.predict_step(batch).isnan().any(1).tolist() == [False, True, False]
    assert batch.vectors["embedding"][[0, 2]].tolist() == [[2, 4, 1], [6, 12, 3]]
    assert len(batch.vectors["embedding"]) == 3


def test_an_error_names_the_line_of_the_part():
    with pytest.raises(ModelFailedError, match="ValueError: too large") as caught:
        Parts(ModelConfig()).predict_step(with_text(200.0))
    assert re.search(r"line \d+ of test_base.py, in fuse_rows", caught.value.details[0])


class Scaled(Parts):
    """Parts, and a forward that does more."""

    def forward(self, batch):
        return super().forward(batch) / 10


class Half(ModelBase):
    """One part of two."""

    def fuse_rows(self, texts, features):
        return features


@pytest.mark.parametrize(
    ("model_class", "said"),
    [
        (Affine, "'Affine' has no embeddings: it has no method fuse_rows and no method classify_rows of its own"),
        (Scaled, "'Scaled' has no embeddings: it has a method forward of its own"),
        (Half, "'Half' has no embeddings: it has no method classify_rows of its own"),
    ],
)
def test_a_class_without_parts_has_no_embeddings(model_class, said):
    with pytest.raises(UsageError, match=said):
        model_class(ModelConfig()).vector_sizes(with_text(1.0))


def test_a_class_with_one_part_alone_says_what_it_lacks():
    with pytest.raises(ModelFailedError, match=r"NotImplementedError: Half has neither .* nor a method classify_rows"):
        Half(ModelConfig()).predict_step(with_text(1.0))


def test_vectors_of_a_wrong_shape_are_an_error():
    class Flat(Parts):
        def fuse_rows(self, texts, features):
            return super().fuse_rows(texts, features).sum(1)

        def classify_rows(self, fused):
            return torch.stack([fused, -fused], dim=1)

    with pytest.raises(ModelFailedError, match=r"'embedding' is \[2\]"):
        Flat(ModelConfig()).vector_sizes(with_text(1.0, 2.0))
