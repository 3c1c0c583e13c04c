"""A picture of what a network predicts in a domain, for the log of a training run."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace, coarsening
from network.methods import Method
from transforms import denormalise
from utils.draw.pictures import colourise, side_by_side
from utils.engine.runtime import Runtime


@torch.no_grad()
def domain_picture(
    method: Method, domain: SegmentationDataset, space: LabelSpace, runtime: Runtime
) -> Tensor:
    """Show image, label and prediction of the middle image of a domain of `open_domain`, each 512
    pixels wide: `[3, H, W]` uint8. The method predicts in `space`. The image is evaluated whole, at
    half size if it is large."""
    sample = domain[len(domain) // 2]
    image = sample["image"][None]
    width = min(512, image.shape[3])
    size = (round(image.shape[2] * width / image.shape[3]), width)
    if image.shape[3] > 1024:
        image = F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True)
    method.eval()
    with runtime.autocast():
        logits = method(image.to(runtime.device, memory_format=runtime.memory_format))
    to_evaluated = torch.from_numpy(coarsening(space, domain.label_space))
    prediction = to_evaluated[logits[0].argmax(0).cpu()]
    labels = [sample["label"], prediction]
    pictures = [denormalise(image[0]), *(colourise(each, domain.label_space) for each in labels)]
    modes = [InterpolationMode.BILINEAR, *[InterpolationMode.NEAREST] * 2]
    return side_by_side(
        [resize(p, size, mode, antialias=True) for p, mode in zip(pictures, modes, strict=True)]
    )
