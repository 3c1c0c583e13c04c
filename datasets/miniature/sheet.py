"""Contact sheets: domains below each other, samples side by side, labels below images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from . import COLOURS, draw

GAP = 4


def colour_labels(label: np.ndarray) -> np.ndarray:
    """Train ids uint8 [H, W] → Cityscapes' colours uint8 [H, W, 3], void black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLOURS)] = COLOURS
    return table[label]


def contact_sheet(
    domains: Sequence[str], columns: int = 4, split: str = "train", seed: int = 0, height: int = 180
) -> Image.Image:
    """A picture of the first `columns` samples of each domain, half covered by their labels."""
    rows = []
    for name in domains:
        pictures, overlays = [], []
        for index in range(columns):
            image, label = draw(name, split, index, seed)
            mixed = (0.35 * image + 0.65 * colour_labels(label)).astype(np.uint8)
            width = round(image.shape[1] * height / image.shape[0])
            for pixels, row in ((image, pictures), (mixed, overlays)):
                row.append(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
        rows.append((name, pictures))
        rows.append(("", overlays))
    widths = [sum(p.width + GAP for p in pictures) for _, pictures in rows]
    sheet = Image.new("RGB", (max(widths) + GAP, len(rows) * (height + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, pictures) in enumerate(rows):
        x, y = GAP, GAP + i * (height + GAP)
        for picture in pictures:
            sheet.paste(picture, (x, y))
            x += picture.width + GAP
        if name:
            box = pen.textbbox((GAP + 3, y + 2), name)
            pen.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill="white")
            pen.text((GAP + 3, y + 2), name, fill="black")
    return sheet
