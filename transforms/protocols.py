"""The evaluation protocols of published tables: at which sizes predictions are evaluated, and how.

`native`: whole images at their own size. `robustnet`: GTAV at 1914×1052; Mapillary resized to a
height of 1536 and cut to 1536² around its centre, or padded with black and void where it is
narrower. `openseg`: images at 1024×512 in sliding windows of 512 with stride 341; labels at their
own size, or half of it and with a label map of their own for Mapillary. `daformer`, `sepico`,
`hrda`: images fitted into 1024×512, 1280×640, 2048×1024 with their aspect, as by OpenCV, also
upwards and also portraits into the box on end; labels at their own size; `hrda` in windows of 1024
with stride 512. `rein`: images fitted into 1024×512 as by `daformer`, labels at their own size, but
BDD100K as it is, and Mapillary halved before, its labels judged at that size; windows of 512 with
stride 341.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as F
from torchvision.transforms import InterpolationMode

from transforms.geometric import Aim, fitted_size, resize_image, resize_label
from transforms.normalisation import normalise
from utils.labels import VOID

Pair = tuple[torch.Tensor, torch.Tensor]
Resizing = Callable[[torch.Tensor, torch.Tensor], Pair]


def keep(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Return both at their own size."""
    return image, label


def resize_pair(image: torch.Tensor, label: torch.Tensor, size: tuple[int, int]) -> Pair:
    """Return both at `size` (h, w)."""
    return resize_image(image, size), resize_label(label, size)


def square(image: torch.Tensor, label: torch.Tensor, side: int) -> Pair:
    """Return both at a height of `side`, cut or padded to a width of `side` around the centre."""
    height, width = label.shape
    scaled = round(width * side / height)
    image, label = resize_pair(image, label, (side, scaled))
    margin = abs(scaled - side) // 2
    if scaled > side:
        return image[..., margin : margin + side], label[:, margin : margin + side]
    padding = [margin, 0, side - scaled - margin, 0]
    return F.pad(image, padding), F.pad(label[None], padding, fill=VOID)[0]


def resize_image_alone(
    image: torch.Tensor, label: torch.Tensor, size: tuple[int, int], divisor: int = 1
) -> Pair:
    """Return the image at `size` (h, w), by bilinear interpolation, and the label at its own size
    over `divisor`."""
    image = F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    return image, resize_label(label, [length // divisor for length in label.shape])


def fit_image(image: torch.Tensor, label: torch.Tensor, box: tuple[int, int]) -> Pair:
    """Return the image fitted into `box` with its aspect, by bilinear interpolation without
    antialiasing, and the label as it is."""
    size = fitted_size(label.shape, box)
    return F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=False), label


def halve_and_fit(image: torch.Tensor, label: torch.Tensor, box: tuple[int, int]) -> Pair:
    """Return the image at half its size, fitted into `box`, and the label at half its size."""
    height, width = label.shape
    return fit_image(*resize_pair(image, label, (height // 2, width // 2)), box)


class Protocol(NamedTuple):
    """How datasets are evaluated.

    `resizings` are by dataset, `resizing` is for all others: they take and return an image uint8
    [3, h, w] and its label [h, w]. `windows` are crop and stride of sliding windows in pixels, 0
    for whole images. `label_maps` name a label map by dataset; others keep the settings' label map.
    """

    resizings: Mapping[str, Resizing] = {}
    resizing: Resizing = keep
    windows: tuple[int, int] = (0, 0)
    label_maps: Mapping[str, str] = {}


_OPENSEG = partial(resize_image_alone, size=(512, 1024))
PROTOCOLS = {
    "robustnet": Protocol(
        {"gtav": partial(resize_pair, size=(1052, 1914)), "mapillary": partial(square, side=1536)}
    ),
    "native": Protocol(),
    "openseg": Protocol(
        {"mapillary": partial(_OPENSEG, divisor=2)}, _OPENSEG, (512, 341), {"mapillary": "openseg"}
    ),
    "daformer": Protocol(resizing=partial(fit_image, box=(1024, 512))),
    "sepico": Protocol(resizing=partial(fit_image, box=(1280, 640))),
    "hrda": Protocol(resizing=partial(fit_image, box=(2048, 1024)), windows=(1024, 512)),
    "rein": Protocol(
        {"bdd100k": keep, "mapillary": partial(halve_and_fit, box=(1024, 512))},
        partial(fit_image, box=(1024, 512)),
        (512, 341),
    ),
}


class EvalTransform:
    """Bring a sample of `dataset` to the size that `protocol` evaluates it at, and normalise it.

    Takes what TrainTransform takes. The label may keep another size than the image: predictions are
    resized to the label.
    """

    def __init__(self, protocol: str = "native", dataset: str = ""):
        record = PROTOCOLS[protocol]
        self.resize = record.resizings.get(dataset, record.resizing)

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, aim: Aim = None
    ) -> dict[str, torch.Tensor]:
        """Return `image`, normalised float32 [3, h, w], and `label` [h', w']."""
        image, label = self.resize(image, label)
        return {"image": normalise(image), "label": label}
