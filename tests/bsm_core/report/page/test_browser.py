"""The page in a real browser: nothing is loaded, charts show the numbers, and everybody can read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.browsers import browser as browser
from support.report_records import ODD, labeled_rows, record

from bsm_core.report.page.draw import draw

RECORD = record(300, numbers=2, names=["stays", ODD])
OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    if (!frame.width) continue;
    const texts = [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]);
    for (const [text, box] of texts)
      if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(`outside: ${text}`);
    for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [texts[i][1], texts[j][1]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) found.push(`${texts[i][0]} on ${texts[j][0]}`);
    }
  }
  return found;
}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll('svg')].filter(s => s.clientWidth).map(
  s => 12 * s.clientWidth / s.viewBox.baseVal.width))"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    text = draw(
        RECORD,
        subject=ODD,
        notes=[ODD],
        labeled=labeled_rows(names=["stays", ODD]),
        label_notes=[f"{ODD} was left out"],
    )
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, file):
    pages = []

    def start(width=1400, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield start
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_loaded_and_everything_fits(opened, file, width):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.said == []
    assert page.asked == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(SMALLEST) >= 10  # pixels
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    assert page.title().endswith(ODD)


def test_the_bars_have_the_heights_of_the_numbers(opened):
    page, counts = opened(), RECORD["statistics"]["probabilities"][1]
    chart = page.locator(f"figure:has(h3:text-is('Probability of {ODD.replace(chr(39), chr(92) + chr(39))}'))")
    bars = chart.locator("rect").evaluate_all("all => all.map(e => [e.x.baseVal.value, e.height.baseVal.value])")
    shown = [count for count in counts if count]
    assert len(bars) == len(shown)
    heights = [height for _, height in sorted(bars)]
    scale = max(heights) / max(shown)
    assert heights == pytest.approx([count * scale for count in shown], abs=0.02)
    rows = chart.locator("tbody tr").evaluate_all("all => all.map(e => e.children[1].textContent)")
    assert [int(cell.replace(",", "")) for cell in rows] == [
        count for count, old in zip(counts, RECORD["statistics"]["training"]["scores"][1], strict=True) if count or old
    ]


def test_the_curve_and_the_table_have_the_metric(opened):
    page, area = opened(), f"{labeled_rows().measured.metrics['auroc'].value:.4f}"
    assert page.locator("#labels table").first.locator("td").first.text_content() == area
    assert area in page.locator("figure:has(h3:text-is('ROC curve')) desc").text_content()
    points = page.locator("figure:has(h3:text-is('ROC curve')) path.line").get_attribute("d")
    assert points.count("L") > 50


@pytest.mark.parametrize(
    ("width", "scheme", "only"),
    [(360, "light", {}), (1400, "dark", {"runOnly": ["color-contrast"]})],
    ids=["phone", "dark"],
)
def test_axe_finds_no_serious_fault(opened, width, scheme, only):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(width, color_scheme=scheme)
    page.locator("details").first.evaluate("each => each.open = true")  # of all of them it takes half a minute
    found = axe.Axe().run(page, options=only or None).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []


def test_the_keyboard_reaches_the_content_and_opens_the_numbers(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    details = page.locator("details").first
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.evaluate("each => each.open")


def test_on_paper_are_the_charts_and_no_links(opened):
    page = opened(794)  # the width of A4
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert not page.locator("nav").is_visible()
    assert not page.locator("summary").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("svg:visible").count() >= 10
    assert page.pdf(format="A4")[:5] == b"%PDF-"
