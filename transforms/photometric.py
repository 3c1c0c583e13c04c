"""Steps that change colours only. Random numbers come from torch's global generator."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from transforms.geometric import uniform
from utils.errors import UserError


def random_jitter(strengths: Sequence[float], probability: float) -> v2.Transform:
    """Return colour jitter of [3, H, W] (brightness, contrast, saturation, hue in random order).

    UserError for a hue beyond half of the colour circle.
    """
    if strengths[3] > 0.5:
        raise UserError(f"TRANSFORM.JITTER has hue {strengths[3]}; it goes from 0 to 0.5")
    return v2.RandomApply([v2.ColorJitter(*strengths)], p=probability)


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur a float image [3, H, W] by a Gaussian of `sigma` pixels; it is mirrored at its edges.

    The kernel is cut at 4 deviations, as in scikit-image, which the published code blurs with.
    """
    # Shifted sums, one direction after the other: 14 ms for 768² at sigma 1.3 on one core, where
    # torchvision's two-dimensional convolution takes 52.
    radius = int(4 * sigma + 0.5)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights = (kernel / kernel.sum())[radius:].tolist()
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


class RandomBlur:
    """Gaussian blur of a float [3, H, W] with random deviation (pixels), with a probability."""

    def __init__(self, sigmas: Sequence[float], probability: float):
        if sigmas[0] > sigmas[1]:
            raise UserError(f"TRANSFORM.BLUR_SIGMA runs from low to high, not {list(sigmas)}")
        self.low, self.high = sigmas
        self.probability = probability

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if uniform(0, 1) >= self.probability:
            return image
        return gaussian_blur(image, uniform(self.low, self.high))
