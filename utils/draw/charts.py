"""Charts as SVG: curves with their spread, and rows of dots. Text only, no library."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is left out on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
INK, GREY, LINE = "#222222", "#666666", "#dddddd"
FONT = "font-family='Helvetica, Arial, sans-serif'"
LETTER = 0.55  # mean width of a letter / height


class Point(NamedTuple):
    """A value at x: the mean of `values`, which are drawn with their standard deviation."""

    x: float
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """The sample standard deviation of two or more values, else 0."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


class Series(NamedTuple):
    """A named line through points; `main` ones are heavier than the others."""

    name: str
    points: list[Point]
    main: bool = False


class Scale(NamedTuple):
    """From values to pixels, with the ticks {value: text} between them."""

    low: float
    high: float
    start: float
    end: float
    ticks: dict[float, str]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1)
        return self.start + share * (self.end - self.start)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    logarithmic: bool = False,
    size: tuple[int, int] = (640, 380),
) -> str:
    """Draw series over x; with `logarithmic` x is on a scale of powers of two."""
    width, height = size
    kept = [own for own in series if own.points]
    columns = [own.name for own in kept] if len(kept) > 1 or kept[0].name else []
    legend = _legend_rows(columns, width - 70, 13)
    top, bottom, left = 44 + 20 * len(legend), height - 48, 54
    xs = sorted({point.x for own in kept for point in own.points})
    ys = [p.mean + side * p.deviation for own in kept for p in own.points for side in (-1, 1)]
    x = (
        _powers(xs, left + 14, width - 26)
        if logarithmic
        else nice_scale(xs[0], xs[-1], left + 14, width - 26)
    )
    y = nice_scale(min(ys), max(ys), bottom, top)
    parts = [_text(left, 22, title, 15, weight="bold")]
    parts += _frame(x, y, left, width - 12, top, bottom, x_label, y_label)
    # What matters most is drawn last; spreads of the others stand side by side.
    for number, own in sorted(enumerate(kept), key=lambda item: item[1].main):
        colour = INK if own.main else COLOURS[number % len(COLOURS)]
        shift = 2.5 * (number - (len(kept) - 1) / 2) if any(p.deviation for p in own.points) else 0
        parts += _curve(own, x, y, colour, logarithmic, 0 if own.main else shift)
    index = 0
    for row, names_of_row in enumerate(legend):
        position = left
        for name in names_of_row:
            colour = INK if kept[index].main else COLOURS[index % len(COLOURS)]
            at = 42 + 20 * row
            parts.append(
                _line(position, at, position + 18, at, colour, 3 if kept[index].main else 2)
            )
            parts.append(_text(position + 23, at + 4, name, 13))
            position += _length(name, 13) + 42
            index += 1
    return _page(width, height, parts)


def dot_chart(
    title: str, x_label: str, rows: dict[str, dict[str, Sequence[float]]], width: int = 640
) -> str:
    """Draw a row for each name: the mean of each column's values as a dot, with its deviation.

    `rows` is {row: {column: values}}; the first column is the heaviest.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    wrapped = {name: _wrap(name, 30) for name in rows}
    left = 24 + max(_length(line, 13) for lines in wrapped.values() for line in lines)
    legend = _legend_rows(columns, width - 40, 13)
    top = 40 + 20 * len(legend)
    height = top + sum(10 + 17 * max(1, len(lines)) for lines in wrapped.values()) + 44
    points = [Point(0, v) for row in rows.values() for v in row.values() if len(v)]
    ends = [p.mean + side * p.deviation for p in points for side in (-1, 1)]
    x = nice_scale(min(ends), max(ends), left + 10, width - 18)
    parts = [_text(14, 22, title, 15, weight="bold")]
    parts += [_line(x(v), top, x(v), height - 42, LINE) for v in x.ticks]
    parts += [_text(x(v), height - 26, text, 12, "middle", GREY) for v, text in x.ticks.items()]
    parts.append(_text((left + width) / 2, height - 8, x_label, 13, "middle"))
    y = top
    for name, row in rows.items():
        lines = wrapped[name]
        step = 10 + 17 * len(lines)
        for number, line in enumerate(lines):
            parts.append(_text(left - 6, y + 9 + 17 * number + 9, line, 13, "end"))
        for number, column in reversed(list(enumerate(columns))):
            if len(row.get(column, ())):
                shift = 0 if number == 0 else 4
                own = Point(0, row[column])
                parts += _dot(x(own.mean), y + step / 2 + shift, own, x, number)
        y += step
    index = 0
    for row_number, names in enumerate(legend):
        position = 14
        for name in names:
            at = 40 + 20 * row_number
            parts += _dot(position + 7, at, None, x, index)
            parts.append(_text(position + 18, at + 4, name, 13))
            position += _length(name, 13) + 38
            index += 1
    return _page(width, height, parts)


def nice_scale(low: float, high: float, start: float, end: float, most: int = 7) -> Scale:
    """Return a scale from round number to round number with `most` ticks at most."""
    span = high - low or abs(high) or 1.0
    raw = span / max(1, most - 2)
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    digits = max(0, -math.floor(math.log10(step)))
    ticks = {i * step: f"{i * step:.{digits}f}" for i in range(first, last + 1)}
    return Scale(first * step, last * step, start, end, ticks)


def _powers(xs: list[float], start: float, end: float) -> Scale:
    exponents = [math.log2(value) for value in xs]
    ticks = {e: f"2^{e:.0f}" if e == round(e) else f"{2**e:g}" for e in exponents}
    return Scale(exponents[0], exponents[-1], start, end, ticks)


def _curve(
    own: Series, x: Scale, y: Scale, colour: str, logarithmic: bool, shift: float
) -> list[str]:
    places = [(shift + x(math.log2(p.x) if logarithmic else p.x), y(p.mean), p) for p in own.points]
    weight = 3 if own.main else 1.6
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in places)
    parts = [f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='{weight}'/>"]
    for a, b, point in places:
        if point.deviation:
            low, high = y(point.mean - point.deviation), y(point.mean + point.deviation)
            parts.append(_line(a, low, a, high, colour, 1.2))
            parts += [_line(a - 4, end, a + 4, end, colour, 1.2) for end in (low, high)]
        if len(places) <= 40:
            parts.append(f"<circle cx='{a:.1f}' cy='{b:.1f}' r='{1.4 + weight / 1.5:.1f}' "
                         f"fill='{colour}'/>")  # fmt: skip
    return parts


def _dot(x: float, y: float, own: Point | None, scale: Scale, number: int) -> list[str]:
    colour = INK if number == 0 else COLOURS[(number - 1) % len(COLOURS)]
    parts = []
    if own is not None and own.deviation:
        ends = scale(own.mean - own.deviation), scale(own.mean + own.deviation)
        parts.append(_line(ends[0], y, ends[1], y, colour, 1.6))
    fill = colour if number == 0 else "white"
    radius = 5 if number == 0 else 4
    parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{fill}' "
                 f"stroke='{colour}' stroke-width='1.6'/>")  # fmt: skip
    return parts


def _frame(
    x: Scale,
    y: Scale,
    left: float,
    right: float,
    top: float,
    bottom: float,
    x_label: str,
    y_label: str,
) -> list[str]:
    parts = [_line(left, y(v), right, y(v), LINE) for v in y.ticks]
    parts += [_text(left - 7, y(v) + 4, text, 12, "end", GREY) for v, text in y.ticks.items()]
    parts.append(_line(left, bottom, right, bottom, GREY))
    for value, text in x.ticks.items():
        parts.append(_line(x(value), bottom, x(value), bottom + 4, GREY))
        parts.append(_power(x(value), bottom + 18, text))
    parts.append(_text((left + right) / 2, bottom + 38, x_label, 13, "middle"))
    middle = (top + bottom) / 2
    turned = f"transform='rotate(-90 14 {middle:.0f})'"
    parts.append(_text(14, middle + 4, y_label, 13, "middle", extra=turned))
    return parts


def _power(x: float, y: float, text: str) -> str:
    """Write a tick; `2^n` with n raised."""
    base, mark, exponent = text.partition("^")
    raised = f"<tspan dy='-5' font-size='9'>{escape(exponent).replace('-', '−')}</tspan>"
    content = escape(base) + (raised if mark else "")
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='12' {FONT} fill='{GREY}' " \
           f"text-anchor='middle'>{content}</text>"  # fmt: skip


def _legend_rows(names: Sequence[str], width: float, size: int) -> list[list[str]]:
    rows: list[list[str]] = []
    used = math.inf
    for name in names:
        length = _length(name, size) + 42
        if used + length > width:
            rows.append([])
            used = 0
        rows[-1].append(name)
        used += length
    return rows


def _wrap(text: str, letters: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _length(text: str, size: float) -> float:
    return LETTER * size * len(text)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
        f"stroke-width='{width:g}'/>"
    )


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    anchor: str = "start",
    colour: str = INK,
    weight: str = "normal",
    extra: str = "",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' {FONT} fill='{colour}' "
        f"text-anchor='{anchor}' font-weight='{weight}' {extra}>{escape(text)}</text>"
    )


def _page(width: int, height: float, parts: list[str]) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height:.0f}' "
        f"width='{width}' height='{height:.0f}'>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{body}\n</svg>\n"
    )
