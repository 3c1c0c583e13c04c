"""The transforms of a training sample, in the published order."""

from typing import Any

import torch

from transforms.geometric import Centroid, RandomGeometry
from transforms.normalisation import normalise
from transforms.photometric import Photometric, blur_radius
from utils.errors import UserError

# Key of a batch: drawn numbers that are still to be applied to its images.
PHOTOMETRIC = "photometric"


class TrainTransform:
    """Scale, pad, crop, flip, colour jitter, blur, normalise: RobustNet's recipe, which SRHA keeps.

    The caller computes geometry and colours. With `on_device` it draws the colours' numbers only,
    and `finish` applies them on the device that trains. Both give the same image.
    """

    def __init__(self, cfg: Any, on_device: bool = False):
        options = cfg.TRANSFORM
        self.on_device = on_device
        reach, side = blur_radius(options.BLUR_SIGMA[1]), min(options.CROP_SIZE)
        if options.BLUR_PROBABILITY and reach >= side:
            crop = ",".join(map(str, options.CROP_SIZE))
            raise UserError(
                f"TRANSFORM.CROP_SIZE {crop} is too small for a blur of TRANSFORM.BLUR_SIGMA "
                f"{options.BLUR_SIGMA[1]:g}, which reaches {reach} pixels; take sides above "
                f"{reach} or a smaller deviation"
            )
        self.geometric = RandomGeometry(options.SCALE, options.CROP_SIZE, options.FLIP)
        self.photometric = Photometric(
            options.JITTER,
            options.JITTER_PROBABILITY,
            options.BLUR_SIGMA,
            options.BLUR_PROBABILITY,
        )

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid = None
    ) -> dict[str, torch.Tensor]:
        """Return `image` and `label` [h, w] of TRANSFORM.CROP_SIZE.

        Takes uint8 [3, H, W], labels uint8 [H, W] (255 is void), and a point (x, y) in label pixels
        that the crop must contain, or None. The image is normalised float32 [3, h, w]; with
        `on_device` it is uint8, and `photometric` float32 [9] says what to do. Draws from torch's
        global generator.
        """
        image, label = self.geometric(image, label, centroid)
        drawn = self.photometric.draw()
        if self.on_device:
            return {"image": image, "label": label, PHOTOMETRIC: drawn}
        return {"image": normalise(self.photometric.apply(image, drawn)), "label": label}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Apply what was drawn to the images of a batch, uint8 [B, 3, h, w], and normalise them.

        `photometric` [B, 9] has to be on the CPU. A batch without it is returned as it is.
        """
        if PHOTOMETRIC not in batch:
            return batch
        images = torch.empty_like(batch["image"], dtype=torch.float32)  # in its memory format
        for i, (image, drawn) in enumerate(zip(batch["image"], batch[PHOTOMETRIC], strict=True)):
            images[i] = normalise(self.photometric.apply(image, drawn))
        rest = {key: value for key, value in batch.items() if key != PHOTOMETRIC}
        return rest | {"image": images}
