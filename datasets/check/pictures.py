"""The pictures of a data check: how often the classes are, and samples with their labels on top."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from datasets.dataset import SegmentationDataset
from datasets.files import read_image, read_label
from datasets.label_spaces import LabelSpace, lookup_table
from utils.draw.pictures import colourise, overlay, sheet

BAR, LEFT, RIGHT, LONGEST = 22, 120, 70, 560  # pixels
CELL = (320, 180)  # pixels of a picture in the contact sheet, width and height


def bar_chart(title: str, space: LabelSpace, shares: np.ndarray) -> Image.Image:
    """Draw a bar for each class's share of the labelled pixels, in the class's colour.

    `shares` [K] are 0 to 1; bars grow with their square root, so that rare classes are seen.
    """
    size = (LEFT + LONGEST + RIGHT, BAR * (len(space) + 3))
    page = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    pen.text((LEFT, BAR * 0.8), title, fill="black", font=font, anchor="lm")
    for row, (name, colour, share) in enumerate(
        zip(space.classes, space.colours, shares, strict=True)
    ):
        y = BAR * (row + 1.5)
        end = LEFT + round(LONGEST * float(share) ** 0.5)
        pen.rectangle((LEFT, y + 3, max(end, LEFT + 1), y + BAR - 3), fill=colour)
        pen.text((LEFT - 6, y + BAR / 2), name, fill="black", font=font, anchor="rm")
        shown = "none" if share == 0 else f"{100 * share:.3g} %"
        pen.text((end + 6, y + BAR / 2), shown, fill="black", font=font, anchor="lm")
    scale = "shares of the labelled pixels; bars grow with their square root"
    pen.text((LEFT, BAR * (len(space) + 2.2)), scale, fill="grey", font=font, anchor="lm")
    return page


def contact_sheet(
    dataset: type[SegmentationDataset], pairs: list[tuple[Path, Path]]
) -> Image.Image:
    """Draw image, label over image, and label of each pair, one below the other."""
    table = lookup_table(dataset.label_maps[dataset.label_space.name])
    rows = []
    for image_path, label_path in pairs:
        image = read_image(image_path)
        train_ids = torch.from_numpy(table.take(read_label(label_path).numpy()))
        painted = colourise(train_ids, dataset.label_space)
        shown = overlay(image, train_ids, dataset.label_space)
        name = image_path.stem.removesuffix("_leftImg8bit").removesuffix("_rgb_anon")
        rows.append((name[-12:], [image, shown, painted]))
    return sheet(rows, ["image", "label over image", "label"], CELL)
