"""Scale, pad, crop and flip of image and label together.

The crop's window of the source is cut out first and resized alone, so that every crop costs the
same. The window has whole source pixels: it is up to half a source pixel away from where resizing
the whole image would put it. Random numbers come from torch's global generator.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from torchvision.transforms import InterpolationMode

from utils.errors import UserError
from utils.labels import VOID

Centroid = tuple[float, float] | None


def resize_image(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return uint8 [3, H, W] at `size` (h, w), by bicubic interpolation with antialiasing."""
    return F.resize(image, list(size), InterpolationMode.BICUBIC, antialias=True)


def resize_label(label: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return a label [H, W] at `size` (h, w): each pixel takes the one that holds its centre."""
    # In whole numbers: F.resize rounds some centres to the neighbour, and takes twice as long.
    shape = zip(label.shape, size, strict=True)
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in shape)
    return torch.from_numpy(label.numpy().take(rows, 0).take(columns, 1))


def uniform(low: float, high: float) -> float:
    """Draw a number from [low, high)."""
    return torch.empty(1).uniform_(low, high).item()


class Span(NamedTuple):
    """One side of a sample: `old` pixels, scaled to `new`; the crop shows `size` from `start` on.

    `start` counts scaled pixels and is negative where padding comes first.
    """

    old: int
    new: int
    size: int
    start: int

    @property
    def shown(self) -> tuple[int, int]:
        """The scaled pixels [first, last) that the crop shows; the rest of it is padding."""
        return max(0, self.start), min(self.new, self.start + self.size)

    @property
    def window(self) -> tuple[int, int]:
        """The old pixels [first, last), at least one, that become the pixels shown."""
        first, last = (round(end * self.old / self.new) for end in self.shown)
        first = min(first, self.old - 1)
        return first, max(last, first + 1)


class Placement(NamedTuple):
    """What a crop shows of a sample, and whether mirrored."""

    rows: Span
    columns: Span
    flip: bool


class RandomGeometry:
    """Resize by a random factor, pad to the size of the crop, cut it out, mirror it.

    The factor is uniform in `scale`. Padding is even on both sides, black and void. Every position
    of the crop (height, width) is equally likely, or with a centroid every one that contains it.
    It is mirrored left and right with probability `flip`.
    """

    def __init__(self, scale: Sequence[float], crop_size: Sequence[int], flip: float):
        if scale[0] > scale[1]:
            raise UserError(f"TRANSFORM.SCALE runs from low to high, not {list(scale)}")
        self.scale, self.crop_size, self.flip = scale, crop_size, flip

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return image uint8 [3, h, w] and label [h, w] of the crop's size.

        `image` is uint8 [3, H, W], `label` [H, W]. `centroid` is (x, y) in label pixels, 0 being
        the centre of the first.
        """
        return show_placement(image, label, self.draw(label.shape, centroid))

    def draw(self, size: Sequence[int], centroid: Centroid) -> Placement:
        """Draw what is shown of a sample of `size` (height, width)."""
        factor = uniform(*self.scale)
        x, y = centroid or (None, None)
        columns = _draw_span(size[1], factor, self.crop_size[1], x)
        rows = _draw_span(size[0], factor, self.crop_size[0], y)
        return Placement(rows, columns, uniform(0, 1) < self.flip)


def _draw_span(old: int, factor: float, size: int, point: float | None) -> Span:
    new = max(1, round(old * factor))
    before = max(0, size - new) // 2
    first, last = 0, max(0, new - size)
    if point is not None:
        pixel = math.floor((point + 0.5) * new / old) + before
        first, last = max(first, pixel - size + 1), min(last, pixel)
    return Span(old, new, size, int(torch.randint(first, last + 1, (1,))) - before)


def show_placement(
    image: torch.Tensor, label: torch.Tensor, place: Placement
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image uint8 [3, h, w] and label [h, w] of a placement, on black and void."""
    sides = (place.rows, place.columns)
    rows, columns = (slice(*side.window) for side in sides)
    (top, bottom), (left, right) = (side.shown for side in sides)
    size = (bottom - top, right - left)
    image = resize_image(image[:, rows, columns], size)
    label = resize_label(label[rows, columns], size)
    if size != (place.rows.size, place.columns.size):
        left, top = left - place.columns.start, top - place.rows.start
        right, bottom = place.columns.size - left - size[1], place.rows.size - top - size[0]
        image = F.pad(image, [left, top, right, bottom])
        label = F.pad(label[None], [left, top, right, bottom], fill=VOID)[0]
    return (image.flip(-1), label.flip(-1)) if place.flip else (image, label)
