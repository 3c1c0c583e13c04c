"""Points in the plane: rows of panels with one legend, to be read on paper."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.draw.plotting import GREY, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 2.8  # inches of a panel
AREAS = {"o": 16, "^": 20, "*": 110}  # square points of the markers
MANY = 400  # points of a panel, above which they are smaller


class PointGroup(NamedTuple):
    """Points `[n, 2]` that share a name in the legend, a colour (matplotlib's or RGB of 0 to 255)
    and a marker: o, ^, or * for what stands out."""

    name: str
    points: np.ndarray
    colour: str | tuple[int, int, int]
    marker: str = "o"


class PanelRow(NamedTuple):
    """Panels {title: groups of points} that share the range of their axes, the names of the axes,
    and whether numbers on them mean anything."""

    panels: dict[str, Sequence[PointGroup]]
    axes: tuple[str, str]
    numbers: bool = True


def scatter_picture(rows: Sequence[PanelRow], title: str, note: str = "") -> "Figure":
    """Draw rows of panels under a title, with the legend of all groups on the right and a note
    below. UserError without matplotlib."""
    columns = max(len(row.panels) for row in rows)
    figure = new_figure(SIDE * columns + 1.9, (SIDE + 0.2) * len(rows) + 0.6)
    letters = round(11 * figure.get_figwidth())
    style = {"x": 0.01, "ha": "left"}
    figure.suptitle(wrapped(title, letters), fontsize=10, fontweight="bold", **style)
    figure.supxlabel(wrapped(note, letters + 10), fontsize=8, color=GREY, **style)
    grid = figure.add_gridspec(len(rows), columns)
    legend: dict[str, object] = {}
    for number, row in enumerate(rows):
        (left, bottom), (right, top) = _range(
            [g.points for own in row.panels.values() for g in own]
        )
        for column, (name, groups) in enumerate(row.panels.items()):
            axes = figure.add_subplot(grid[number, column])
            axes.set_box_aspect(1)
            axes.set_xlim(left, right)
            axes.set_ylim(bottom, top)
            axes.set_title(wrapped(name, 36), fontweight="normal")
            axes.set_xlabel(row.axes[0], fontsize=8)
            axes.set_ylabel(row.axes[1], fontsize=8)
            axes.spines[:].set_visible(True)
            axes.locator_params(nbins=6)
            axes.grid(row.numbers)
            if not row.numbers:
                axes.set(xticks=[], yticks=[])
            _draw_points(axes, groups)
            for group in groups:
                legend.setdefault(group.name, _legend_mark(group))
    figure.legend(legend.values(), legend.keys(), loc="outside right upper", fontsize=8)
    return figure


def _draw_points(axes: "Axes", groups: Sequence[PointGroup]) -> None:
    """Draw the groups of each marker in random order, or the last one would hide those before it;
    stars come last."""
    scale = 1 if sum(len(group.points) for group in groups) < MANY else 0.5
    for depth, (marker, area) in enumerate(AREAS.items(), start=2):
        own = [group for group in groups if group.marker == marker and len(group.points)]
        if not own:
            continue
        points = np.concatenate([group.points for group in own])
        colours = np.repeat([_rgb(group) for group in own], [len(g.points) for g in own], axis=0)
        order = np.random.default_rng(0).permutation(len(points))
        star = marker == "*"
        axes.scatter(
            *points[order].T, scale * area, colours[order], marker=marker, zorder=depth,
            alpha=1 if star else 0.75, linewidths=0.6 if star else 0.3,
            edgecolors="black" if star else 0.6 * colours[order],
        )  # fmt: skip


def _legend_mark(group: PointGroup) -> object:
    from matplotlib.lines import Line2D

    edge = "black" if group.marker == "*" else 0.6 * _rgb(group)
    return Line2D([], [], linewidth=0, color=_rgb(group), marker=group.marker, markeredgecolor=edge,
                  markersize=AREAS[group.marker] ** 0.5, markeredgewidth=0.5)  # fmt: skip


def _rgb(group: PointGroup) -> np.ndarray:
    from matplotlib.colors import to_rgb

    colour = group.colour
    return np.array(to_rgb(colour) if isinstance(colour, str) else np.divide(colour, 255))


def _range(points: list[np.ndarray]) -> np.ndarray:
    """Return the range `[2, 2]` (low, high) × (x, y) of all points, with a margin."""
    joined = np.concatenate([p for p in points if len(p)] or [np.zeros((1, 2))])
    low, high = joined.min(0), joined.max(0)
    # Equal points are drawn as one point: rounding is not magnified.
    extent = np.maximum(high - low, max(1e-3 * np.abs(joined).max(), 1e-6))
    middle = (low + high) / 2
    return np.stack([middle - 0.55 * extent, middle + 0.55 * extent])
