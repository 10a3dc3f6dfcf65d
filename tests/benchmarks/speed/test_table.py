from __future__ import annotations

import pytest
from table import claims, summary, to_text

PEAKS = {"fp32": {"gflops": 100.0}, "int8": {"failed": "no such kernel"}}


def result(system: str, seconds: float, **changes) -> dict:
    rounds = [
        {"seconds": 2 * seconds, "rows": 50, "peak_mb": 700.0, "difference": 0.0, "start_up": 1.0},
        {"seconds": seconds, "rows": 50, "peak_mb": 800.0, "difference": 1e-7, "start_up": 0.5},
    ]
    difference = changes.pop("difference", None)
    if difference is not None:
        rounds[0]["difference"] = difference
    work = {"tokens": 4000, "gflop": 80.0, "distinct_gflop": 40.0, "needed_gflop": 30.0}
    names = {"model": "minilm", "data": "reviews", "device": "cpu", "system": system, "precision": "fp32"}
    return summary({**names, **work, "rounds": rounds, **changes}, PEAKS)


def test_the_fastest_round_counts_and_the_worst_peak_and_difference():
    made = result("bsm", 2.0)
    assert made["rows_per_s"] == 25
    assert made["tokens_per_s"] == 2000
    assert made["gflops"] == 20
    assert made["share"] == pytest.approx(0.2)
    assert (made["peak_mb"], made["difference"], made["start_up"]) == (800, 1e-7, 1)


def test_start_up_is_taken_off_without_favour_for_the_round_where_it_took_longest():
    rounds = [
        {"seconds": 9.0, "whole": 10.0, "few": 1.0, "rows": 50},
        {"seconds": 8.0, "whole": 11.0, "few": 3.0, "rows": 50},
    ]
    made = summary({"precision": "fp32", "tokens": 1, "distinct_gflop": 9.0, "needed_gflop": 9.0, "rounds": rounds}, {})
    assert made["rows_per_s"] == pytest.approx(50 / 9)


def test_an_exact_rival_is_compared_with_what_is_exact_alone():
    found = list(claims([result("bsm", 1.0, difference=0.01), result("sorted", 2.0)]))
    assert not any("exact rival" in line for line in found)


def test_no_share_without_a_peak_or_without_products():
    assert result("bsm int8", 1.0, precision="int8")["share"] is None
    assert result("bsm", 1.0, distinct_gflop=0.0)["share"] is None


def test_the_table_has_the_fastest_first():
    lines = to_text([result("slow", 10.0), result("fast", 1.0, difference=0.004)]).splitlines()
    assert lines[2] == "| fast | fp32 | 50 | 4,000 | 40 | 40% | 30% | 800 | 0.004 | 1.0 |"
    assert lines[3].startswith("| slow | fp32 | 5 |")
    assert "| exact |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_claims_are_of_exact_rivals_and_of_one_precision():
    found = list(
        claims(
            [
                result("bsm", 1.0),
                result("bsm bf16", 0.5, precision="bf16", difference=0.01),
                result("padded loop", 20.0),
                result("sorted", 2.0),
                result("cheat", 0.1, difference=0.1),
                result("sorted bf16", 2.0, precision="bf16", difference=0.01),
            ]
        )
    )
    assert found == [
        "minilm, reviews, cpu: bsm is 20.00 times the padded loop",
        "minilm, reviews, cpu: bsm is 2.00 times the best exact rival (sorted)",
        "minilm, reviews, cpu: bsm bf16 is 4.00 times the best bf16 rival (sorted bf16)",
        "minilm, reviews, cpu: bsm is at 40% of the fp32 matrix product, 30% in what is needed",
    ]


def test_duplicates_are_measured_by_the_rate_of_the_reviews():
    found = list(claims([result("bsm", 1.0), result("bsm", 2.0, data="duplicates", distinct_gflop=20.0)]))
    assert "minilm, duplicates, cpu: bsm takes 4.00 times the time of the distinct chunks" in found


def test_peak_memory_beside_that_of_a_tenth():
    tabular = {"model": "tabular", "distinct_gflop": 0.0}
    found = list(
        claims([result("bsm", 1.0, data="tabular", **tabular), result("bsm", 1.0, data="tabular-tenth", **tabular)])
    )
    assert found == ["tabular, tabular, cpu: peak memory 1.00 times that of a tenth of the rows"]
