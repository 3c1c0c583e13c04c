"""Colour jitter and blur, drawn in one place and applied where it costs least.

A sample's draws are a row of numbers, applied by the data loading process that draws them or on the
device that trains. Random numbers come from torch's global generator.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from transforms.geometric import uniform
from utils.errors import UserError

FACTORS = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")


class Photometric:
    """Colour jitter (brightness, contrast, saturation, hue in random order) with a probability,
    then Gaussian blur of random deviation (pixels) with a probability."""

    def __init__(
        self,
        jitter: Sequence[float],
        jitter_probability: float,
        blur_sigma: Sequence[float],
        blur_probability: float,
        setting: str = "TRANSFORM.JITTER",
    ):
        """`setting` has the jitter, for errors."""
        if jitter[3] > 0.5:
            raise UserError(f"{setting} has hue {jitter[3]}; it goes from 0 to 0.5")
        if blur_sigma[0] > blur_sigma[1]:
            raise UserError(f"TRANSFORM.BLUR_SIGMA runs from low to high, not {list(blur_sigma)}")
        self.jitter = v2.ColorJitter(*jitter)
        self.jitter_probability = jitter_probability
        self.blur_sigma, self.blur_probability = blur_sigma, blur_probability

    def draw(self) -> torch.Tensor:
        """Draw float32 [9]: order and factors of the jitter, and the deviation of the blur.

        The first number is −1 for no jitter, a factor is NaN where its strength is 0, and the last
        is 0 for no blur.
        """
        order, factors, sigma = [-1.0] * 4, [math.nan] * 4, 0.0
        if uniform(0, 1) < self.jitter_probability:
            drawn = self.jitter.make_params([])
            order = drawn["fn_idx"].tolist()
            factors = [math.nan if drawn[name] is None else drawn[name] for name in FACTORS]
        if uniform(0, 1) < self.blur_probability:
            sigma = uniform(*self.blur_sigma)
        return torch.tensor([*order, *factors, sigma])

    def apply(self, image: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return uint8 [3, h, w] with what was drawn (on the CPU), as float32 in [0, 1].

        Nothing is rounded to 8 bits in between.
        """
        numbers = drawn.tolist()
        order, factors, sigma = numbers[:4], numbers[4:8], numbers[8]
        image = v2.functional.to_dtype(image.contiguous(), torch.float32, scale=True)
        if order[0] >= 0:
            for number in map(int, order):
                if not math.isnan(factors[number]):
                    image = ADJUSTMENTS[number](image, factors[number])
        return gaussian_blur(image, sigma) if sigma else image


def rotate_hue(image: torch.Tensor, turns: float) -> torch.Tensor:
    """Shift the hue of a float image [3, H, W] in [0, 1] by a part of the colour circle.

    Equals torchvision's adjust_hue and takes a third of its time: no pixel selects among six cases.
    """
    red, green, blue = image
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    # Grey has no hue; 0 / tiny gives it one that does not show.
    divisor = chroma.clamp_min(torch.finfo(image.dtype).tiny)
    # In sixths of the circle. In one expression: tensors with names live on and cost a fifth more.
    hue = torch.where(
        value == red,
        (green - blue).div_(divisor),
        torch.where(
            value == green,
            (blue - red).div_(divisor).add_(2),
            (red - green).div_(divisor).add_(4),
        ),
    ).add_(6 * turns)
    hue.sub_(hue.div(6).floor_().mul_(6))
    shares = (
        (hue - 3).abs_().sub_(1),
        (hue - 2).abs_().neg_().add_(2),
        (hue - 4).abs_().neg_().add_(2),
    )
    return torch.stack([share.clamp_(0, 1).mul_(chroma).add_(low) for share in shares])


# In the order of FACTORS, which is ColorJitter's.
ADJUSTMENTS = (
    v2.functional.adjust_brightness,
    v2.functional.adjust_contrast,
    v2.functional.adjust_saturation,
    rotate_hue,
)


def blur_radius(sigma: float) -> int:
    """Return how many pixels a blur of deviation `sigma` reaches."""
    return int(4 * sigma + 0.5)


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur a float image [3, H, W] by a Gaussian of `sigma` pixels; it is mirrored at its edges.

    The kernel is cut at 4 deviations, as in scikit-image, which the published code blurs with.
    """
    # Shifted sums by row and column: 14 ms for 768² at sigma 1.3 on one core, torchvision 52.
    radius = min(blur_radius(sigma), min(image.shape[1:]) - 1)  # whole images may be tiny
    kernel = [math.exp(-(shift**2) / (2 * sigma**2)) for shift in range(radius + 1)]
    weights = [weight / (2 * sum(kernel) - 1) for weight in kernel]
    image = F.pad(image[None], [radius] * 4, mode="reflect")[0]
    for axis in (1, 2):
        size = image.shape[axis] - 2 * radius
        blurred = image.narrow(axis, radius, size) * weights[0]
        for shift in range(1, radius + 1):
            left = image.narrow(axis, radius - shift, size)
            right = image.narrow(axis, radius + shift, size)
            blurred.add_(left + right, alpha=weights[shift])
        image = blurred
    return image
