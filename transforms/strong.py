"""The strong augmentation of self-training: jitter and blur of normalised images on their device.

As in DAFormer's released code, whose jitter is kornia 0.5.8's: brightness is added, contrast scales
without a mean, saturation is that of HSV. Choices are drawn on the host, from torch's global
generator of the CPU, and nothing waits for the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from transforms.geometric import uniform
from transforms.normalisation import IMAGENET_MEAN, IMAGENET_STD
from transforms.photometric import gaussian_blur, rotate_hue


class Switches(NamedTuple):
    """What is done to all images of a step."""

    jitter: bool
    blur: bool


class StrongAugmentation:
    """Colour jitter of `strength` s with a probability, then blur of `sigma` pixels with another.

    The switches are drawn once for a step, factors for each image, the order of the adjustments for
    each batch. Published: s = 0.2, in the original DACS 0.25.
    """

    def __init__(
        self,
        strength: float = 0.2,
        jitter_probability: float = 0.8,
        blur_probability: float = 0.5,
        sigma: Sequence[float] = (0.15, 1.15),
    ):
        self.strength, self.sigma = strength, sigma
        self.probabilities = jitter_probability, blur_probability

    def draw_switches(self) -> Switches:
        """Draw what is done to the images of a step."""
        return Switches(*(uniform(0, 1) < probability for probability in self.probabilities))

    @torch.no_grad()
    def __call__(self, images: Tensor, switches: Switches) -> Tensor:
        """Return normalised images `[B, 3, H, W]`, jittered and blurred as the switches say.

        Sides have to be larger than the reach of the blur, 4 deviations.
        """
        if not any(switches):
            return images
        order = sorted(range(4), key=lambda _: uniform(0, 1))
        results = torch.empty_like(images)  # in their memory format
        for result, image in zip(results.unbind(), images.unbind(), strict=True):
            if switches.jitter:
                factors = [uniform(-self.strength, self.strength) for _ in range(4)]
                image = jitter(image, order, factors)
            if switches.blur:
                image = gaussian_blur(image, uniform(*self.sigma))
            result.copy_(image)
        return results


def jitter(image: Tensor, order: Sequence[int], factors: Sequence[float]) -> Tensor:
    """Adjust a normalised image `[3, H, W]`: `order` permutes brightness, contrast, saturation and
    hue, whose `factors` are 0 for no change."""
    # Numbers, since a tensor made of them would have to be copied to the device.
    statistics = list(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    planes = zip(image.unbind(), statistics, strict=True)
    image = torch.stack([plane * std + mean for plane, (mean, std) in planes])
    for number in order:
        image = ADJUSTMENTS[number](image, factors[number])
    planes = zip(image.unbind(), statistics, strict=True)
    return torch.stack([(plane - mean) / std for plane, (mean, std) in planes])


def _add_brightness(image: Tensor, factor: float) -> Tensor:
    return (image + factor).clamp_(0, 1)


def _scale_contrast(image: Tensor, factor: float) -> Tensor:
    return (image * (1 + factor)).clamp_(0, 1)


def _scale_saturation(image: Tensor, factor: float) -> Tensor:
    """Scale the saturation `(max − min) / max` to at most 1; hue and maximum stay."""
    value, chroma = image.amax(0), image.amax(0) - image.amin(0)
    most = value / chroma.clamp_min(torch.finfo(image.dtype).tiny)
    return torch.lerp(value, image, most.clamp_max(1 + factor))


ADJUSTMENTS = (_add_brightness, _scale_contrast, _scale_saturation, rotate_hue)
