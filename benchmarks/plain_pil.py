"""The published order of reading a training sample, in plain PIL, for comparison with our own.

Order and operations follow the code of RobustNet and SRHA; files are handled as simply as possible.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage
from torchvision.transforms import v2

from transforms import normalise

JITTER = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)


def sample(
    image_path: str, label_path: str, read_label: "LabelReader", crop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read, scale, pad, crop, mirror, jitter, blur and normalise a sample, whole images at a time.

    The blur is PIL's, which is cheaper than the published one (scikit-image in float64).
    """
    image = Image.open(image_path).convert("RGB")
    label = Image.fromarray(read_label(label_path))
    factor = random.uniform(0.5, 2.0)
    size = round(image.width * factor), round(image.height * factor)
    image = image.resize(size, Image.Resampling.BICUBIC)
    label = label.resize(size, Image.Resampling.NEAREST)
    if min(size) < crop:
        rows, columns = max(0, crop - size[1]), max(0, crop - size[0])
        border = (columns // 2, rows // 2, columns - columns // 2, rows - rows // 2)
        image = ImageOps.expand(image, border, fill=0)
        label = ImageOps.expand(label, border, fill=255)
    left = random.randint(0, image.width - crop)
    top = random.randint(0, image.height - crop)
    box = (left, top, left + crop, top + crop)
    image, label = image.crop(box), label.crop(box)
    if random.random() < 0.5:
        image, label = ImageOps.mirror(image), ImageOps.mirror(label)
    if random.random() < 0.5:
        image = JITTER(image)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.15, 1.3)))
    return normalise(v2.functional.pil_to_tensor(image)), torch.from_numpy(np.array(label)).long()


class LabelReader:
    """Reads a label file as train ids uint8 [H, W].

    With `colours` it compares each pixel with the colour of each class, as published for GTAV;
    without, it looks numbers up in `table`.
    """

    def __init__(self, table: np.ndarray, colours: Sequence[Sequence[int]] = ()):
        self.table, self.colours = table, colours

    def __call__(self, path: str) -> np.ndarray:
        file = Image.open(path)
        if not self.colours:
            return self.table.take(np.array(file))
        pixels = np.array(file.convert("RGB"))
        label = np.full(pixels.shape[:2], 255, np.uint8)
        for train_id, colour in enumerate(self.colours):
            label[(pixels == colour).all(axis=2)] = train_id
        return label


def centroids_by_loop(label: np.ndarray, tile: int, num_classes: int) -> list[tuple]:
    """Class centroids with one pass over the label for each class: (class, x, y) by tile."""
    found = []
    for top in range(0, label.shape[0], tile):
        for left in range(0, label.shape[1], tile):
            patch = label[top : top + tile, left : left + tile]
            for train_id in range(num_classes):
                mask = patch == train_id
                if mask.any():
                    y, x = ndimage.center_of_mass(mask)
                    found.append((train_id, x + left, y + top))
    return found
