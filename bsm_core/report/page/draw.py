"""The page of a report: one HTML file that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bsm_core.metrics.labeled import Labeled
from bsm_core.report.page import labeled_sections
from bsm_core.report.page.axes import count_text, number_text, share_text
from bsm_core.report.page.feature_sections import categories, numbers, texts
from bsm_core.report.page.figures import Section
from bsm_core.report.page.remarks import remarks
from bsm_core.report.page.run_sections import issues, provenance, stages, uncertain
from bsm_core.report.page.score_sections import order, scores
from bsm_core.runtime.versions import __version__

_FOLDER = Path(__file__).parent


def draw(
    record: Mapping[str, Any],
    *,
    title: str = "Scoring report",
    subject: str = "",
    notes: Sequence[str] = (),
    labeled: Labeled | None = None,
    label_notes: Sequence[str] = (),
) -> str:
    """Return the page of a run record.

    Args:
        record: The run record, with the key ``statistics``.
        title: Title of the page.
        subject: Line below the title.
        notes: Sentences about the report itself, such as what is not known.
        labeled: The labeled rows.
        label_notes: What became of labels that do not fit.
    """
    found = record["statistics"]
    sections: list[Section | None] = [
        labeled_sections.labeled(labeled, label_notes) if labeled else None,
        scores(found),
        order(found, record["rows"]),
        numbers(found),
        categories(found),
        texts(found),
        issues(record) if "counts" in record else None,
        uncertain(found),
        stages(record),
        provenance(record),
    ]
    return _template().render(
        title=title,
        subject=subject,
        notes=notes,
        cards=_cards(record, labeled),
        remarks=remarks(record),
        sections=[section for section in sections if section],
        style=Markup((_FOLDER / "page.css").read_text("utf-8")),
        version=__version__,
    )


@cache
def _template() -> jinja2.Template:
    source = (_FOLDER / "page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _cards(record: Mapping[str, Any], labeled: Labeled | None) -> list[tuple[str, str, str]]:
    """Return the numbers at the top of the page: what, the number, and a remark."""
    found, rows, seconds = record["statistics"], record["rows"], record.get("seconds")
    total = sum(found["predicted"])
    remark = f"{count_text(total)} with probabilities" if total != rows else "all with probabilities"
    if found["rows"] < rows:
        remark = f"{count_text(found['rows'])} in the statistics"
    cards = [("rows", count_text(rows), remark)]
    if total:
        most = max(range(len(found["predicted"])), key=found["predicted"].__getitem__)
        name = found["classes"][most] if most < len(found["classes"]) else "a further class"
        cards.append(("most predicted", share_text(found["predicted"][most], total), name))
    if labeled:
        auroc = (labeled.measured.macro or labeled.measured.metrics)["auroc"].value
        cards.append(("AUROC", number_text(auroc), f"{count_text(labeled.rows)} rows with a label"))
    if "counts" in record:
        bad = (record["counts"] or {}).get("bad_rows", 0)
        cards.append(("rows with an issue", count_text(bad), share_text(bad, rows)))
    if seconds:
        cards.append(("seconds", number_text(seconds, 3), f"{number_text(rows / seconds, 3)} rows/s"))
    return cards
