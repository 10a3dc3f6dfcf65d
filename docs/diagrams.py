"""Diagrams as SVG: a grid of boxes, and arrows between them.

Every text stands in a box that has its own color, and the gray of the lines is visible on white and on black. So one
file serves light pages, dark pages and paper, and needs no style sheet. Widths of texts are estimated for a wide font:
a text that could leave its box is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

FILLS = {"data": "#68717d", "encoder": "#2a6fc4", "fusion": "#8b52cf", "head": "#1d7f4c"}
"""Color of a box by its kind. White on it, and it on white and on black, have enough contrast."""
TEXT, LINE = "#ffffff", "#7d8590"
WIDTH, MARGIN = 360, 7
"""Width of a picture, and space around it, in pixels."""
TITLE, SIZE, LEADING, PADDING = 13, 12, 16, 6
"""Font sizes, distance of the lines, and space above and below the lines of a box, in pixels."""
NARROW, BROAD = "fijlrt|.,:;'!()[]/ ", "mwMW→·—"


@dataclass(frozen=True)
class Box:
    """Box of a picture.

    Attributes:
        kind: Key of ``FILLS``.
        title: First line, in bold type.
        lines: Further lines.
        at: Row and column of its upper left corner in the grid.
        span: Number of rows and columns.
        module: Path of the module of the model class that it stands for; empty for none.
        joined: Whether arrows lead from the box above and to the box below.
    """

    kind: str
    title: str
    lines: tuple[str, ...] = ()
    at: tuple[int, int] = (0, 0)
    span: tuple[int, int] = (1, 1)
    module: str = ""
    joined: bool = True

    @property
    def columns(self) -> range:
        """Return the columns of the grid that the box covers."""
        return range(self.at[1], self.at[1] + self.span[1])


@dataclass(frozen=True)
class Picture:
    """Diagram.

    Attributes:
        name: Name of its file, without ``.svg``.
        title: Title, for screen readers.
        description: The content in words, for screen readers.
        boxes: The boxes.
        columns: Number of columns of the grid.
        arrows: Further arrows, each from a box to a box by their places in the grid.
        frame: First and last row, and number of columns, of a dashed frame.
        space: Space between boxes side by side, and between rows, in pixels.
        unsized: Prefixes of the names of modules whose sizes the boxes leave out.
    """

    name: str
    title: str
    description: str
    boxes: tuple[Box, ...]
    columns: int = 1
    arrows: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = ()
    frame: tuple[int, int, int] | None = None
    space: tuple[int, int] = (10, 22)
    unsized: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Rectangle of a box, in pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def center(self) -> float:
        """Return the horizontal center."""
        return self.left + self.width / 2

    @property
    def right(self) -> float:
        """Return the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Return the lower edge."""
        return self.top + self.height


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of a text in a wide sans-serif font, such as DejaVu Sans, in pixels."""
    units = sum(0.36 if c in NARROW else 0.98 if c in BROAD else 0.7 if c.isupper() else 0.62 for c in text)
    return units * size * (1.1 if bold else 1)


def places(picture: Picture) -> dict[Box, Place]:
    """Return where the boxes are: columns are equally wide, and rows as high as their highest box."""
    gap, clear = picture.space
    column = (WIDTH - 2 * MARGIN - (picture.columns - 1) * gap) / picture.columns
    heights: dict[int, float] = {}
    for box in picture.boxes:
        if box.span[0] == 1:
            height = LEADING * (1 + len(box.lines)) + 2 * PADDING
            heights[box.at[0]] = max(height, heights.get(box.at[0], 0))
    tops, y = {}, float(MARGIN)
    for row in range(max(heights) + 1):
        tops[row] = y
        y += heights[row] + clear
    found = {}
    for box in picture.boxes:
        last = box.at[0] + box.span[0] - 1
        left, width = MARGIN + box.at[1] * (column + gap), box.span[1] * (column + gap) - gap
        found[box] = Place(left, tops[box.at[0]], width, tops[last] + heights[last] - tops[box.at[0]])
        for text, size, bold in [(box.title, TITLE, True), *((line, SIZE, False) for line in box.lines)]:
            if width_of(text, size, bold=bold) > width - 8:
                raise ValueError(f"{picture.name}: {text!r} does not fit into its box")
    return found


def below(box: Box, boxes: tuple[Box, ...]) -> list[Box]:
    """Return the boxes to which arrows lead down from a box: those in the next row that has any."""
    lower = [b for b in boxes if b.joined and b.at[0] >= box.at[0] + box.span[0] and {*b.columns} & {*box.columns}]
    return [b for b in lower if b.at[0] == min(other.at[0] for other in lower)]


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an arrow as SVG."""
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" marker-end="url(#tip)"/>'


def arrow(first: Place, second: Place) -> str:
    """Return an arrow between two boxes of different columns, down or to the side."""
    if second.top >= first.bottom:
        side = 1 if second.center > first.center else -1
        return line(first.center + 18 * side, first.bottom, second.center - 26 * side, second.top - 1)
    middle = (max(first.top, second.top) + min(first.bottom, second.bottom)) / 2
    if first.left > second.left:
        return line(first.left, middle, second.right + 1, middle)
    return line(first.right, middle, second.left - 1, middle)


def arrows(picture: Picture, where: dict[Box, Place]) -> list[str]:
    """Return the arrows of a picture as SVG: those down from box to box, then the others."""
    found = []
    for box in filter(lambda box: box.joined, where):
        for other in below(box, picture.boxes):
            x = min(where[box], where[other], key=lambda place: place.width).center
            found.append(line(x, where[box].bottom, x, where[other].top - 1))
    at = {box.at: place for box, place in where.items()}
    return found + [arrow(at[first], at[second]) for first, second in picture.arrows]


def frame(picture: Picture, where: dict[Box, Place]) -> list[str]:
    """Return the dashed frame of a picture as SVG, if it has one."""
    if picture.frame is None:
        return []
    first, last, columns = picture.frame
    inside = [place for box, place in where.items() if first <= box.at[0] <= last and box.at[1] < columns]
    left, top = (min(getattr(place, side) for place in inside) - 6 for side in ("left", "top"))
    right, bottom = (max(getattr(place, side) for place in inside) + 6 for side in ("right", "bottom"))
    size = f'width="{right - left:g}" height="{bottom - top:g}"'
    return [f'<rect x="{left:g}" y="{top:g}" {size} rx="8" stroke-dasharray="5 4"/>']


def drawn(box: Box, place: Place) -> list[str]:
    """Return a box with its text as SVG."""
    x, y, size = f"{place.left:g}", f"{place.top:g}", f'width="{place.width:g}" height="{place.height:g}"'
    svg = [f'<rect x="{x}" y="{y}" {size} rx="5" fill="{FILLS[box.kind]}"/>']
    base = place.top + (place.height - LEADING * (1 + len(box.lines))) / 2 + 0.76 * LEADING
    for i, text in enumerate([box.title, *box.lines]):
        style = f'font-size="{SIZE}"' if i else f'font-size="{TITLE}" font-weight="bold"'
        at = f'x="{place.center:g}" y="{base + i * LEADING:g}"'
        svg.append(f'<text {at} {style} fill="{TEXT}">{escape(text)}</text>')
    return svg


def draw(picture: Picture) -> str:
    """Return a picture as SVG."""
    where = places(picture)
    height = max(place.bottom for place in where.values()) + MARGIN
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}" '
        'role="img" aria-labelledby="title text" font-family="system-ui, sans-serif" text-anchor="middle">',
        f'<title id="title">{escape(picture.title)}</title>',
        f'<desc id="text">{escape(picture.description)}</desc>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8Z" fill="{LINE}"/></marker></defs>',
        f'<g stroke="{LINE}" stroke-width="1.5" fill="none">',
        *frame(picture, where),
        *arrows(picture, where),
        "</g>",
    ]
    for box, place in where.items():
        svg += drawn(box, place)
    return "\n".join([*svg, "</svg>", ""])
