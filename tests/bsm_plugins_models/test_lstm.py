from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, linear, make, make_batch, shapes, token_rows, wrong_keys

from bsm_core import Batch, ConfigError, TextBatch
from bsm_plugins_models.text import Lstm


@pytest.mark.parametrize("layers", [1, 3])
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(layers):
    lstm = {}
    for layer in range(layers):
        for half in ("", "_reverse"):
            lstm |= {
                f"lstm.weight_ih_l{layer}{half}": (32, 16 if layer else 12),
                f"lstm.weight_hh_l{layer}{half}": (32, 8),
                f"lstm.bias_ih_l{layer}{half}": (32,),
                f"lstm.bias_hh_l{layer}{half}": (32,),
            }
    assert shapes(make(Lstm, num_layers=layers)) == LOSS | {"embeddings.weight": (64, 12)} | lstm | linear("fc", 16, 2)


def test_each_chunk_padded_to_max_sen_len_without_a_mask_then_the_mean():
    model, rows = make(Lstm), token_rows(4)
    want = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([chunk + [0] * (16 - len(chunk)) for chunk in row])
            outputs, _ = torch.nn.LSTM.forward(model.lstm, model.embeddings.weight[ids])
            want.append(model.fc(torch.cat([outputs[:, -1, :8], outputs[:, 0, 8:]], 1).mean(0)))
        got = model(Batch(4, {"chat": TextBatch.from_rows(rows)}))
    assert torch.allclose(got, torch.stack(want), atol=1e-6)


def test_the_options():
    model = make(Lstm, dropout_keep=0.9, is_embeddings_trainable=False)
    assert model.dropout.p == pytest.approx(0.1)
    assert not model.embeddings.weight.requires_grad
    model.train().training_step(make_batch(3)).backward()
    assert model.embeddings.weight.grad is None


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(Lstm, {})) == {"text_name", "hidden_common_dim", "embedding_shape"}
    wrong = {**CONFIG, "num_layers": 0, "dropout_keep": 2, "embedding_shape": [64], "is_embeddings_trainable": "x"}
    assert {key.split(".")[0] for key in wrong_keys(Lstm, wrong)} == {
        "num_layers", "dropout_keep", "embedding_shape", "is_embeddings_trainable"
    }  # fmt: skip


def test_the_embedding_starts_from_a_matrix_and_nothing_else_does():
    model = make(Lstm)
    model.load_pretrained("embedding_mat", {"weight": torch.ones(64, 12)})
    assert (model.embeddings.weight == 1).all()
    with pytest.raises(ConfigError, match=r"Lstm cannot load pretrained weights for 'text_encoder' \(config") as caught:
        model.load_pretrained("text_encoder", {})
    assert "embedding_mat" in caught.value.fix
