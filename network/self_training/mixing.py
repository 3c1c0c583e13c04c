"""Pseudo-labels and what hides pixels: ClassMix (arXiv 2007.07936), MIC's blocks (2212.01322)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from network.regions.statistics import downsample_labels, widened
from utils.labels import VOID


class PseudoLabels(NamedTuple):
    """`label` `[B, H, W]` int64, and `share` `[]`, float32 at least, of confident pixels: q."""

    label: Tensor
    share: Tensor


@torch.no_grad()
def pseudo_labels(logits: Tensor, threshold: float) -> PseudoLabels:
    """Return the most probable classes of logits `[B, K, H, W]`, and the share q of the pixels of
    the whole batch whose probability is at least `threshold` (DACS, arXiv 2007.08702)."""
    logits = logits.to(widened(logits.dtype))
    largest, label = logits.max(1)
    confident = (largest - logits.logsumexp(1)).exp() >= threshold
    return PseudoLabels(label, confident.to(logits.dtype).mean())


def pixel_weights(share: Tensor, shape: Sequence[int], border: Sequence[int]) -> Tensor:
    """Return weights `[B, H, W]` of pseudo-labels: `share` `[]`, and 0 in the border.

    `border` counts rows at the top and bottom, columns at the left and right. DAFormer leaves out
    15 and 120 rows, where Cityscapes shows the bonnet and what rectification left.
    """
    (top, bottom, left, right), (height, width) = border, shape[1:]
    weight = share.expand(shape).clone()
    weight[:, :top] = weight[:, max(0, height - bottom) :] = 0
    weight[:, :, :left] = weight[:, :, max(0, width - right) :] = 0
    return weight


@torch.no_grad()
def class_mask(labels: Tensor, num_classes: int, own_classes: bool = False) -> Tensor:
    """Return `[B, H, W]` bool: the pixels of half of the classes, drawn for each image (ClassMix).

    `labels` `[B, H, W]` int64, 255 = void, which counts as a class. Of the n classes of the whole
    batch, or with `own_classes` (the original DACS) of the image itself, ⌈n/2⌉ are drawn without
    replacement; an image may have none of them. Draws `torch.rand` `[B, num_classes + 1]` on the
    device of the labels; the smallest numbers win, the last is void's.
    """
    batch = len(labels)
    region = torch.where(labels == VOID, num_classes, labels).view(batch, -1)
    keys = torch.rand(batch, num_classes + 1, device=labels.device)
    present = torch.zeros_like(keys, dtype=torch.bool).scatter_(1, region, True)
    if not own_classes:
        present = present.any(0).expand_as(present)
    # Absent classes rank last.
    rank = keys.masked_fill(~present, 2).argsort(1).argsort(1)
    chosen = rank < (present.sum(1, keepdim=True) + 1) // 2
    return chosen.gather(1, region).view_as(labels)


def paste(mask: Tensor, inside: Tensor | float, outside: Tensor) -> Tensor:
    """Return `inside` where the mask `[B, H, W]` is set, else `outside`.

    Both are images `[B, C, H, W]`, or both labels or weights `[B, H, W]`; `inside` may be a number.
    """
    return torch.where(mask[:, None] if outside.dim() == 4 else mask, inside, outside)


def hide_blocks(images: Tensor, block: int, ratio: float) -> Tensor:
    """Return normalised images `[B, C, H, W]` with random blocks of the mean colour (MIC, eq. 3).

    Each image has a grid of `round(H / block)` × `round(W / block)` cells, at least one, stretched
    to its size; a cell is hidden with probability `ratio`. Draws `torch.rand` `[B, h, w]` on their
    device.
    """
    (batch, _, height, width) = images.shape
    grid = [max(1, round(side / block)) for side in (height, width)]
    kept = torch.rand(batch, *grid, device=images.device) >= ratio
    # The nearest neighbour enlarges in the same way.
    return images * downsample_labels(kept, (height, width))[:, None]
