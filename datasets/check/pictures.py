"""The pictures of a data check: how often the classes are, and samples with their labels on top."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from datasets.dataset import SegmentationDataset
from datasets.files import read_image
from datasets.label_spaces import LabelSpace, lookup_table
from utils.draw.pictures import colourise, overlay, sheet
from utils.draw.plotting import GREY, INK, LETTERS, WIDTH, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = (0, 1, 5, 10, 20, 40, 60, 100)  # per cent
CELL = (320, 180)  # pixels of a picture in the contact sheet, width and height


def class_chart(title: str, space: LabelSpace, shares: np.ndarray) -> "Figure":
    """Draw a bar for each class's share of the labelled pixels, in the class's colour.

    `shares` [K] are 0 to 1; the axis grows with their square root, so that rare classes are seen.
    UserError without matplotlib.
    """
    percents = 100 * shares
    figure = new_figure(WIDTH, 0.22 * len(space) + 0.9)
    axes = figure.add_subplot()
    axes.set_title(wrapped(title, LETTERS - 20))
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, max(1, 1.3 * percents.max()))
    axes.set_xticks([t for t in TICKS if t <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("share of the labelled pixels, % (square root scale)")
    axes.grid(axis="x")
    colours = [tuple(value / 255 for value in colour) for colour in space.colours]
    bars = axes.barh(space.classes, percents, color=colours, edgecolor=GREY, linewidth=0.4)
    shown = ["none" if share == 0 else f"{share:.3g} %" for share in percents]
    axes.bar_label(bars, shown, padding=4, fontsize=8)
    axes.set_ylim(len(space) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    return figure


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0))


def sample_sheet(dataset: type[SegmentationDataset], pairs: list[tuple[Path, Path]]) -> Image.Image:
    """Draw image, label over image, and label of each pair, one below the other."""
    table = lookup_table(dataset.label_maps[dataset.label_space.name])
    rows = []
    for image_path, label_path in pairs:
        image = read_image(image_path)
        train_ids = torch.from_numpy(table.take(dataset.read_numbers(label_path).numpy()))
        painted = colourise(train_ids, dataset.label_space)
        shown = overlay(image, train_ids, dataset.label_space)
        name = image_path.stem.removesuffix("_leftImg8bit").removesuffix("_rgb_anon")
        rows.append((name[-12:], [image, shown, painted]))
    return sheet(rows, ["image", "label over image", "label"], CELL)


def photograph_sheet(paths: list[Path]) -> Image.Image:
    """Draw photographs one below the other, turned as their EXIF data say."""
    rows = [(path.stem[-12:], [read_image(path, upright=True)]) for path in paths]
    return sheet(rows, ["image"], CELL)
