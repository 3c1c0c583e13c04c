"""Cells of things, and DAFormer's feature distance (arXiv 2111.14887, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from network.regions.statistics import widened

# Train ids of Cityscapes' countable classes: traffic light and sign, person to bicycle.
THINGS = (6, 7, *range(11, 19))
PURITY = 0.75  # share of a cell that its class has


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
