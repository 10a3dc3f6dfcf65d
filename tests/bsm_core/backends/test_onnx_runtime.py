from __future__ import annotations

import logging

import pytest
import torch
from support.encoders import MeanEncoder, mean_model, write_onnx

from bsm_core import TextBatch, TokenBudget
from bsm_core.backends import onnx_runtime as onnx_backend
from bsm_core.backends.choose import choose_backends
from bsm_core.backends.onnx_runtime import build, require_packages
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError, UsageError
from bsm_core.models.encoder import EAGER, Backend

LENGTHS = [600, 90, 40, 17, *[3] * 500, 1]


@pytest.fixture
def onnx():
    for name in onnx_backend.PACKAGES:
        pytest.importorskip(name)
    return pytest.importorskip("onnx")


@pytest.fixture
def no_packages(monkeypatch):
    monkeypatch.setattr(onnx_backend, "PACKAGES", ("torch", "no_such_onnx"))


@pytest.fixture
def exported(onnx, tmp_path, monkeypatch):
    """A model whose encoder was exported, where no trial was made before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = mean_model()
    model.text.exported = write_onnx(model.text, tmp_path / "onnx" / "text.onnx")
    return model


def text(lengths=LENGTHS):
    """A row for each chunk; no two are equal."""
    ids = [[(7 * n + 3 * i + 1) % 64 for i in range(length)] for n, length in enumerate(lengths)]
    return TextBatch.from_rows([[chunk] for chunk in ids])


def means(encoder, backend, lengths=LENGTHS):
    encoder.backend = backend
    with torch.inference_mode():
        return encoder.encode_rows(text(lengths), TokenBudget(4096))


def change(file, edit):
    """Edit the ONNX model that a file holds."""
    import onnx

    model = onnx.load(file)
    edit(model)
    file.write_bytes(model.SerializeToString())


# The vectors


@pytest.mark.parametrize("lengths", [LENGTHS, [5], []])
def test_the_vectors_are_those_of_the_encoder(exported, lengths):
    encoder = exported.text.eval()
    backend = build(encoder, "fp32")
    assert (backend.name, backend.precision) == ("onnx", "fp32")
    wanted = means(encoder, Backend(EAGER, "fp32"), lengths)
    torch.testing.assert_close(means(encoder, backend, lengths), wanted, rtol=0, atol=1e-6)


def test_chunks_are_padded_or_cut_where_the_encoder_has_a_length(onnx, tmp_path):
    encoder = MeanEncoder(length=8).eval()
    encoder.exported = write_onnx(encoder, tmp_path / "text.onnx")
    backend = build(encoder, "fp32")
    seen = shapes_seen_by(backend)
    torch.testing.assert_close(means(encoder, backend), means(encoder, Backend(EAGER, "fp32")), rtol=0, atol=1e-6)
    assert {length for _, length in seen} == {8}


def test_few_tokens_at_once_padding_included(exported):
    backend = build(exported.text.eval(), "fp32")
    seen = shapes_seen_by(backend)
    means(exported.text, backend)
    assert max(chunks * length for chunks, length in seen) <= backend.tokens
    assert sum(chunks for chunks, _ in seen) == text().distinct


def shapes_seen_by(backend):
    seen, encode = [], backend.encode._padded

    def watched(input_ids, attention_mask):
        seen.append(tuple(input_ids.shape))
        return encode(input_ids, attention_mask)

    backend.encode._padded = watched
    return seen


# Where there is none


def test_none_where_it_cannot_be_had(exported, tmp_path):
    assert build(exported.text, "bf16") is None
    assert build(exported.text, "int8") is None
    assert build(exported.text.to("meta"), "fp32") is None
    assert build(MeanEncoder(), "fp32") is None


def test_none_without_the_packages(no_packages, tmp_path):
    encoder = MeanEncoder()
    encoder.exported = tmp_path / "not read.onnx"
    assert build(encoder, "fp32") is None


def test_packages_that_are_not_installed_are_named(no_packages):
    with pytest.raises(UsageError, match="not installed: no_such_onnx") as caught:
        require_packages("--backend")
    assert caught.value.fix == "pip install 'bsm-core[onnx]'"


# A stranger's file


def kept_outside(tensor):
    """Let a tensor's content be that of a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="weights")


def test_weights_in_other_files_are_refused(exported):
    change(exported.text.exported, lambda model: kept_outside(model.graph.initializer[0]))
    with pytest.raises(UnsafeArtifactError, match="keeps weights in other files") as caught:
        build(exported.text, "fp32")
    assert caught.value.where == "onnx/text.onnx"


def test_weights_in_other_files_are_found_in_inner_graphs(exported, onnx):
    def hide(model):
        inner = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
        kept_outside(inner)
        constant = onnx.helper.make_node("Constant", [], ["w"], value=inner)
        graph = onnx.helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], [], then_branch=graph, else_branch=graph))

    change(exported.text.exported, hide)
    with pytest.raises(UnsafeArtifactError):
        build(exported.text, "fp32")


def test_a_file_is_read_as_onnx_even_if_it_looks_like_onnx_runtimes_own_format(onnx, tmp_path):
    encoder = MeanEncoder().eval()
    encoder.exported = write_onnx(encoder, tmp_path / "text.onnx", producer_name="ORTM")
    assert encoder.exported.read_bytes()[4:8] == b"ORTM"
    assert means(encoder, build(encoder, "fp32")).shape == (len(LENGTHS), 4)


def other_operator(model):
    model.graph.node[0].domain, model.graph.node[0].op_type = "acme", "Shell"


def other_inputs(model):
    model.graph.input[0].name = "ids"
    model.graph.node[0].input[1] = "ids"


@pytest.mark.parametrize(
    ("edit", "reason"), [(other_operator, "acme"), (other_inputs, "its inputs are not input_ids and attention_mask")]
)
def test_a_model_that_cannot_be_used_is_an_error(exported, edit, reason):
    change(exported.text.exported, edit)
    with pytest.raises(CorruptArtifactError, match=reason) as caught:
        build(exported.text, "fp32")
    assert "bsm export" in caught.value.fix


def test_bytes_that_are_no_model_are_an_error(exported):
    exported.text.exported.write_bytes(b"no model")
    with pytest.raises(CorruptArtifactError, match=r"onnx/text\.onnx cannot be used"):
        build(exported.text, "fp32")


def test_a_model_that_fails_on_rows_is_an_error(exported):
    change(exported.text.exported, lambda model: model.graph.initializer[1].int64_data.__setitem__(0, 5))
    with pytest.raises(CorruptArtifactError):
        means(exported.text.eval(), build(exported.text, "fp32"))


# How it is chosen


def test_it_is_used_where_it_is_asked_for(exported):
    assert choose_backends(exported, backend="onnx").backends == {"text": "onnx"}
    assert exported.text.backend.encode is not None


def test_asked_for_without_the_packages_it_says_what_to_install(no_packages):
    with pytest.raises(UsageError) as caught:
        choose_backends(mean_model(), backend="onnx")
    assert caught.value.where == "--backend"
    assert caught.value.fix == "pip install 'bsm-core[onnx]'"


def test_asked_for_without_a_file_it_says_how_to_make_one(monkeypatch):
    monkeypatch.setattr(onnx_backend, "PACKAGES", ())
    with pytest.raises(UsageError, match="no ONNX file of encoder 'text'") as caught:
        choose_backends(mean_model(), backend="onnx")
    assert "bsm export" in caught.value.fix


def test_auto_tries_it_where_there_is_a_file(exported, monkeypatch):
    monkeypatch.setattr(
        "bsm_core.backends.trial._seconds", lambda encoder, backend, trial: float(backend.name == EAGER)
    )
    assert choose_backends(exported).backends == {"text": "onnx"}


def test_a_file_of_other_weights_is_refused_or_left_out(exported, caplog):
    with torch.no_grad():
        exported.text.table.weight += 1e-3
    with pytest.raises(CorruptArtifactError, match="computes different vectors than the encoder's own code"):
        choose_backends(exported, backend="onnx")
    assert choose_backends(exported).backends == {"text": EAGER}
    assert "'onnx' computes different vectors" in caplog.text


def test_a_file_of_other_weights_is_left_out_even_if_it_was_the_fastest(exported, monkeypatch):
    monkeypatch.setattr(
        "bsm_core.backends.trial._seconds", lambda encoder, backend, trial: float(backend.name == EAGER)
    )
    assert choose_backends(exported).backends == {"text": "onnx"}
    with torch.no_grad():
        exported.text.table.weight += 1e-3
    assert choose_backends(exported).backends == {"text": EAGER}


def test_auto_leaves_out_what_cannot_be_used(exported, caplog):
    exported.text.exported.write_bytes(b"no model")
    with caplog.at_level(logging.WARNING, "bsm"):
        assert choose_backends(exported).backends == {"text": EAGER}
    assert "onnx/text.onnx cannot be used" in caplog.text
    with pytest.raises(CorruptArtifactError):
        choose_backends(exported, backend="onnx")


def test_a_file_that_gives_no_vector_for_each_chunk(exported, onnx, caplog):
    def flat(model):
        output = model.graph.output[0]
        inner, output.name = output.name, "flat"
        del output.type.tensor_type.shape.dim[:]
        output.type.tensor_type.shape.dim.add().dim_param = "all"
        shape = onnx.helper.make_tensor("of_all", onnx.TensorProto.INT64, [1], [-1])
        model.graph.initializer.append(shape)
        model.graph.node.append(onnx.helper.make_node("Reshape", [inner, "of_all"], ["flat"]))

    change(exported.text.exported, flat)
    assert choose_backends(exported).backends == {"text": EAGER}
    assert "expected one vector for each of" in caplog.text
    with pytest.raises(CorruptArtifactError):
        choose_backends(exported, backend="onnx")


def test_auto_refuses_a_file_that_refers_to_others(exported):
    change(exported.text.exported, lambda model: kept_outside(model.graph.initializer[0]))
    with pytest.raises(UnsafeArtifactError):
        choose_backends(exported)
