"""What predict.py writes of a prediction: label maps to compute with and pictures to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datasets.files import png_bytes
from datasets.label_spaces import LabelSpace, cityscapes_ids
from utils.draw.pictures import colourise, legend, overlay
from utils.engine.failures import cannot_write
from utils.engine.saving import write_atomically
from utils.errors import UserError, unknown_name

# Name of a folder of predictions → what is in it.
KINDS = {
    "train_ids": "train ids, 8-bit PNG",
    "city_ids": "ids of Cityscapes' label files, 8-bit PNG",
    "colour": "classes in their colours",
    "overlay": "colours over the image, with a legend",
    "confidence": "probability of the predicted class, 0 to 255 for 0 to 1",
}
LABEL_KINDS = ("train_ids", "city_ids")  # numbers: a video codec would change them
CONTINUES = "What was written is whole, and the same command continues"
LEAST_SHARE = 0.0002  # of the pixels: what a legend names


class SegmentedImage(NamedTuple):
    """An image uint8 `[3, H, W]`, its predicted train ids uint8 `[H, W]`, and their probabilities
    float32 `[H, W]`."""

    image: Tensor
    labels: Tensor
    confidence: Tensor


def choose_kinds(names: Sequence[str], space: LabelSpace) -> list[str]:
    """Return the kinds of pictures that are asked for, all that there are if none is.

    UserError for an unknown name, and for Cityscapes' ids of classes that have none.
    """
    for name in names:
        if name not in KINDS:
            raise unknown_name("kind of prediction", name, KINDS)
    without_ids = cityscapes_ids(space) is None
    if "city_ids" in names and without_ids:
        raise UserError(
            f"--write city_ids: the classes of {space.name} have no ids in Cityscapes' label files"
        )
    return list(dict.fromkeys(names)) or [k for k in KINDS if k != "city_ids" or not without_ids]


def render_kind(
    kind: str, segmented: SegmentedImage, space: LabelSpace, whole_legend: bool = False
) -> Tensor:
    """Return a picture of one kind, uint8 `[H, W]` or `[3, H', W]`.

    All have the image's size; below an overlay is its legend, of the classes that can be seen, or
    of all of them (`whole_legend`), so that the frames of a video have one size.
    """
    image, labels, confidence = segmented
    if kind == "train_ids":
        return labels
    if kind == "city_ids":
        return torch.from_numpy(cityscapes_ids(space).take(labels.numpy()))
    if kind == "colour":
        return colourise(labels, space)
    if kind == "confidence":
        return (255 * confidence).round().to(torch.uint8)
    shares = torch.bincount(labels.flatten().long(), minlength=len(space)) / labels.numel()
    entries = zip(space.classes, space.colours, shares, strict=True)
    shown = {name: own for name, own, share in entries if whole_legend or share >= LEAST_SHARE}
    return torch.cat([overlay(image, labels, space), legend(shown, image.shape[2])], dim=1)


def write_picture(path: Path, picture: Tensor) -> None:
    """Write a picture of `render` as PNG at one stroke."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, png_bytes(picture), CONTINUES)
    except OSError as error:
        raise UserError(cannot_write(error, path, CONTINUES)) from None
