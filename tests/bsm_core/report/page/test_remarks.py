"""Remarks at the top of a report: cells that are missing, rows that moved, and what is not known."""

from __future__ import annotations

import pytest
from support.report_records import record, trained

from bsm_core.report.page.remarks import remarks

ROWS = 1_000


def plain(**columns) -> dict:
    """A record in which nothing is unusual, but for what is said of some columns."""
    found = record(rows=0)
    statistics = found["statistics"]
    before = trained()
    number = {"counts": [48] * 20 + [40], "missing": 0, "unusable": 0, "stability_index": 0.01}
    number |= {"training": before.numbers["number 0"].model_dump()}
    channel = {"counts": {"web": 500, "shop": 500}, "other": 0, "missing": 0, "unusable": 0, "unseen": 0}
    channel |= {"unseen_examples": {}, "other_unseen": 0, "stability_index": 0.01}
    channel |= {"training": before.categories["channel"].model_dump()}
    text = {
        **statistics["texts"]["chat"],
        "training": {"chunks": [0, 1000], "tokens": [0, 1000], "missing": 20},
        "stability_index": 0.01,
    }
    given = {"number": number, "channel": channel, "chat": text}
    for name, changes in columns.items():
        given[name] = {**given[name], **changes}
    statistics |= {"rows": ROWS, "predicted": [600, 400], "probabilities": [[10] * 100] * 2}
    statistics |= {"numbers": {"Age": given["number"]}, "categories": {"Class": given["channel"]}}
    statistics |= {"texts": {"Review": given["chat"]}}
    return {"rows": ROWS, "counts": {}, "statistics": statistics}


def said(**columns) -> list[tuple[str, str]]:
    return remarks(plain(**columns))


def test_nothing_unusual():
    assert said() == [("good", "Nothing unusual was found.")]


@pytest.mark.parametrize(
    ("column", "name", "what"),
    [("number", "Age", "missing"), ("channel", "Class", "missing"), ("chat", "Review", "empty")],
)
def test_missing_cells(column, name, what):
    before = "2.0 %" if column == "chat" else "0 %"
    for missing, kind in ((1000, "bad"), (999, "bad"), (600, "bad"), (80, "watch")):
        (remark,) = said(**{column: {"missing": missing}})
        share = "100 %" if missing > 990 else "60 %" if missing == 600 else "8.0 %"
        assert remark == (kind, f"{name} is {what} in {share} of the rows, in training in {before}.")
    assert said(**{column: {"missing": 9}})[0][0] == "good"


@pytest.mark.parametrize(("missing", "rows", "is_said"), [(50, 1000, True), (39, 1000, False), (5, 100, False)])
def test_clearly_more_than_in_training_are_said(missing, rows, is_said):
    """Twice the 2 % of training, and more than chance explains."""
    found = plain(chat={"missing": missing})
    found["rows"] = found["statistics"]["rows"] = rows
    assert any("Review is empty" in text for _, text in remarks(found)) is is_said


def test_unusable_cells_and_the_worst_first():
    found = said(number={"unusable": 70, "missing": 30}, channel={"unusable": 400}, chat={"unusable": 90})
    assert [text for _, text in found] == [
        "Class is unusable in 40 % of the rows, in training in 0 %.",
        "Age is missing or unusable in 10 % of the rows, in training in 0 %.",
        "Review is unusable, or was cut, in 9.0 % of the rows.",
    ]


def test_as_many_as_in_training_are_usual():
    often = {**plain()["statistics"]["numbers"]["Age"]["training"], "missing": 500}
    assert said(number={"training": often, "missing": 340})[0][0] == "good"
    assert said(number={"training": often, "missing": 400})[0][1].startswith("Age is missing in 40 %")
    rare = {**often, "missing": 5}
    assert said(number={"training": rare, "missing": 20})[0][1].startswith("Age is missing in 2.0 %")


def test_values_that_training_did_not_have():
    flag = {"edges": [], "values": [0.0, 1.0], "counts": [500, 500, 0], "missing": 0}
    assert said(number={"training": flag, "counts": [450, 500, 50]})[0][0] == "good"
    (remark,) = said(number={"training": flag, "counts": [400, 500, 100]})
    assert remark == ("watch", "10 % of the rows have a value of Age that training did not have.")


def test_many_columns_are_named_in_part():
    found = plain(number={"missing": 900})
    age = found["statistics"]["numbers"]["Age"]
    found["statistics"]["numbers"] = {f"n{i:02d}": {**age, "missing": 900 - i} for i in range(30)}
    texts = [text for _, text in remarks(found)]
    assert texts[0].startswith("n00 is missing in 90 %")
    assert "20 more columns have many missing or unusable cells; see the tables." in texts
    assert len(texts) == 11


def test_a_shift_that_is_not_known_is_said():
    unknown = {"training": None, "stability_index": None}
    ((kind, text),) = said(number=unknown, channel=unknown, chat=unknown)
    assert kind == "watch"
    assert (
        text == "How far the inputs have moved from training is not known: the artifact does not record how they lay."
    )
    few = {"stability_index": None}
    ((kind, text),) = said(number=few, channel=few, chat=few)
    assert (kind, "100 rows" in text) == ("watch", True)
    (remark,) = said(number={**unknown, "missing": 60}, channel=few)
    assert remark == ("watch", "Age is missing in 6.0 % of the rows.")


def test_predictions_alone_say_nothing_of_the_inputs():
    found = plain()
    for kind in ("numbers", "categories", "texts"):
        found["statistics"][kind] = {}
    assert remarks(found) == [("good", "Nothing unusual was found in the scores.")]
