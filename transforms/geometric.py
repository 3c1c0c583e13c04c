"""Scale, pad, crop and flip of image and label together, computed only where the crop sees them.

What comes out is what resizing the whole image, padding it and cutting out the crop would give: the
label exactly, the image to one grey level (two at some ten pixels in a million, where both are
rounded differently). A crop of an image scaled up costs no more than any other. All random numbers
come from torch's global generator.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from utils.errors import UserError
from utils.labels import VOID

Centroid = tuple[float, float] | None

# Source pixels by which a window may be out of place. At the steepest edge, 255 grey levels from
# one pixel to the next, that is half a level. A smaller one makes windows larger.
TOLERANCE = 1 / 512


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

    def sources(self) -> np.ndarray:
        """The old pixel, int64 [last − first], that holds the centre of each pixel shown."""
        return (2 * np.arange(*self.shown) + 1) * self.old // (2 * self.new)

    def window(self) -> tuple[int, int, int]:
        """Return (first, last, skip): resizing the old pixels [first, last) by new / old gives
        those shown after `skip` others, at the same positions as resizing the whole side."""
        first, last = self.shown
        step = self.old / self.new
        # The bicubic kernel reaches two pixels of the coarser of both grids to each side.
        reach = math.ceil(2 * max(1.0, step)) + 1
        # Position 0 is always in phase.
        candidates = np.arange(max(0, first - math.ceil(reach / step)) + 1)
        origins = candidates * step
        fitting = np.abs(origins - np.round(origins)) < TOLERANCE
        origin = int(candidates[fitting][-1])
        end = min(self.old, math.ceil(last * step) + reach)
        return round(origin * step), end, first - origin


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
        place = self.draw(label.shape, centroid)
        image, label = show_image(image, place), show_label(label, place)
        return (image.flip(-1), label.flip(-1)) if place.flip else (image, label)

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


def show_image(image: torch.Tensor, place: Placement) -> torch.Tensor:
    """Return uint8 [3, h, w] of a placement (not mirrored): bicubic with antialiasing, on black."""
    sides = (place.rows, place.columns)
    cut = [slice(*side.shown) for side in sides]
    if any(side.new != side.old for side in sides):
        windows = [side.window() for side in sides]
        source = image[:, slice(*windows[0][:2]), slice(*windows[1][:2])]
        # Rounded up by a trifle, or the last pixel could be lost to rounding.
        factors = tuple(side.new / side.old * (1 + 1e-9) for side in sides)
        image = F.interpolate(source[None], scale_factor=factors, mode="bicubic", antialias=True)[0]
        cut = [
            slice(skip, skip + part.stop - part.start)
            for (_, _, skip), part in zip(windows, cut, strict=True)
        ]
    return _on_canvas(image[:, cut[0], cut[1]], place, 0)


def show_label(label: torch.Tensor, place: Placement) -> torch.Tensor:
    """Return the label [h, w] of a placement (not mirrored): nearest pixel, on void."""
    # 0.4 ms for 768²; indexing in torch takes 2.2.
    shown = label.numpy().take(place.rows.sources(), 0).take(place.columns.sources(), 1)
    return _on_canvas(torch.from_numpy(shown), place, VOID)


def _on_canvas(shown: torch.Tensor, place: Placement, fill: int) -> torch.Tensor:
    size = place.rows.size, place.columns.size
    if tuple(shown.shape[-2:]) == size:
        return shown
    canvas = shown.new_full((*shown.shape[:-2], *size), fill)
    top, left = (side.shown[0] - side.start for side in (place.rows, place.columns))
    canvas[..., top : top + shown.shape[-2], left : left + shown.shape[-1]] = shown
    return canvas
