from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from support.report_records import ODD, labeled_rows, record

from bsm_core.report.page.draw import draw

WIDE = record(classes=30)


def svgs(page: str) -> list[ET.Element]:
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_every_section_is_there_with_its_numbers():
    found = record(names=["stays", "leaves"])
    page = draw(found, subject="data", labeled=labeled_rows(), label_notes=["3 row(s) have no label"])
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert titles == [
        *("At a glance", "With labels", "Scores", "Scores over the input", "Numeric features", "Categorical features"),
        *("Texts", "Row issues", "Least certain rows", "Time", "Provenance"),
    ]
    for text in ("leaves", "3,000", "not a number", "PSI", "3 row(s) have no label", "chat: tokenizer", "ab" * 32):
        assert text in page
    assert "The mean probability of leaves is" in page  # the second half has higher scores
    assert len(page) < 400_000


def test_names_of_anyone_are_escaped():
    page = draw(
        record(names=["stays", ODD]),
        subject=ODD,
        notes=[ODD],
        labeled=labeled_rows(names=["stays", ODD]),
        label_notes=[ODD],
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(svgs(page)) > 10  # each is well-formed XML
    assert not re.search(r"https?:|src=|url\(|@import", page)


def test_each_chart_has_a_title_a_description_and_its_numbers_in_a_table():
    page = draw(record(), labeled=labeled_rows())
    for svg in svgs(page):
        title, description = svg[0], svg[1]
        assert (title.tag, description.tag, svg.get("role")) == ("title", "desc", "img")
        assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert description.text
    assert page.count("<figure") == page.count("<details>")
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_record_draws_the_same_bytes():
    assert draw(record()) == draw(record())


def test_a_large_record_stays_below_two_megabytes():
    page = draw(record(rows=1_000, classes=20, numbers=400), labeled=labeled_rows(classes=20))
    assert len(page.encode()) < 2_000_000
    assert "The 60 of 200 numeric features" in page
    assert "200 feature(s) of the model are in no statistics" in page


def test_many_classes():
    labeled = labeled_rows(rows=500, classes=30)
    page = draw(WIDE, labeled=labeled)
    most = max(range(30), key=lambda index: labeled.measured.classes[index].rows)
    assert f"class {most}: AUROC" in page
    assert "Of 30 classes, the 20 with the most rows have metrics below." in page
    assert "The curves are those of the 5 classes with the most rows." in page
    assert "Classes that are confused most" in page
    assert "predicted class 0" not in page
    few = draw(WIDE, labeled=labeled_rows(rows=500, classes=4))
    assert "Classes that are confused most" not in few
    assert "predicted class 0" in few
    assert page.count("Probability of class") >= 20
    assert "The probabilities of the first 20 classes are drawn." in page


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_few_rows(rows):
    page = draw(record(rows=rows))
    assert ("The input has no rows." in page) == (rows == 0)
    svgs(page)


def test_a_record_of_one_class():
    assert "class 0" in draw(record(rows=50, classes=1))
