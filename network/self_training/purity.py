"""Labels of feature cells, and DAFormer's feature distance (arXiv 2111.14887, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from network.regions.statistics import widened
from utils.labels import VOID

# Train ids of Cityscapes' countable classes: traffic light and sign, person to bicycle.
THINGS = (6, 7, *range(11, 19))
PURITY = 0.75


def pure_cells(
    labels: Tensor, size: Sequence[int], num_classes: int, purity: float = PURITY
) -> Tensor:
    """Return the class of each cell of a feature of `size` (h, w): `[B, h, w]` int64.

    `labels` `[B, H, W]` int64, 255 = void, are divided into h × w cells, of H/h × W/w pixels each
    where that is whole. A cell has the class of `purity` of its pixels at least, void being a class
    of its own, else 255.
    """
    (batch, *shape), (height, width) = labels.shape, size
    rows, columns = (
        torch.arange(side, device=labels.device) * cells // side
        for side, cells in zip(shape, size, strict=True)
    )
    image = torch.arange(batch, device=labels.device)[:, None, None]
    cell = (image * height + rows[:, None]) * width + columns
    slot = cell * (num_classes + 1) + torch.where(labels == VOID, num_classes, labels)
    count = torch.zeros(batch * height * width * (num_classes + 1), device=labels.device)
    count.index_add_(0, slot.flatten(), torch.ones_like(slot, dtype=count.dtype).flatten())
    count = count.view(batch, height, width, num_classes + 1)
    largest, label = count.max(-1)
    pure = (largest >= purity * count.sum(-1).clamp_min(1)) & (label != num_classes)
    return torch.where(pure, label, VOID)


def feature_distance(
    features: Tensor, reference: Tensor, cells: Tensor, classes: Sequence[int] = THINGS
) -> Tensor:
    """Return the mean of `‖f − g‖₂` over the cells of some classes, in float32 at least.

    `features` and `reference` (of the ImageNet network, without a gradient) `[B, C, h, w]`, `cells`
    `[B, h, w]` as `pure_cells` returns. Without such a cell: 0, with a gradient of 0.
    """
    wide = widened(features.dtype)
    distance = torch.linalg.vector_norm(features.to(wide) - reference.to(wide), dim=1)
    counted = cells_of(cells, classes)
    return (distance * counted).sum() / counted.sum().clamp_min(1)


def cells_of(cells: Tensor, classes: Sequence[int]) -> Tensor:
    """Return bool `[B, h, w]`: which cells, as `pure_cells` returns them, are of some classes."""
    return torch.stack([cells == number for number in classes]).any(0)
