"""Points in the plane, to be read on paper: panels with axes, markers and one legend."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Pixels of the finished picture, which is drawn larger and scaled down, for smooth edges.
SIDE, MARGIN, GAP = 560, 28, 18
TEXT, SMALL, RADIUS = 26, 21, 6
OVERSAMPLING = 2
GREY, LINE, INK = (110, 110, 110), (222, 222, 222), (40, 40, 40)
# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (120, 94, 60), (150, 150, 150)),
)


class Series(NamedTuple):
    """Points `[n, 2]` that share a name in the legend, a colour (RGB) and a marker."""

    name: str
    points: np.ndarray
    colour: tuple[int, int, int]
    marker: str = "disc"


class Panel(NamedTuple):
    """Series in one square."""

    title: str
    series: Sequence[Series]


class Row(NamedTuple):
    """Panels that share the range of their axes, and what the axes show."""

    panels: Sequence[Panel]
    axes: tuple[str, str]
    numbers: bool = True


def scatter_picture(rows: Sequence[Row], title: str, note: str = "") -> Image.Image:
    """Draw rows of panels under a title, with the legend of all series on the right and a note
    below."""
    scale = OVERSAMPLING
    font, small = (ImageFont.load_default(size * scale) for size in (TEXT, SMALL))
    legend: dict[str, Series] = {}
    for row in rows:
        for panel in row.panels:
            for series in panel.series:
                legend.setdefault(series.name, series)
    numbers = 84  # room for the numbers and the name of the vertical axis
    cell = (numbers + SIDE + GAP, 2 * TEXT + SIDE + 3 * SMALL + GAP)
    columns = max(len(row.panels) for row in rows)
    right = MARGIN + columns * cell[0]
    widest = max(small.getlength(name) for name in legend) / scale
    top = MARGIN + TEXT + GAP
    height = max(len(rows) * cell[1], len(legend) * (SMALL + 12) + 2 * TEXT)
    width = max(right + GAP + 40 + widest, *(f.getlength(t) / scale for f, t in
                ((font, title), (small, note)))) + MARGIN  # fmt: skip
    size = (round(width + MARGIN), top + height + (SMALL + GAP if note else 0) + MARGIN)
    page = Image.new("RGB", (size[0] * scale, size[1] * scale), "white")
    pen = ImageDraw.Draw(page, "RGBA")
    pen.text((MARGIN * scale, MARGIN * scale), title, fill="black", font=font)
    for number, row in enumerate(rows):
        span = _range([s.points for panel in row.panels for s in panel.series])
        for column, panel in enumerate(row.panels):
            corner = (MARGIN + numbers + column * cell[0], top + number * cell[1] + 2 * TEXT)
            _draw_panel(page, pen, panel, row, span, corner)
    y = top + 2 * TEXT
    for series in legend.values():
        _mark(pen, series, (right + GAP + 12) * scale, (y + SMALL / 2) * scale, 1.2 * RADIUS)
        place = ((right + GAP + 34) * scale, (y + SMALL / 2) * scale)
        pen.text(place, series.name, fill="black", font=small, anchor="lm")
        y += SMALL + 12
    if note:
        place = (MARGIN * scale, (size[1] - MARGIN - SMALL) * scale)
        pen.text(place, note, fill=GREY, font=small)
    return page.resize(size, Image.Resampling.LANCZOS)


def _draw_panel(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    row: Row,
    span: np.ndarray,
    corner: tuple[int, int],
) -> None:
    """Draw one panel whose square begins at `corner`, showing `span` [low, high] × [x, y]."""
    scale = OVERSAMPLING
    font, small = (ImageFont.load_default(size * scale) for size in (TEXT, SMALL))
    left, top, side = corner[0] * scale, corner[1] * scale, SIDE * scale
    pen.text((left, top - GAP * scale), panel.title, fill="black", font=font, anchor="ls")

    def place(points: np.ndarray) -> np.ndarray:
        shares = (points - span[0]) / (span[1] - span[0])
        return np.stack([left + shares[:, 0] * side, top + (1 - shares[:, 1]) * side], axis=1)

    if row.numbers:
        for axis in (0, 1):
            for value in ticks(*span[:, axis]):
                x, y = place(np.where(np.arange(2) == axis, value, span[0])[None])[0]
                ends = ((x, top), (x, top + side)) if axis == 0 else ((left, y), (left + side, y))
                pen.line(ends, fill=LINE, width=scale)
                at, anchor = ((x, top + side + 6 * scale), "mt") if axis == 0 else (
                    (left - 8 * scale, y), "rm")  # fmt: skip
                pen.text(at, f"{value:g}", fill=GREY, font=small, anchor=anchor)
    # In random order, or the last class would hide those before it; stars come last.
    marks = [(s, *at) for s in panel.series for at in place(s.points)]
    radius = RADIUS if len(marks) < 400 else 0.7 * RADIUS
    for number in np.random.default_rng(0).permutation(len(marks)):
        if marks[number][0].marker != "star":
            _mark(pen, *marks[number], radius)
    stars = [mark for mark in marks if mark[0].marker == "star"]
    for mark in stars:
        _mark(pen, *mark, RADIUS if len(stars) < 100 else 0.6 * RADIUS)
    pen.rectangle((left, top, left + side, top + side), outline=INK, width=scale)
    below = (left + side / 2, top + side + (6 + SMALL + 6) * scale)
    pen.text(below, row.axes[0], fill=INK, font=small, anchor="mt")
    name = Image.new("RGB", (round(small.getlength(row.axes[1])) + 2, (SMALL + 8) * scale), "white")
    ImageDraw.Draw(name).text((0, name.height // 2), row.axes[1], INK, small, anchor="lm")
    name = name.rotate(90, expand=True)
    page.paste(name, (round(left - 82 * scale), round(top + side / 2 - name.height / 2)))


def _mark(pen: ImageDraw.ImageDraw, series: Series, x: float, y: float, radius: float) -> None:
    """Draw a marker: a disc, a triangle, or a star for what stands out."""
    scale = OVERSAMPLING
    r = radius * scale
    fill, edge = (*series.colour, 190), tuple(round(0.6 * c) for c in series.colour)
    if series.marker == "disc":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=edge, width=scale)
    elif series.marker == "triangle":
        corners = [(x, y - 1.2 * r), (x - 1.1 * r, y + 0.8 * r), (x + 1.1 * r, y + 0.8 * r)]
        pen.polygon(corners, fill=fill, outline=edge, width=scale)
    else:
        angles = [math.pi * (k / 5 - 0.5) for k in range(10)]
        lengths = [2.3 * r if k % 2 == 0 else r for k in range(10)]
        star = [
            (x + length * math.cos(angle), y + length * math.sin(angle))
            for angle, length in zip(angles, lengths, strict=True)
        ]
        pen.polygon(star, fill=(*series.colour, 255), outline="black", width=2 * scale)


def _range(points: list[np.ndarray]) -> np.ndarray:
    """Return the range `[2, 2]` (low, high) × (x, y) of all points, with a margin."""
    joined = np.concatenate([p for p in points if len(p)] or [np.zeros((1, 2))])
    low, high = joined.min(0), joined.max(0)
    # A picture of equal points is one of a point, not of their rounding.
    extent = np.maximum(high - low, max(1e-3 * np.abs(joined).max(), 1e-6))
    middle = (low + high) / 2
    return np.stack([middle - 0.55 * extent, middle + 0.55 * extent])


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers, three to nine of them, between two bounds."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step)
    return [round(k * step, 12) + 0.0 for k in range(first, math.floor(high / step) + 1)]
