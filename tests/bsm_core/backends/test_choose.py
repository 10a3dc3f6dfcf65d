from __future__ import annotations

import json
import logging
import pickle
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bsm_core import Backend, Batch, Encoder, ModelBase, ModelConfig, TextBatch
from bsm_core.backends import choose, trial, trial_results
from bsm_core.backends.choose import ChosenBackends, choose_backends, restore_backends
from bsm_core.errors import ModelFailedError, UsageError
from bsm_core.runtime import precision as precisions


class Means(Encoder):
    """Of each chunk the mean id, times a weight; with backends that a test passes to it."""

    vocabulary = 50

    def __init__(self, **backends):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.given = backends

    def encode(self, input_ids, attention_mask):
        means = (input_ids * attention_mask).sum(1, keepdim=True) / attention_mask.sum(1, keepdim=True)
        return means * self.weight / 50

    def backends(self):
        return {name: self._builder(name, off) for name, off in self.given.items()}

    def _builder(self, name, off):
        def build(precision, sample):
            if off is None or (precision == "int8" and sample is None):
                return None
            self.sample = sample

            def encode(tokens, lengths):
                change = 0 if precision == "fp32" else 0.03
                parts = [part.float().mean() for part in tokens.split(lengths.tolist())]
                return torch.stack(parts)[:, None] / 50 + off + change

            return Backend(name, precision, encode)

        return build


class Two(ModelBase):
    """Two encoders, of two text fields."""

    def __init__(self, first, second):
        super().__init__(ModelConfig())
        self.first, self.second = first, second

    def forward(self, batch):
        logits = self.first(batch.texts["a"], self.token_budget) + self.second(batch.texts["b"], self.token_budget)
        return torch.cat([logits, -logits], dim=1)


def model(**backends):
    return Two(Means(**backends), Means(**backends)).eval()


SAMPLE = Batch(2, {"a": TextBatch.from_rows([[[1, 2]], [[3]]]), "b": TextBatch.from_rows([[[9]], [[8, 7]]])})


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def seconds(monkeypatch):
    """How long each backend takes; which were tried."""
    took = SimpleNamespace(eager=2.0, quick=1.0, tried=[])

    def fake(encoder, backend, trial):
        took.tried.append(backend.name)
        return getattr(took, backend.name, 3.0)

    monkeypatch.setattr(trial, "_seconds", fake)
    return took


def used(model):
    return [model.first.backend.name, model.second.backend.name]


def test_the_faster_one_runs(seconds):
    chosen = choose_backends(model(quick=0))
    assert (chosen.precision, chosen.backends) == ("fp32", {"first": "quick", "second": "quick"})


def test_the_encoders_own_code_runs_where_it_is_faster(seconds):
    seconds.eager = 0.5
    slow = model(quick=0)
    assert set(choose_backends(slow).backends.values()) == {"eager"}
    assert used(slow) == ["eager", "eager"]


@pytest.mark.parametrize("attribute", ["longest", "length"])
def test_a_trial_has_no_chunk_that_is_longer_than_the_encoder_takes(seconds, attribute):
    two = model(quick=0)
    setattr(two.first, attribute, 20)
    assert trial._chunks(two.first).length(0) == 20
    assert trial._chunks(two.second).length(0) > 20


def test_the_backend_of_an_earlier_attempt_runs_again_whatever_is_faster_now(seconds, caplog):
    assert choose_backends(model(quick=0), earlier={"first": "eager", "second": "quick"}).backends == {
        "first": "eager",
        "second": "quick",
    }
    seconds.eager = 0.5
    both = dict.fromkeys(("first", "second"), "quick")
    assert choose_backends(model(quick=0), earlier=both).backends == both
    assert seconds.tried == []
    assert set(choose_backends(model(quick=0), backend="eager", earlier=both).backends.values()) == {"eager"}
    assert choose_backends(model(quick=0, slow=0), backend="slow", earlier=both).backends["first"] == "slow"


@pytest.mark.parametrize("quick", [None, 1e-3], ids=["unavailable", "not exact"])
def test_a_backend_of_an_earlier_attempt_that_cannot_run_here_gives_way_to_the_fastest(seconds, quick):
    both = dict.fromkeys(("first", "second"), "quick")
    for _ in range(2):  # of two processes, the second reads the outcome of the first
        chosen = choose_backends(model(quick=quick, other=0, slow=0), earlier=both)
        assert set(chosen.backends.values()) == {"eager"}
        assert seconds.tried == ["eager", "other", "slow"] * trial._LEAST


def test_what_is_not_exact_does_not_run(seconds, caplog):
    wrong = model(quick=1e-3)
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert set(choose_backends(wrong).backends.values()) == {"eager"}
    assert "'quick' computes different vectors than the encoder's own code" in caplog.text
    assert used(wrong) == ["eager", "eager"]


def test_a_trial_is_made_once_and_its_outcome_kept(seconds, tmp_path):
    choose_backends(model(quick=0))
    once = ["eager", "quick"] * trial._LEAST  # both encoders have the same shapes
    assert seconds.tried == once
    choose_backends(model(quick=0))
    assert seconds.tried == once
    [result] = json.loads((tmp_path / "bsm/backends.json").read_text()).values()
    assert (result["fastest"], result["times"]) == ("quick", {"eager": [2, 2], "quick": [1, 1]})
    assert set(choose_backends(model(quick=1e-3)).backends.values()) == {"eager"}  # exactness is never taken from there


def test_backends_of_about_the_same_speed_are_measured_often_and_again_later(seconds, monkeypatch):
    seconds.quick = seconds.eager
    choose_backends(model(quick=0))
    often = ["eager", "quick"] * trial._MOST
    assert seconds.tried == often
    choose_backends(model(quick=0))  # another process of the same run
    assert seconds.tried == often
    monkeypatch.setattr(trial_results, "_AGAIN_S", -1)
    seconds.quick = 1.0
    assert set(choose_backends(model(quick=0)).backends.values()) == {"quick"}
    assert len(seconds.tried) > len(often)


def test_a_trial_that_takes_long_has_no_more_measurements_than_it_must(seconds, monkeypatch):
    monkeypatch.setattr(trial, "_LONG_S", 0)
    seconds.quick = seconds.eager
    choose_backends(model(quick=0))
    assert seconds.tried == ["eager", "quick"] * trial._LEAST


def test_a_result_that_is_old_is_tried_again(seconds, monkeypatch):
    choose_backends(model(quick=0))
    seconds.quick = 3.0
    assert set(choose_backends(model(quick=0)).backends.values()) == {"quick"}
    monkeypatch.setattr(trial_results, "_OLD_S", -1)
    assert set(choose_backends(model(quick=0)).backends.values()) == {"eager"}


def test_a_place_that_cannot_be_written_costs_a_trial_alone(seconds, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert set(choose_backends(model(quick=0)).backends.values()) == {"quick"}


def test_a_back_end_by_name(seconds):
    assert set(choose_backends(model(quick=0), backend="eager").backends.values()) == {"eager"}
    assert set(choose_backends(model(quick=0, other=0), backend="other").backends.values()) == {"other"}


def test_a_back_end_by_name_is_compared_too(seconds):
    with pytest.raises(UsageError, match="'quick' of encoder 'first' computes different vectors"):
        choose_backends(model(quick=1e-3), backend="quick")


def test_a_back_end_that_gives_vectors_of_another_size_is_not_exact():
    encoder = Means(quick=0).eval()
    wide = Backend("wide", "fp32", lambda tokens, lengths: torch.zeros(len(lengths), 2))
    assert trial.exact("text", encoder, Backend("eager", "fp32"), [wide]) == []


def test_a_trial_of_speed_has_chunks_for_every_thread():
    encoder = Means(quick=0).eval()
    once, thrice = (trial._chunks(encoder, times).distinct for times in (1, 3))
    assert thrice == 3 * once


def test_an_unknown_precision_is_an_error():
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        choose_backends(Two(nn.Linear(1, 1), nn.Linear(1, 1)).eval(), precision="fp8")


def test_an_unknown_back_end_is_an_error_that_names_the_others():
    with pytest.raises(UsageError, match="no backend 'fast'") as caught:
        choose_backends(model(quick=0), backend="fast")
    assert "auto, eager, quick" in str(caught.value)


@pytest.mark.parametrize(("backend", "precision"), [("eager", "int8"), ("quick", "fp32"), ("auto", "int8")])
def test_a_back_end_that_cannot_be_had_is_an_error(backend, precision):
    with pytest.raises(UsageError, match=f"cannot be computed in {precision} here"):
        choose_backends(model(quick=None), backend=backend, precision=precision, sample=SAMPLE)


def test_int8_wants_check_rows():
    with pytest.raises(UsageError) as caught:
        choose_backends(model(quick=0), precision="int8")
    assert "bsm pack MODEL_DIR NEW --data TABLE" in caught.value.fix
    with pytest.raises(UsageError, match="in int8 here by 'eager'") as caught:
        choose_backends(model(quick=0), precision="int8", backend="eager", sample=SAMPLE)
    assert caught.value.fix == "choose another precision, or --backend auto"


def test_int8_sees_what_each_encoder_is_given_and_says_what_it_changed(seconds, caplog):
    two = model(quick=0)
    with caplog.at_level(logging.INFO, logger="bsm"):
        chosen = choose_backends(two, precision="int8", sample=SAMPLE)
    assert two.first.sample.tokens.tolist() == [1, 2, 3]
    assert two.second.sample.tokens.tolist() == [8, 7, 9]
    assert chosen.precision == "int8"
    assert 0.001 < chosen.changed < 0.1
    assert "int8 changes the probabilities of the 2 check rows by at most" in caplog.text


def test_another_precision_without_check_rows_is_not_compared(seconds, caplog):
    with caplog.at_level(logging.INFO, logger="bsm"):
        assert choose_backends(model(quick=0), precision="bf16").changed is None
    assert "not known how much bf16 changes probabilities" in caplog.text


def test_a_model_without_an_encoder_stays_as_it_is(caplog):
    plain = Two(nn.Linear(1, 1), nn.Linear(1, 1)).eval()
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert choose_backends(plain, precision="bf16") == ChosenBackends("fp32", {})
        assert choose_backends(plain) == choose_backends(plain, backend="eager") == ChosenBackends("fp32", {})
    assert caplog.text.count("stays in fp32") == 1


def test_a_model_without_an_encoder_has_no_other_backend():
    plain = Two(nn.Linear(1, 1), nn.Linear(1, 1)).eval()
    with pytest.raises(UsageError, match="no backend 'quick': the model has no text encoder") as caught:
        choose_backends(plain, backend="quick")
    assert (caught.value.where, caught.value.fix) == ("--backend", "leave --backend out")


class OnGpu(Two):
    """On a GPU, it says."""

    device = torch.device("cuda")


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(Batch, "to", lambda self, device, non_blocking=False: self)
    return lambda **backends: OnGpu(Means(**backends), Means(**backends)).eval()


@pytest.mark.parametrize(("fp16", "precision"), [(False, "bf16"), (True, "fp16")])
def test_auto_on_a_gpu_is_a_lower_precision_where_the_check_rows_allow_it(on_gpu, seconds, fp16, precision):
    assert choose_backends(on_gpu(quick=0), sample=SAMPLE, fp16=fp16).precision == precision


def test_auto_on_a_gpu_is_float32_where_they_do_not_or_are_not_there(on_gpu, seconds, monkeypatch, caplog):
    assert choose_backends(on_gpu(quick=0)).precision == "fp32"
    monkeypatch.setitem(precisions.TOLERANCES, "bf16", -1)
    with caplog.at_level(logging.WARNING, logger="bsm"):
        gpu = on_gpu(quick=0)
        assert choose_backends(gpu, sample=SAMPLE).precision == "fp32"
    assert "using fp32" in caplog.text
    assert gpu.first.backend.precision == "fp32"


def test_auto_on_a_gpu_is_float32_where_the_check_rows_fail(on_gpu, seconds, monkeypatch, caplog):
    def probabilities(model, sample):
        if model.first.backend.precision == "fp16":
            raise ModelFailedError("probabilities that are no numbers")
        return torch.zeros(2, 2)

    monkeypatch.setattr(choose, "_probabilities", probabilities)
    assert choose_backends(on_gpu(quick=0), sample=SAMPLE, fp16=True).precision == "fp32"
    assert "the check rows cannot be scored in fp16: probabilities that are no numbers" in caplog.text
    with pytest.raises(ModelFailedError):
        choose_backends(on_gpu(quick=0), sample=SAMPLE, precision="fp16")


def test_auto_on_the_cpu_is_float32_whatever_the_artifact_says(seconds):
    assert choose_backends(model(quick=0), sample=SAMPLE, fp16=True).precision == "fp32"


class WithoutBf16(Means):
    """An encoder that fails where the processor would have to compute in bfloat16."""

    def encode(self, input_ids, attention_mask):
        if torch.is_autocast_enabled("cpu") or self.weight.isnan():
            raise RuntimeError("could not create a primitive")
        return super().encode(input_ids, attention_mask)


@pytest.mark.parametrize("backend", ["auto", "eager", "quick"])
@pytest.mark.parametrize("sample", [SAMPLE, None])
def test_a_precision_that_the_processor_cannot_compute_is_an_error(seconds, backend, sample):
    two = Two(WithoutBf16(quick=0), WithoutBf16(quick=0)).eval()
    with pytest.raises(UsageError, match="this processor cannot compute encoder 'first' in bf16") as caught:
        choose_backends(two, precision="bf16", backend=backend, sample=sample)
    assert (caught.value.where, caught.value.fix) == ("--precision", "choose fp32 or auto")
    assert "RuntimeError: could not create a primitive" in str(caught.value)


def test_an_encoder_that_fails_in_fp32_too_is_no_fault_of_the_precision(seconds):
    two = Two(WithoutBf16(), WithoutBf16()).eval()
    with torch.no_grad():
        two.first.weight.fill_(torch.nan)
        two.second.weight.fill_(torch.nan)
    assert choose_backends(two, precision="bf16").precision == "bf16"
    with pytest.raises(ModelFailedError, match="model class 'Two' failed"):
        choose_backends(two, precision="bf16", sample=SAMPLE)


def test_auto_on_a_gpu_is_float32_where_the_processor_cannot_compute_less(on_gpu, seconds, caplog):
    gpu = OnGpu(WithoutBf16(quick=0), WithoutBf16(quick=0)).eval()
    assert choose_backends(gpu, sample=SAMPLE).precision == "fp32"
    assert gpu.first.backend.precision == "fp32"
    assert "cannot be scored in bf16: this processor cannot compute encoder 'first'" in caplog.text


class Failing(Means):
    """An encoder whose backend fails where ``when`` says."""

    def __init__(self, when, error):
        super().__init__(acme=0)
        self.when, self.error = when, error

    def backends(self):
        if self.when == "list":
            raise self.error
        return super().backends()

    def _builder(self, name, off):
        build = super()._builder(name, off)

        def failing(precision, sample):
            if self.when == "build":
                raise self.error
            if self.when == "another class":
                return lambda tokens, lengths: None
            if self.when == "int3":
                return Backend(name, "int3")

            def encode(tokens, lengths):
                if self.when == "trial" or (self.when == "timing" and len(lengths) > len(trial._LENGTHS)):
                    raise self.error
                return built.encode(tokens, lengths)

            built = build(precision, sample)
            return Backend(name, precision, encode)

        return failing


@pytest.fixture
def many_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "error", [RuntimeError("no license"), KeyError("x"), UsageError("no such thing"), SystemExit("bye")], ids=repr
)
@pytest.mark.parametrize("when", ["list", "build", "trial", "timing"])
def test_a_backend_that_fails_is_left_out_of_auto_with_a_warning(many_threads, caplog, when, error):
    two = Two(Failing(when, error), Failing(when, error)).eval()
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert set(choose_backends(two).backends.values()) == {"eager"}
    assert used(two) == ["eager", "eager"]
    assert "of encoder 'first' failed" in caplog.text
    assert str(error).splitlines()[0] in caplog.text
    assert when == "list" or "'acme'" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("when", "said"), [("another class", "returned a function"), ("int3", "precision 'int3'")])
def test_something_else_than_a_backend_is_left_out_too(caplog, when, said):
    two = Two(Failing(when, None), Failing(when, None)).eval()
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert set(choose_backends(two).backends.values()) == {"eager"}
    assert said in caplog.text


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("when", ["build", "trial"])
def test_a_backend_by_name_that_fails_is_an_error_that_names_it(when, error):
    two = Two(Failing(when, error("no license")), Failing(when, error("no license"))).eval()
    with pytest.raises(UsageError, match=f"'acme' of encoder 'first' failed: {error.__name__}: no license") as caught:
        choose_backends(two, backend="acme")
    assert caught.value.where == "--backend"
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("offered", [["acme"], None, 3], ids=repr)
def test_backends_that_are_no_mapping_are_left_out_or_an_error(monkeypatch, caplog, offered):
    monkeypatch.setattr(Means, "backends", lambda self: offered)
    returned = f"it returned a {type(offered).__name__}, expected a mapping"
    said = f"backends() of encoder 'first' failed: TypeError: {returned}"
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert set(choose_backends(model()).backends.values()) == {"eager"}
    assert said in caplog.text
    with pytest.raises(UsageError, match=re.escape(said)):
        choose_backends(model(), backend="acme")


def test_a_backend_that_fails_in_int8_leaves_none():
    two = Two(Failing("build", RuntimeError("no license")), Failing("build", RuntimeError("no license"))).eval()
    with pytest.raises(UsageError, match="cannot be computed in int8 here"):
        choose_backends(two, precision="int8", sample=SAMPLE)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError("full")], ids=repr)
@pytest.mark.parametrize("when", ["build", "trial"])
def test_running_out_of_memory_is_no_fault_of_the_backend(when, error):
    with pytest.raises(type(error)):
        choose_backends(Two(Failing(when, error), Failing(when, error)).eval())


class ByKeyword(Two):
    """Two that calls its encoders with keyword arguments, and one encoder for both text fields where they are one."""

    def forward(self, batch):
        logits = self.first(budget=self.token_budget, text=batch.texts["a"])
        logits = logits + self.second(text=batch.texts["b"], budget=self.token_budget)
        return torch.cat([logits, -logits], dim=1)


def test_int8_sees_what_an_encoder_is_given_by_keyword(seconds):
    two = ByKeyword(Means(quick=0), Means(quick=0)).eval()
    choose_backends(two, precision="int8", sample=SAMPLE)
    assert two.first.sample.to_rows() == SAMPLE.texts["a"].to_rows()
    assert two.second.sample.to_rows() == SAMPLE.texts["b"].to_rows()


def test_int8_of_an_encoder_of_two_text_fields_sees_both(seconds):
    encoder = Means(quick=0)
    for kind in (Two, ByKeyword):
        choose_backends(kind(encoder, encoder).eval(), precision="int8", sample=SAMPLE)
        assert encoder.sample.to_rows() == [*SAMPLE.texts["a"].to_rows(), *SAMPLE.texts["b"].to_rows()]


# Copies


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_pickled_model_builds_its_backends_again(precision):
    two = model(quick=0)
    for encoder in (two.first, two.second):
        encoder.backend = choose._built(encoder.backends()["quick"], precision, SAMPLE.texts["a"])
    copied = pickle.loads(pickle.dumps(two))
    assert copied.first.backend.encode is None
    restore_backends(copied)
    assert (copied.first.backend.name, copied.second.backend.precision) == ("quick", precision)
    with torch.inference_mode():
        assert torch.equal(copied.predict_step(SAMPLE), two.predict_step(SAMPLE))
    if precision == "int8":
        assert copied.first.sample.to_rows() == SAMPLE.texts["a"].to_rows()


@pytest.mark.parametrize("name", ["onnx", "of another plugin"])
def test_a_backend_that_a_copy_cannot_build_is_replaced_by_the_encoders_own_code(name, caplog):
    two = model()
    two.first.backend = Backend(name, "int8", lambda tokens, lengths: None)
    copied = pickle.loads(pickle.dumps(two))
    restore_backends(copied)
    assert copied.first.backend == Backend("eager", "fp32")
    assert "cannot be built again: the encoder's own code is used, in fp32" in caplog.text
