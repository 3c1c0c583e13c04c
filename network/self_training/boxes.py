"""Where HRDA (arXiv 2204.13132) sees details: in a drawn rectangle, or all over the image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transforms.geometric import uniform


class Box(NamedTuple):
    """A rectangle of pixels or of cells of a feature."""

    top: int
    left: int
    height: int
    width: int

    def divided(self, stride: int) -> "Box":
        """Return the same rectangle in cells of `stride` pixels."""
        return Box(*(side // stride for side in self))

    def crop(self, x: Tensor) -> Tensor:
        """Cut the rectangle out of `[…, H, W]`."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def put(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Put `[…, height, width]` into zeros of `size` (H, W)."""
        bottom, right = size[0] - self.top - self.height, size[1] - self.left - self.width
        return F.pad(x, (self.left, right, self.top, bottom))


def draw_box(detail: Sequence[int], size: Sequence[int], step: int) -> Box:
    """Draw a rectangle of size `detail` (h, w), or the image's where that is smaller, in an image
    of `size` (H, W).

    Offsets are multiples of `step`; the last one is never drawn, as published (0, 8, …, 504 for 512
    in 1024). Draws from torch's global generator of the CPU: nothing waits for the device.
    """
    shown = shown_sides(detail, size)
    margins = (side - own for own, side in zip(shown, size, strict=True))
    offsets = [int(uniform(0, max(1, (margin + 1) // step))) * step for margin in margins]
    return Box(*offsets, *shown)


def shown_sides(detail: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return the size of a crop: `detail` (h, w), or the image's where that is smaller."""
    return [min(own, side) for own, side in zip(detail, size, strict=True)]


def window_spans(own: int, side: int, device: torch.device) -> Tensor:
    """Return the places `[n, own]` int64 of windows that cover a side: one every half of their
    length, the last at the edge."""
    step = max(1, own // 2)
    starts = torch.arange((side - own + step - 1) // step + 1, device=device) * step
    return starts.clamp_max(side - own)[:, None] + torch.arange(own, device=device)


def gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return windows `[n m B, C, h, w]` of images `[B, C, H, W]` at rows `[n, h]`, columns
    `[m, w]`."""
    windows = images[:, :, rows][..., columns]
    return windows.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)


def spread(windows: Tensor, rows: Tensor, columns: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means `[B, C, H, W]` of windows `[n m B, C, h, w]` that lie at rows `[n, h]`,
    columns `[m, w]` of `size` (H, W) and cover it."""
    total = windows.unflatten(0, (len(rows), len(columns), -1)).permute(2, 3, 0, 4, 1, 5)
    # One axis after the other: [B, C, n, h, m w] → [B, C, n h, W] → [B, C, H, W].
    total = _mean(total.flatten(4, 5), columns, size[1]).flatten(2, 3)
    return _mean(total.transpose(2, 3), rows, size[0]).transpose(2, 3)


def _mean(x: Tensor, places: Tensor, side: int) -> Tensor:
    """Return the means over the last axis of what lies at the same one of `side` places."""
    places = places.flatten()
    summed = x.new_zeros(*x.shape[:-1], side).index_add(-1, places, x)
    return summed / x.new_zeros(side).index_add(0, places, x.new_ones(len(places)))
