"""Rows for which a model class fails, found in batches where other rows are fine."""

from __future__ import annotations

import pytest
import torch

from bsm_core import Batch, ModelBase
from bsm_core.errors import ModelFailedError
from bsm_core.models.bad_rows import NOT_FINITE, bad_rows, large_numbers


class Square(ModelBase):
    """Fails for a negative feature, and is not finite for a large one, in one of several ways."""

    spoils: bool = False
    """Whether a row that is not finite spoils all rows of its batch."""

    def __init__(self, config):
        super().__init__(config)
        self.linear = torch.nn.Linear(4, 2)
        self.sizes: list[int] = []

    def forward(self, batch):
        self.sizes.append(batch.rows)
        if (batch.features < 0).any():
            raise ValueError(f"{batch.rows} row(s) with a negative number")
        logits = (
            self.linear(batch.features).square() * torch.where(batch.features.amax(1) > 1e20, torch.nan, 1.0)[:, None]
        )
        return logits + 0 * logits.sum() if self.spoils else logits


def model(**attributes):
    torch.manual_seed(0)
    made = Square.from_config({})
    vars(made).update(attributes)
    return made


def features(rows, **cells):
    values = torch.rand(rows, 4, generator=torch.Generator().manual_seed(1))
    for row, cell in cells.items():
        values[int(row.removeprefix("r")), 1] = cell
    return Batch(rows, features=values, feature_names=("a", "b", "c", "d"))


@pytest.mark.parametrize("spoils", [False, True])
def test_each_row_at_fault_is_found_alone(spoils):
    batch = features(100, r0=1e30, r7=-1.0, r8=-1.0, r63=1e30, r99=-1.0)
    found = dict(bad_rows(model(spoils=spoils)._probabilities, batch))
    assert found == {
        0: f"{NOT_FINITE} (large numbers: 'b' 1e+30)",
        7: "ValueError: 1 row(s) with a negative number",
        8: "ValueError: 1 row(s) with a negative number",
        63: f"{NOT_FINITE} (large numbers: 'b' 1e+30)",
        99: "ValueError: 1 row(s) with a negative number",
    }


def test_one_row_of_many_is_found_in_few_batches():
    made = model()
    assert list(dict(bad_rows(made._probabilities, features(4096, r1234=-1.0)))) == [1234]
    assert len(made.sizes) == 25
    assert sum(made.sizes) < 3 * 4096


@pytest.mark.parametrize("cell", [1e30, -1.0])
def test_other_rows_have_the_bytes_that_they_have_without_the_row_at_fault(cell):
    made, batch = model(set_aside=True), features(512)
    clean = made.predict_step(batch)
    assert batch.failed == {}
    batch = features(512, r5=cell, r400=cell)
    got = made.predict_step(batch.to("cpu"))
    assert list(batch.failed) == [5, 400]
    others = [row for row in range(512) if row not in (5, 400)]
    assert torch.equal(got[others], clean[others])
    assert got[[5, 400]].isnan().all()


def test_a_batch_in_which_all_rows_are_at_fault():
    batch = features(3, r0=-1.0, r1=1e30, r2=-1.0)
    assert model(set_aside=True).predict_step(batch).isnan().tolist() == [[True, True]] * 3
    assert list(batch.failed) == [0, 1, 2]


class NeedsAFewRows(Square):
    def forward(self, batch):
        if batch.rows > 4:
            raise RuntimeError("too many")
        return super().forward(batch)


class LosesARow(Square):
    def forward(self, batch):
        return super().forward(batch)[1:]


@pytest.mark.parametrize(("broken", "words"), [(NeedsAFewRows, "RuntimeError: too many"), (LosesARow, "as logits")])
@pytest.mark.parametrize("set_aside", [False, True], ids=["fail", "null"])
def test_a_failure_that_is_the_fault_of_no_row_is_an_error(broken, words, set_aside):
    made = broken.from_config({})
    made.set_aside = set_aside
    with pytest.raises(ModelFailedError, match=words) as caught:
        made.predict_step(features(9))
    assert not any("rows:" in line for line in caught.value.details)


def test_an_error_names_rows_and_large_numbers():
    with pytest.raises(ModelFailedError, match="infinite for 2 of 9 rows") as caught:
        model().predict_step(features(9, r2=1e30, r5=1e25))
    large = ("row 2 (large numbers: 'b' 1e+30)", "row 5 (large numbers: 'b' 1e+25)")
    assert caught.value.details == ("rows: 2, 5", *large)
    with pytest.raises(ModelFailedError, match=r"ValueError: 9 row\(s\) with a negative number") as caught:
        model().predict_step(features(9, r2=-1.0, r5=-2e7))
    assert caught.value.details[1:] == ("rows: 2, 5", "row 5 (large numbers: 'b' -2e+07)")
    with pytest.raises(ModelFailedError) as caught:
        model().predict_step(features(30, **{f"r{row}": -1.0 for row in range(30)}))
    assert len(caught.value.details) == 1  # all rows: the class is at fault


def test_a_large_number_after_scaling_is_named_as_such():
    features, unscaled = torch.tensor([[0.0, 1e30]]), torch.tensor([[5.0, 7.0]])
    batch = Batch(1, features=features, feature_names=["a", "b"], unscaled=unscaled)
    assert large_numbers(batch, 0) == " (large numbers after scaling: 'b' 1e+30)"
