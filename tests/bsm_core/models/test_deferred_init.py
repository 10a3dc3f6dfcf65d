from __future__ import annotations

import copy
import sys

import pytest
import torch
from support.operations import Operations
from torch import nn

from bsm_core.models import deferred_fills, deferred_init
from bsm_core.models.deferred_init import deferred_initialization


class Model(nn.Module):
    """Layers with initial weights of every kind that torch has."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6, padding_idx=3)
        self.lstm = nn.LSTM(6, 4, bidirectional=True)
        self.norm = nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2)
        self.linear = nn.Linear(6, 2)
        self.register_buffer("positions", torch.arange(5).expand(1, -1), persistent=False)


@pytest.fixture
def operations():
    with Operations() as operations:
        yield operations


def test_weights_that_are_replaced_are_never_drawn(operations):
    state = Model().state_dict()
    drawn = operations.random
    with deferred_initialization():
        model = Model()
        model.load_state_dict(state)
    assert drawn > 10
    assert operations.random == drawn
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.positions.tolist() == [[0, 1, 2, 3, 4]]


def test_weights_that_nothing_replaces_are_drawn_in_the_end():
    def build():
        torch.manual_seed(0)
        return nn.ModuleList([nn.Embedding(20, 6, padding_idx=3), nn.LSTM(6, 4), nn.LayerNorm(6), nn.Linear(6, 2)])

    usual = build().state_dict()
    with deferred_initialization():
        model = build()
    assert all(torch.equal(value, usual[name]) for name, value in model.state_dict().items())


def test_some_weights_are_replaced_and_others_drawn():
    with deferred_initialization():
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(500, 1))
        model.load_state_dict({"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3)}, strict=False)
    assert model[0].weight.tolist() == [[1, 1]] * 3
    assert model[1].weight.std().item() == pytest.approx((3 * 500) ** -0.5, rel=0.2)


READS = {
    "an operation": lambda weight: weight.norm().item(),
    "a view": lambda weight: weight.detach()[1:].T.sum().item(),
    "numpy": lambda weight: weight.detach().numpy().sum().item(),
    "a list": lambda weight: sum(map(sum, weight.tolist())),
    "a copy": lambda weight: copy.deepcopy(weight).sum().item(),
    "another tensor": lambda weight: torch.zeros(4, 3).copy_(weight).sum().item(),
    "an argument by name": lambda weight: torch.sum(input=weight).item(),
    "a list of tensors": lambda weight: torch.cat([weight, weight]).sum().item(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_computed_from_initial_weights_is_what_it_would_be(read):
    torch.manual_seed(0)
    usual = read(nn.Linear(3, 4).weight)
    torch.manual_seed(0)
    with deferred_initialization():
        layer = nn.Linear(3, 4)
        computed = read(layer.weight)
        layer.load_state_dict({"weight": torch.zeros(4, 3), "bias": torch.zeros(4)})
    assert computed == usual != 0


def test_what_changes_a_part_waits_its_turn():
    with deferred_initialization():
        weight = torch.empty(4, 3)
        nn.init.constant_(weight, 5.0)
        nn.init.zeros_(weight[1])
        weight[2].fill_(7.0)
        weight += 1
    assert weight.tolist() == [[6] * 3, [1] * 3, [8] * 3, [6] * 3]


def test_a_part_alone_is_changed_at_once(operations):
    weight = torch.ones(4, 3)
    with deferred_initialization():
        before = operations.done["fill_"]
        weight[1].fill_(2.0)
        assert operations.done["fill_"] == before + 1
        weight[:2].copy_(weight[1:3].clone())
    assert weight.tolist() == [[2] * 3, [1] * 3, [1] * 3, [1] * 3]


def test_overwriting_a_part_keeps_the_rest():
    with deferred_initialization():
        weight = torch.empty(4, 3).fill_(5.0)
        weight[1].copy_(torch.zeros(3))
        same = torch.empty(2).fill_(1.0)
        same.copy_(same)
    assert weight.tolist() == [[5] * 3, [0] * 3, [5] * 3, [5] * 3]
    assert same.tolist() == [1, 1]


def test_a_parameter_that_is_given_other_data_keeps_them():
    with deferred_initialization():
        layer = nn.Linear(2, 2)
        layer.weight.data = torch.full((2, 2), 3.0)
    assert layer.weight.tolist() == [[3, 3], [3, 3]]


def test_tied_weights_stay_tied():
    with deferred_initialization():
        model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        model["b"].weight = model["a"].weight
        model.load_state_dict({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)})
    assert model["b"].weight is model["a"].weight
    assert model["a"].weight.tolist() == [[1, 1], [1, 1]]


def test_tensors_without_memory_are_no_matter_of_it():
    with deferred_initialization():
        assert torch.empty(2, device="meta").normal_().is_meta
        assert torch.empty(0).normal_().shape == (0,)
        assert torch.eye(2).to_sparse().sum().item() == 2


def test_an_error_ends_it_and_draws_nothing(operations):
    class Broken(nn.Linear):
        def reset_parameters(self):
            super().reset_parameters()
            raise KeyError

    with pytest.raises(KeyError), deferred_initialization():
        Broken(3, 4)
    assert operations.random == 0
    nn.Linear(3, 4)
    assert operations.random == 2


@pytest.fixture
def untried():
    deferred_init._deferral.cache_clear()
    yield
    deferred_init._deferral.cache_clear()


def gone(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils._python_dispatch", None)
    monkeypatch.delitem(sys.modules, "bsm_core.models.deferred_fills")


def without_what_it_calls(monkeypatch):
    def no_such_attribute(tensor):
        raise AttributeError("untyped_storage")

    monkeypatch.setattr(deferred_fills, "_address", no_such_attribute)


def that_forgets_a_fill(monkeypatch):
    monkeypatch.setattr(deferred_fills._DeferFills, "_fill", lambda self, address: self._deferred.pop(address, ()))


@pytest.mark.parametrize("change", [gone, without_what_it_calls, that_forgets_a_fill])
def test_where_dispatch_modes_do_not_work_weights_are_drawn_as_usual(untried, monkeypatch, change):
    torch.manual_seed(0)
    usual = Model().state_dict()
    change(monkeypatch)
    with Operations() as operations, deferred_initialization():
        torch.manual_seed(0)
        model = Model()
    assert operations.random > 10
    assert all(torch.equal(value, usual[name]) for name, value in model.state_dict().items())
