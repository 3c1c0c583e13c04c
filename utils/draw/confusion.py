"""A picture of a confusion matrix, to be read on paper."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.evaluate.metrics import measures

CELL, MARGIN, GAP = 58, 24, 14  # pixels
TEXT, SMALL = 24, 21  # pixels, heights of the letters
FULL = np.array([8, 62, 130])  # the colour of 100 %
GREY, LINE, EMPTY = (130, 130, 130), (205, 205, 205), (244, 244, 244)


def confusion_picture(counts: np.ndarray, classes: Sequence[str], title: str) -> Image.Image:
    """Draw counts `[K, K]` (rows ground truth, columns predictions) of K named classes.

    A cell shows which share of the pixels of its row's class was predicted as its column's, in per
    cent, shares below 0.5 % as none. IoU and share of all labelled pixels of each class are on the
    right.
    """
    font, small = ImageFont.load_default(TEXT), ImageFont.load_default(SMALL)
    names = max(round(font.getlength(name)) for name in classes) + 2 * GAP
    side = CELL * len(classes)
    left, top = MARGIN + TEXT + GAP + names, MARGIN + 4 * TEXT + names
    right = [left + side + 80, left + side + 180]
    total = counts.sum()
    note = (
        "cells: % of the pixels of a class, by what they were predicted as; empty below 0.5; "
        f"{total:,} pixels"
    )
    longest = round(max(font.getlength(title), small.getlength(note)))
    size = (MARGIN + max(right[1], MARGIN + longest), top + side + 2 * MARGIN + SMALL)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), title, fill="black", font=font)
    middle = top + side // 2
    pen.text((left + side // 2, MARGIN + 3 * TEXT), "prediction", fill=GREY, font=font, anchor="mm")
    _upwards(page, (MARGIN + TEXT // 2, middle), "ground truth", font, GREY, "middle")
    for position, name in zip(right, ("IoU, %", "pixels, %"), strict=True):
        pen.text((position, top - GAP), name, fill=GREY, font=small, anchor="rs")
    for index, name in enumerate(classes):
        centre = CELL * index + CELL // 2
        _upwards(page, (left + centre, top - GAP), name, font, "black", "start")
        absent = counts[index].sum() == 0
        colour = GREY if absent else "black"
        pen.text((left - GAP, top + centre), name, fill=colour, font=font, anchor="rm")
    _cells(pen, counts, (left, top), font)
    iou = measures(counts)["iou"]
    for index in range(len(classes)):
        y = top + CELL * index + CELL // 2
        share = counts[index].sum() / max(1, total)
        shown = ("-" if np.isnan(iou[index]) else f"{100 * iou[index]:.1f}", _percent(share))
        for position, text in zip(right, shown, strict=True):
            pen.text((position, y), text, fill="black", font=small, anchor="rm")
    pen.text((MARGIN, top + side + MARGIN), note, fill=GREY, font=small)
    return page


def _cells(
    pen: ImageDraw.ImageDraw, counts: np.ndarray, corner: tuple[int, int], font: ImageFont.ImageFont
) -> None:
    """Draw the square of cells whose top left is `corner`."""
    left, top = corner
    number = len(counts)
    end = CELL * number
    pixels = counts.sum(1)
    for row in range(number):
        y = top + CELL * row
        if pixels[row] == 0:
            pen.rectangle((left, y, left + end, y + CELL), fill=EMPTY, outline=LINE)
            centre = (left + end // 2, y + CELL // 2)
            pen.text(centre, "no pixels", fill=GREY, font=font, anchor="mm")
            continue
        for column, share in enumerate(counts[row] / pixels[row]):
            x = left + CELL * column
            colour = tuple(int(c) for c in np.rint(255 + share * (FULL - 255)))
            pen.rectangle((x, y, x + CELL, y + CELL), fill=colour, outline=LINE)
            if share >= 0.005:
                ink = "white" if share > 0.5 else "black"
                centre = (x + CELL // 2, y + CELL // 2)
                pen.text(centre, f"{100 * share:.0f}", fill=ink, font=font, anchor="mm")


def _percent(share: float) -> str:
    """Show a share in per cent with two significant digits where it is small."""
    return "-" if share == 0 else f"{100 * share:.1f}" if share >= 0.01 else f"{100 * share:.2g}"


def _upwards(
    page: Image.Image,
    position: tuple[int, int],
    text: str,
    font: ImageFont.ImageFont,
    colour: str | tuple[int, int, int],
    anchor: str,
) -> None:
    """Write text from bottom to top, centred on x, with its middle or its start at y."""
    width, height = round(font.getlength(text)) + 2, TEXT + 8
    label = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(label).text((0, height // 2), text, fill=colour, font=font, anchor="lm")
    label = label.rotate(90, expand=True)
    x, y = position
    page.paste(label, (x - height // 2, y - (width // 2 if anchor == "middle" else width)))
