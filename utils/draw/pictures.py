"""Pictures of labels and predictions."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datasets.label_spaces import LabelSpace
from transforms import denormalise
from utils.engine.folder import require_writable
from utils.engine.saving import write_atomically
from utils.errors import UserError
from utils.labels import VOID

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".pdf": "PDF"}  # ending → format
Colour = tuple[int, int, int]


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


def class_colours(space: LabelSpace) -> dict[str, Colour]:
    """Return {name: colour} of what `colourise` paints."""
    return dict(zip(space.classes, space.colours, strict=True)) | {"void": (0, 0, 0)}


def legend(colours: dict[str, Colour], width: int) -> Tensor:
    """Draw names and their colours in rows of `width` pixels: uint8 `[3, h, width]`."""
    size = min(28, max(11, round(width / 70)))
    font = ImageFont.load_default(size)
    gap, line = size // 2, round(1.6 * size)
    places, x, y = [], gap, gap
    for name in colours:
        length = size + gap + round(font.getlength(name))
        if x > gap and x + length > width - gap:
            x, y = gap, y + line
        places.append((name, x, y))
        x += length + 2 * gap
    page = Image.new("RGB", (width, y + line), "white")
    pen = ImageDraw.Draw(page)
    for name, x, y in places:
        pen.rectangle((x, y, x + size, y + size), fill=colours[name], outline="black")
        pen.text((x + size + gap, y + size // 2), name, fill="black", font=font, anchor="lm")
    return torch.from_numpy(np.array(page)).permute(2, 0, 1)


def sheet(
    rows: list[tuple[str, list[Tensor]]],
    titles: list[str],
    cell: tuple[int, int],
    captions: Sequence[Sequence[str]] = (),
    keys: Sequence[dict[str, Colour]] = (),
) -> Image.Image:
    """Lay out named rows of pictures `[3, H, W]` uint8 under column titles, with the `keys` of
    their colours below.

    Each picture is fitted into `cell` (width, height) with its aspect ratio kept; only photographs
    are smoothed. `captions` stand below the pictures.
    """
    width, height = cell
    gap, line = 4, 20
    font = ImageFont.load_default(15)
    names = [_lines(name, 24) for name, _ in rows]
    heads = [_lines(title, width // 9) for title in titles]
    left = 16 + round(max(font.getlength(text) for name in names for text in name))
    top = 6 + line * max(map(len, heads))
    step = height + gap + line * bool(captions)
    size = (left + len(titles) * (width + gap), top + len(rows) * step)
    legends = [_image(legend(colours, size[0] - left)) for colours in keys]
    page = Image.new("RGB", (size[0], size[1] + sum(own.height for own in legends)), "white")
    pen = ImageDraw.Draw(page)

    def write(x: int, middle: int, lines: list[str], anchor: str) -> None:
        for number, text in enumerate(lines):
            y = middle + line * (2 * number - len(lines) + 1) // 2
            pen.text((x, y), text, fill="black", font=font, anchor=anchor)

    for column, head in enumerate(heads):
        write(left + column * (width + gap) + width // 2, top // 2, head, "mm")
    for row, (_, pictures) in enumerate(rows):
        y = top + row * step
        write(8, y + height // 2, names[row], "lm")
        for column, picture in enumerate(pictures):
            image = _fitted(_image(picture), width, height)
            x, above = left + column * (width + gap), (height - image.height) // 2
            page.paste(image, (x + (width - image.width) // 2, y + above))
            if captions:
                bottom = y + above + image.height
                write(x + width // 2, bottom + line // 2, [captions[row][column]], "mm")
    for own in legends:
        page.paste(own, (left, size[1]))
        size = (size[0], size[1] + own.height)
    return page


def _lines(text: str, letters: int) -> list[str]:
    return textwrap.wrap(text, letters) or [""]


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Between two classes lies no third one.
    painted = image.getcolors(256) is not None
    return image.resize(size, Image.Resampling.NEAREST if painted else Image.Resampling.LANCZOS)


def require_picture(path: Path) -> None:
    """Find out before the work whether `save_picture` can write a file."""
    if path.suffix.lower() not in PICTURES:
        raise UserError(f"{path}: a picture ends in {', '.join(PICTURES)}")
    require_writable(path)


def save_picture(page: Image.Image, path: Path) -> None:
    """Write a picture at one stroke, in the format of the path's ending."""
    content = io.BytesIO()
    page.save(content, PICTURES[path.suffix.lower()])
    write_atomically(path, content.getvalue(), "Nothing else was changed")
