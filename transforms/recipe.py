"""What is done to a sample before training, in the published order."""

from typing import Any

import torch
import torchvision.transforms.v2.functional as F

from transforms.geometric import Centroid, PadTo, RandomCrop, RandomFlip, RandomScale
from transforms.normalisation import normalise
from transforms.photometric import RandomBlur, random_jitter


class TrainTransform:
    """Scale, pad, crop, flip, colour jitter, blur, normalise: RobustNet's recipe, which SRHA keeps.

    `transform(image, label, centroid)`: uint8 [3, H, W], labels [H, W] of train ids, and a point
    (x, y) in label pixels that the crop must contain, or None → float32 [3, h, w] normalised and
    int64 [h, w], of `TRANSFORM.CROP_SIZE`. Draws from torch's global generator.
    """

    def __init__(self, cfg: Any):
        settings = cfg.TRANSFORM
        self.geometric = (
            RandomScale(settings.SCALE),
            PadTo(settings.CROP_SIZE),
            RandomCrop(settings.CROP_SIZE),
            RandomFlip(settings.FLIP),
        )
        self.jitter = random_jitter(settings.JITTER, settings.JITTER_PROBABILITY)
        self.blur = RandomBlur(settings.BLUR_SIGMA, settings.BLUR_PROBABILITY)

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for step in self.geometric:
            image, label, centroid = step(image, label, centroid)
        image = self.jitter(image)
        # Blurred as float: rounding to 8 bits in between would only lose precision.
        image = self.blur(F.to_dtype(image, torch.float32, scale=True))
        return normalise(image), label.long()
