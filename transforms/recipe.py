"""The transforms of a training sample, in the published order."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from transforms.geometric import Aim, RandomGeometry, show_image
from transforms.normalisation import normalise
from transforms.photometric import Photometric, blur_radius
from utils.errors import UserError

# Key of a batch: drawn numbers that are still to be applied to its images.
PHOTOMETRIC = "photometric"


class Colours(NamedTuple):
    """Another colour jitter of some images, always, in place of TRANSFORM.JITTER.

    jitter   brightness, contrast, saturation, hue
    setting  the jitter's key, for errors
    applies  (step, number of the source) → whether the source's images in that step have it
    """

    jitter: Sequence[float]
    setting: str
    applies: Callable[[int, int], bool]


class TrainTransform:
    """Scale, pad, crop, flip, colour jitter, blur, normalise: RobustNet's recipe, which SRHA keeps.

    The caller computes geometry and colours. With `on_device` it draws the colours' numbers only,
    and `finish` applies them on the device that trains. Both give the same image.
    """

    def __init__(self, cfg: Any, on_device: bool = False, colours: Colours | None = None):
        """`colours` replace the jitter."""
        options = cfg.TRANSFORM
        self.on_device = on_device
        if options.BLUR_PROBABILITY:
            refuse_wide_blur("TRANSFORM.BLUR_SIGMA", options.BLUR_SIGMA, options.CROP_SIZE)
        self.geometric = RandomGeometry(
            options.SCALE,
            options.CROP_SIZE,
            options.FLIP,
            options.BOX,
            options.MAX_CLASS_SHARE,
            cfg.DATASET.RARE_CLASS_CROP_PIXELS,
            short_edges=options.SHORT_EDGES,
        )
        jitter = (options.JITTER, options.JITTER_PROBABILITY)
        blur = (options.BLUR_SIGMA, options.BLUR_PROBABILITY)
        if colours is None:
            self.photometric = Photometric(*jitter, *blur)
        else:
            self.photometric = Photometric(colours.jitter, 1.0, *blur, colours.setting)

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, aim: Aim = None
    ) -> dict[str, torch.Tensor]:
        """Return `image` and `label` [h, w] of TRANSFORM.CROP_SIZE.

        Takes uint8 [3, H, W], labels uint8 [H, W] of train ids (255 is void), and what the crop has
        to show: a point (x, y) in label pixels, a train id, or None. The image is normalised
        float32 [3, h, w]; with `on_device` it is uint8, and `photometric` float32 [9] says what to
        do. Draws from torch's global generator.
        """
        image, label = self.geometric(image, label, aim)
        drawn = self.photometric.draw()
        if self.on_device:
            return {"image": image, "label": label, PHOTOMETRIC: drawn}
        return {"image": normalise(self.photometric.apply(image, drawn)), "label": label}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Apply what was drawn to the images of a batch, uint8 [B, 3, h, w], and normalise them.

        `photometric` [B, 9] has to be on the CPU. A batch without it is returned as it is.
        """
        return _with_colours(batch, self.photometric)


def _with_colours(batch: dict[str, Any], photometric: Photometric) -> dict[str, Any]:
    """Do to the images of a batch what was drawn for them, if it was left to do."""
    if PHOTOMETRIC not in batch:
        return batch
    images = torch.empty_like(batch["image"], dtype=torch.float32)  # in its memory format
    for i, (image, drawn) in enumerate(zip(batch["image"], batch[PHOTOMETRIC], strict=True)):
        images[i] = normalise(photometric.apply(image, drawn))
    rest = {key: value for key, value in batch.items() if key != PHOTOMETRIC}
    return rest | {"image": images}


def refuse_wide_blur(setting: str, sigma: Sequence[float], crop_size: Sequence[int]) -> None:
    """Raise UserError for a range of blur, the value of `setting`, that is none or reaches across a
    crop."""
    if sigma[0] > sigma[1]:
        raise UserError(f"{setting} runs from low to high, not {list(sigma)}")
    reach = blur_radius(sigma[1])
    if reach >= min(crop_size):
        raise UserError(
            f"TRANSFORM.CROP_SIZE {','.join(map(str, crop_size))} is too small for a blur of "
            f"{setting} {sigma[1]:g}, which reaches {reach} pixels; take sides above {reach} or a "
            "smaller deviation"
        )


class PhotographTransform:
    """Fit into a box, scale, pad, crop, flip and normalise a photograph without labels.

    The geometry is TrainTransform's; colours stay. With `on_device` the caller leaves normalising
    to `finish`.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        scale: Sequence[float] = (1.0, 1.0),
        flip: float = 0.0,
        box: Sequence[int] = (0, 0),
        on_device: bool = False,
    ):
        self.geometric = RandomGeometry(scale, crop_size, flip, box, section="TARGET")
        self.on_device = on_device

    def __call__(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `image` [3, h, w] of `crop_size`, of a photograph uint8 [3, H, W]: normalised
        float32, or with `on_device` uint8. Draws from torch's global generator."""
        image = show_image(image, self.geometric.draw(image.shape[1:]))
        return {"image": image if self.on_device else normalise(image)}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise the images of a batch, uint8 [B, 3, h, w], on the device that trains."""
        return batch | {"image": normalise(batch["image"])} if self.on_device else batch


class WildTransform:
    """Resize a photograph of any size until it covers the crop, crop, flip, and change its colours
    as TrainTransform does those of the source (WildNet)."""

    def __init__(self, cfg: Any, on_device: bool = False):
        options = cfg.TRANSFORM
        self.on_device = on_device
        self.geometric = RandomGeometry((1, 1), options.CROP_SIZE, options.FLIP, covering=True)
        self.photometric = TrainTransform(cfg).photometric

    def __call__(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `image` [3, h, w] of the crop's size, of a photograph uint8 [3, H, W]: normalised
        float32, or with `on_device` uint8, and what is to be done to it. Draws from torch's global
        generator."""
        image = show_image(image, self.geometric.draw(image.shape[1:]))
        drawn = self.photometric.draw()
        if self.on_device:
            return {"image": image, PHOTOMETRIC: drawn}
        return {"image": normalise(self.photometric.apply(image, drawn))}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Apply what was drawn to the images of a batch, uint8 [B, 3, h, w], and normalise them."""
        return _with_colours(batch, self.photometric)
