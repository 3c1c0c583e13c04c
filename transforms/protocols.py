"""At which size images and labels are judged: the evaluation protocols of published tables.

`native`: every image whole, at its own size. `robustnet`: GTAV resized to 1914×1052; Mapillary
resized to a height of 1536 and cut to 1536² around its centre, narrower (portrait) images padded
with black and void. `openseg`: images at 1024×512, labels at their own size (Mapillary's halved),
sliding windows of 512 with stride 341, and for Mapillary the label map of the same name.
"""

import torch
import torchvision.transforms.v2.functional as F
from torchvision.transforms import InterpolationMode

from transforms.geometric import Centroid, Placement, Span, show_image, show_label
from transforms.normalisation import normalise

PROTOCOLS = ("robustnet", "native", "openseg")
# (crop, stride) of the sliding windows that a protocol implies.
SLIDING = {"openseg": (512, 341)}

GTAV_SIZE = (1052, 1914)
MAPILLARY_SIDE = 1536
OPENSEG_SIZE = (512, 1024)


class EvalTransform:
    """Bring a sample of `dataset` to the size that `protocol` judges it at, and normalise it.

    Takes what TrainTransform takes. The label may keep another size than the image: predictions are
    resized to the label.
    """

    def __init__(self, protocol: str = "native", dataset: str = ""):
        self.protocol, self.dataset = protocol, dataset

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, centroid: Centroid = None
    ) -> dict[str, torch.Tensor]:
        """Return `image`, normalised float32 [3, h, w], and `label` [h', w']."""
        image, label = self.resize(image, label)
        return {"image": normalise(image), "label": label}

    def resize(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `image` uint8 [3, h, w] and `label` [h', w'] at the protocol's sizes."""
        if self.protocol == "robustnet" and self.dataset == "gtav":
            image, label = resize(image, label, GTAV_SIZE)
        elif self.protocol == "robustnet" and self.dataset == "mapillary":
            image, label = _mapillary_square(image, label)
        elif self.protocol == "openseg":
            if self.dataset == "mapillary":
                label = _nearest(label, (label.shape[0] // 2, label.shape[1] // 2))
            image = F.resize(image, OPENSEG_SIZE, InterpolationMode.BILINEAR, antialias=True)
        return image, label


def _mapillary_square(
    image: torch.Tensor, label: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = label.shape
    side = MAPILLARY_SIDE
    scaled = round(width * side / height)
    margin = abs(scaled - side) // 2
    columns = Span(width, scaled, side, margin if scaled > side else -margin)
    place = Placement(Span(height, side, side, 0), columns, flip=False)
    return show_image(image, place), show_label(label, place)


def resize(
    image: torch.Tensor, label: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize an image [3, H, W] by bicubic interpolation and its label to `size` (h, w)."""
    if tuple(label.shape) == size:
        return image, label
    image = F.resize(image, size, InterpolationMode.BICUBIC, antialias=True)
    return image, _nearest(label, size)


def _nearest(label: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.resize(label[None], size, InterpolationMode.NEAREST_EXACT)[0]
