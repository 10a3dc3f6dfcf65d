"""The diagrams of the documentation: they are what the script draws, can be read everywhere, and show what there is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import diagrams
import pytest
from diagrams import Box, Picture, draw, places
from draw_pictures import pictures
from support.browsers import browser as browser

from bsm_core import Settings

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = DOCS / "images"
PICTURES = {picture.name: picture for picture in pictures()}
PAGES = "".join(page.read_text() for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"])
BACKGROUNDS = {"white": "#ffffff", "dark page": "#131416", "dark GitHub": "#0d1117"}
OUTSIDE = """() => {
  const found = [], boxes = [...document.querySelectorAll('g ~ rect')].map(e => e.getBoundingClientRect());
  for (const text of document.querySelectorAll('text')) {
    const one = text.getBoundingClientRect();
    const fits = box => one.left > box.left + 2 && one.right < box.right - 2
      && one.top >= box.top && one.bottom <= box.bottom;
    if (boxes.filter(fits).length != 1) found.push(text.textContent);
  }
  return found;
}"""

each = pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))


def luminance(color: str) -> float:
    """Return the relative luminance of a color, as WCAG 2.2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@each
def test_the_file_is_what_the_script_draws(picture):
    assert (IMAGES / f"{picture.name}.svg").read_text() == draw(picture), "run python docs/draw_pictures.py"


@each
def test_a_screen_reader_is_told_what_the_picture_shows(picture):
    root = ElementTree.fromstring(draw(picture))
    space = {"svg": "http://www.w3.org/2000/svg"}
    told = [root.findtext(f"svg:{name}", namespaces=space) for name in ("title", "desc")]
    assert told == [picture.title, picture.description]
    assert all(told)
    assert re.search(rf"!\[[^\]]{{20,}}\]\(images/{picture.name}\.svg\)", PAGES), "no page shows it, with a text"


@each
def test_boxes_lie_beside_each_other_inside_the_picture(picture):
    rectangles = list(places(picture).values())
    assert all(place.left >= 0 and place.right <= diagrams.WIDTH for place in rectangles)
    for a, b in itertools.combinations(rectangles, 2):
        assert a.right < b.left or b.right < a.left or a.bottom < b.top or b.bottom < a.top


def test_a_text_that_could_leave_its_box_is_an_error():
    with pytest.raises(ValueError, match="'mmmmmmmmmm' does not fit into its box"):
        draw(Picture("wide", "Wide", "Too wide.", (Box("data", "mmmmmmmmmm"),), columns=3))


def test_every_image_is_shown_on_a_page():
    assert [file.name for file in IMAGES.iterdir() if f"images/{file.name})" not in PAGES] == []


@pytest.mark.parametrize("color", diagrams.FILLS.values(), ids=diagrams.FILLS)
def test_text_can_be_read_and_boxes_can_be_seen_on_light_and_dark_pages(color):
    assert contrast(diagrams.TEXT, color) >= 4.5
    assert min(contrast(color, page) for page in BACKGROUNDS.values()) >= 3
    assert min(contrast(diagrams.LINE, page) for page in BACKGROUNDS.values()) >= 3


def test_texts_lie_inside_their_boxes_in_a_browser(browser):
    page = browser.new_page(viewport={"width": 360, "height": 700})
    for picture in PICTURES.values():
        page.set_content(f"<body style='margin: 16px'>{draw(picture)}")
        assert page.evaluate(OUTSIDE) == [], picture.name
    page.close()


def test_the_picture_of_an_artifact_names_the_files_that_its_page_lists():
    (tree,) = re.findall(r"^model/\n(.*?)```", (DOCS / "artifact.md").read_text(), re.MULTILINE | re.DOTALL)
    listed = set(re.findall(r"(?:── | or )(\S+)", tree))
    lines = {line.removeprefix("or ") for box in PICTURES["artifact"].boxes for line in box.lines}
    assert {line for line in lines if re.fullmatch(r"\w+(/|[/.][\w.]+)", line)} == listed


def test_the_road_names_the_rows_of_a_window():
    (window,) = [box for box in PICTURES["road"].boxes if box.title == "Window"]
    assert window.lines == (f"{Settings.model_fields['window_rows'].default:,} rows",)
