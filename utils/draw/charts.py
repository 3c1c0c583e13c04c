"""Charts of values over seeds: lines over a number, and rows of dots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.draw.plotting import (
    GREY,
    INK,
    LETTERS,
    WIDTH,
    legend_below,
    new_figure,
    row_style,
    wrapped,
)
from utils.draw.spread import deviation, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIOU = "mean intersection over union, %"  # of axes
MOST_MARKED = 40  # points of a line that are marked one by one


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: dict[str, dict[float, Sequence[float]]],
    main: str = "",
    logarithmic: bool = False,
) -> "Figure":
    """Draw {line name: {x: values of the seeds}}: means, with the sample deviation of several.

    `main` names the heavier line; a line without values keeps its colour for the other charts.
    With `logarithmic`, x is in powers of two. UserError without matplotlib.
    """
    axes = _empty_chart(title, x_label, 3.4 + 0.17 * max(0, len(lines) - 3), "y")
    axes.set_ylabel(wrapped(y_label, LETTERS // 2))
    if logarithmic:
        axes.set_xscale("log", base=2)
    handles = {}
    for number, (name, line) in enumerate(lines.items()):
        if line:
            shift = number - (len(lines) - 1) / 2
            line = dict(sorted(line.items()))
            handles[name] = _draw_line(axes, line, number, name == main, shift)
    legend_below(axes.figure, handles)
    return axes.figure


def _empty_chart(title: str, x_label: str, height: float, grid: str) -> "Axes":
    axes = new_figure(WIDTH, height).add_subplot()
    axes.set_title(wrapped(title, LETTERS - 20))
    axes.set_xlabel(wrapped(x_label, LETTERS))
    axes.grid(axis=grid)
    return axes


def _draw_line(
    axes: "Axes", line: dict[float, Sequence[float]], number: int, heavy: bool, shift: float
) -> object:
    """Draw one line and its spread; return what the legend shows of it."""
    from matplotlib.transforms import ScaledTranslation

    colour, marker = (INK, "o") if heavy else row_style(number)
    width = 2.4 if heavy else 1.3
    xs, means = list(line), [mean(values) for values in line.values()]
    widths = [deviation(values) or 0 for values in line.values()]
    style = {"color": colour, "linewidth": width, "zorder": 3 if heavy else 2}
    low, high = ([m + side * w for m, w in zip(means, widths, strict=True)] for side in (-1, 1))
    if len(xs) > MOST_MARKED:
        axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
        return axes.plot(xs, means, **style)[0]
    style |= {"marker": marker, "markersize": 5.5 if heavy else 4}
    if any(widths):
        # Deviations of several lines at one x stand side by side.
        points = 0 if heavy else 1.8 * shift
        side = ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
        style |= {"transform": axes.transData + side}
        # Matplotlib does not see the extent of what is shifted.
        axes.update_datalim([*zip(xs, low, strict=True), *zip(xs, high, strict=True)])
        axes.autoscale_view()
    # Without any, the legend shows none either.
    bars = [width or float("nan") for width in widths] if any(widths) else None
    return axes.errorbar(xs, means, bars, elinewidth=1, capsize=2.5, **style)


def dot_chart(title: str, x_label: str, rows: dict[str, dict[str, Sequence[float]]]) -> "Figure":
    """Draw {row: {column: values of the seeds}}: a dot for each column's mean, with its sample
    deviation. A column has one colour in all rows. UserError without matplotlib."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    names = [wrapped(name, 30) for name in rows]
    heights = [max(0.16 * len(columns) + 0.12, 0.16 * (n.count("\n") + 1) + 0.1) for n in names]
    axes = _empty_chart(title, x_label, sum(heights) + 1.0 + 0.17 * len(columns), "x")
    tops = [sum(heights[:number]) for number in range(len(rows) + 1)]
    middles = [(top + below) / 2 for top, below in zip(tops, tops[1:], strict=False)]
    axes.set_yticks(middles, names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(tops[-1], 0)
    for top in tops[1:-1]:
        axes.axhline(top, color=GREY, linewidth=0.4, alpha=0.4)
    handles = {}
    for number, column in enumerate(columns):
        colour, marker = row_style(number)
        shift = 0.16 * (number - (len(columns) - 1) / 2)
        shown = [
            (row[column], middle + shift)
            for row, middle in zip(rows.values(), middles, strict=True)
            if len(row.get(column, ()))
        ]
        if shown:
            means = [mean(values) for values, _ in shown]
            widths = [deviation(values) or float("nan") for values, _ in shown]
            bars = widths if any(width == width for width in widths) else None
            ys = [y for _, y in shown]
            handles[column] = axes.errorbar(means, ys, xerr=bars, fmt=marker, color=colour,
                                            markersize=5, elinewidth=1.2, capsize=2.5)  # fmt: skip
    legend_below(axes.figure, handles)
    return axes.figure
