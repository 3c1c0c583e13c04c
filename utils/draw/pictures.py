"""Pictures of labels and predictions."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datasets.label_spaces import LabelSpace
from transforms import denormalise
from utils.labels import VOID


def colourise(labels: Tensor, space: LabelSpace) -> Tensor:
    """Paint train ids `[H, W]` in the colours of a label space: `[3, H, W]` uint8, void black."""
    palette = torch.zeros(256, 3, dtype=torch.uint8)
    palette[: len(space.colours)] = torch.tensor(space.colours, dtype=torch.uint8)
    return palette[labels.cpu().long()].permute(2, 0, 1)


def overlay(image: Tensor, labels: Tensor, space: LabelSpace) -> Tensor:
    """Lay the colours of train ids `[H, W]` over an image `[3, H, W]` uint8; void stays clear."""
    painted = (0.45 * image.float() + 0.55 * colourise(labels, space).float()).to(torch.uint8)
    return torch.where(labels.cpu() == VOID, image, painted)


def prediction_picture(image: Tensor, label: Tensor, logits: Tensor, space: LabelSpace) -> Tensor:
    """Show a normalised image `[3, H, W]`, its label `[H, W]` and the argmax of logits `[K, H, W]`
    side by side: `[3, H, W']` uint8."""
    pictures = [colourise(label, space), colourise(logits.argmax(0), space)]
    return side_by_side([denormalise(image.cpu()), *pictures])


def side_by_side(pictures: list[Tensor], gap: int = 4) -> Tensor:
    """Join pictures `[3, H, W]` uint8 of one height in a row, with white gaps."""
    gutter = torch.full((3, pictures[0].shape[1], gap), 255, dtype=torch.uint8)
    parts = [part for picture in pictures for part in (picture, gutter)]
    return torch.cat(parts[:-1], dim=2)


def sheet(rows: list[tuple[str, list[Tensor]]], titles: list[str], cell: tuple[int, int]) -> Image:
    """Lay out named rows of pictures `[3, H, W]` uint8 under column titles.

    Each picture is fitted into `cell` (width, height) with its aspect ratio kept.
    """
    width, height = cell
    left, top, gap = 110, 26, 4
    font = ImageFont.load_default(15)
    size = (left + len(titles) * (width + gap), top + len(rows) * (height + gap))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        x = left + column * (width + gap) + width // 2
        draw.text((x, top // 2), title, fill="black", font=font, anchor="mm")
    for row, (name, pictures) in enumerate(rows):
        y = top + row * (height + gap)
        draw.text((8, y + height // 2), name, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
            scale = min(width / image.width, height / image.height)
            fitted = (round(image.width * scale), round(image.height * scale))
            image = image.resize(fitted, Image.Resampling.LANCZOS)
            x = left + column * (width + gap) + (width - fitted[0]) // 2
            page.paste(image, (x, y + (height - fitted[1]) // 2))
    return page
