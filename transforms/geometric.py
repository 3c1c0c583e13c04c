"""Steps that move image and label together.

Each step takes and returns (image, label, centroid): uint8 [3, H, W], label [H, W], and a point
(x, y) in label pixels, or None, that moves along and that the crop must contain. 0 is the centre
of the first pixel. All random numbers come from torch's global generator.
"""

import math
from collections.abc import Sequence

import torch
import torchvision.transforms.v2.functional as F
from torchvision.transforms import InterpolationMode

from datasets.label_spaces import VOID
from utils.errors import UserError

Centroid = tuple[float, float] | None
Sample = tuple[torch.Tensor, torch.Tensor, Centroid]


def uniform(low: float, high: float) -> float:
    """Draw a number from [low, high)."""
    return torch.empty(1).uniform_(low, high).item()


class RandomScale:
    """Resize by a factor drawn uniformly: bicubic with antialiasing; labels take the nearest."""

    def __init__(self, factors: Sequence[float]):
        if factors[0] > factors[1]:
            raise UserError(f"TRANSFORM.SCALE runs from low to high, not {list(factors)}")
        self.low, self.high = factors

    def __call__(self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid) -> Sample:
        factor = uniform(self.low, self.high)
        old = label.shape
        new = [max(1, round(side * factor)) for side in old]
        image = F.resize(image, new, InterpolationMode.BICUBIC, antialias=True)
        # Plain NEAREST, which torchvision takes for a Mask, is up to half a label pixel off.
        label = F.resize(label[None], new, InterpolationMode.NEAREST_EXACT)[0]
        if centroid is not None:
            (x, y), (height, width) = centroid, old
            centroid = (x + 0.5) * new[1] / width - 0.5, (y + 0.5) * new[0] / height - 0.5
        return image, label, centroid


class PadTo:
    """Pad evenly on both sides to at least `size` (height, width): black, and void."""

    def __init__(self, size: Sequence[int]):
        self.height, self.width = size

    def __call__(self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid) -> Sample:
        height, width = label.shape
        rows, columns = max(0, self.height - height), max(0, self.width - width)
        if rows or columns:
            top, left = rows // 2, columns // 2
            padding = [left, top, columns - left, rows - top]
            image = F.pad(image, padding, fill=0)
            label = F.pad(label[None], padding, fill=VOID)[0]
            if centroid is not None:
                centroid = centroid[0] + left, centroid[1] + top
        return image, label, centroid


class RandomCrop:
    """Cut `size` (height, width) out of a sample at least as large.

    Every position is equally likely, or with a centroid every position that contains it.
    """

    def __init__(self, size: Sequence[int]):
        self.height, self.width = size

    def __call__(self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid) -> Sample:
        x, y = (None, None) if centroid is None else centroid
        left = _position(label.shape[1], self.width, x)
        top = _position(label.shape[0], self.height, y)
        if centroid is not None:
            centroid = x - left, y - top
        image = image[:, top : top + self.height, left : left + self.width]
        return image, label[top : top + self.height, left : left + self.width], centroid


def _position(length: int, size: int, point: float | None) -> int:
    """Draw where a window of `size` starts on a side of `length` pixels."""
    first, last = 0, length - size
    if point is not None:
        pixel = math.floor(point + 0.5)
        first, last = max(first, pixel - size + 1), min(last, pixel)
    return int(torch.randint(first, last + 1, (1,)))


class RandomFlip:
    """Mirror left and right with a probability."""

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid) -> Sample:
        if uniform(0, 1) < self.probability:
            image, label = image.flip(-1), label.flip(-1)
            if centroid is not None:
                centroid = label.shape[1] - 1 - centroid[0], centroid[1]
        return image, label, centroid
