"""Where HRDA (arXiv 2204.13132) sees details: in a drawn rectangle, or all over the image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from network.inference import window_starts
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
    shown = _shown(detail, size)
    margins = (side - own for own, side in zip(shown, size, strict=True))
    offsets = [int(uniform(0, max(1, (margin + 1) // step))) * step for margin in margins]
    return Box(*offsets, *shown)


def windows(detail: Sequence[int], size: Sequence[int]) -> list[Box]:
    """Return rectangles that cover an image: one every half of their size, the last at the edge."""
    shown = _shown(detail, size)
    sides = zip(size, shown, strict=True)
    tops, lefts = (list(window_starts(side, own, own // 2)) for side, own in sides)
    return [Box(top, left, *shown) for top in tops for left in lefts]


def _shown(detail: Sequence[int], size: Sequence[int]) -> list[int]:
    return [min(own, side) for own, side in zip(detail, size, strict=True)]
