"""A picture of a confusion matrix, to be read on paper."""

from typing import TYPE_CHECKING

import numpy as np

from utils.draw.plotting import GREY, INK, LINE, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.29  # inches
FULL, EMPTY = "#083e82", "#f4f4f4"  # the colours of 100 %, and of a class without pixels
NOTE = "cells: % of the pixels of a class, by what they were predicted as; empty below 0.5"


def confusion_picture(counts: np.ndarray, iou: dict[str, float | None], title: str) -> "Figure":
    """Draw counts `[K, K]` (rows ground truth, columns predictions) of the K classes of `iou`.

    A cell shows which share of the pixels of its row's class was predicted as its column's, in per
    cent, shares below 0.5 % as none. IoU (a fraction, None where undefined) and share of all
    labelled pixels of each class are on the right. UserError without matplotlib.
    """
    number, pixels, total = len(iou), counts.sum(1), counts.sum()
    figure = new_figure(CELL * number, CELL * number)
    # The cells are the figure; names and numbers stand around it.
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    letters = max(60, 6 * number)
    axes.set_title(wrapped(title, letters))
    note = wrapped(f"{NOTE}; {total:,} pixels", letters)
    axes.text(0, number + 0.4, note, va="top", fontsize=8, color=GREY)
    _draw_cells(axes, counts)
    centres = np.arange(number) + 0.5
    names = [wrapped(name, 99) for name in iou]
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(centres, names, rotation=90, color=INK)
    axes.set_yticks(centres, names, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction", color=GREY)
    axes.set_ylabel("ground truth", color=GREY)
    right = {"va": "center", "ha": "right", "fontsize": 8}
    ends = (number + 1.6, number + 3.8)
    for end, name in zip(ends, ("IoU, %", "pixels, %"), strict=True):
        axes.text(end, -0.5, name, color=GREY, **right)
    for row, value in enumerate(iou.values()):
        if pixels[row] == 0:
            axes.get_yticklabels()[row].set_color(GREY)
        shown = ("-" if value is None else f"{100 * value:.1f}", _percent(pixels[row], total))
        for end, text in zip(ends, shown, strict=True):
            axes.text(end, centres[row], text, **right)
    return figure


def _draw_cells(axes, counts: np.ndarray) -> None:
    """Draw the shares of the rows of counts `[K, K]`."""
    from matplotlib.colors import LinearSegmentedColormap

    number, pixels = len(counts), counts.sum(1, keepdims=True)
    shares = np.ma.masked_invalid(counts / np.where(pixels, pixels, np.nan))
    colours = LinearSegmentedColormap.from_list("share", ["white", FULL]).with_extremes(bad=EMPTY)
    edges = {"edgecolors": LINE, "linewidth": 0.5}
    axes.pcolormesh(shares, cmap=colours, vmin=0, vmax=1, **edges)
    axes.invert_yaxis()
    middle = {"ha": "center", "va": "center", "fontsize": 8}
    for row in range(number):
        if pixels[row] == 0:
            axes.text(number / 2, row + 0.5, "no pixels", color=GREY, **middle)
            continue
        for column in np.flatnonzero(shares[row] >= 0.005):
            share = shares[row, column]
            ink = "white" if share > 0.5 else INK
            axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", color=ink, **middle)


def _percent(pixels: int, total: int) -> str:
    """Show a share in per cent, with two significant digits where it is small."""
    share = pixels / max(1, total)
    return "-" if share == 0 else f"{100 * share:.1f}" if share >= 0.01 else f"{100 * share:.2g}"
