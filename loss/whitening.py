"""Instance whitening (RobustNet, Choi et al., CVPR 2021): correlations of channels as a loss."""

import torch
from torch import Tensor

EPSILON = 1e-5  # on the diagonal, as published; no loss reads that


def covariance(x: Tensor) -> Tensor:
    """Return `x xᵀ / (hw − 1) + 1e-5 I` `[B, C, C]` of each image's channels `[B, C, h, w]`.

    No mean is subtracted: instance norm did that. Float32 at least, outside autocast: the products
    of a whole map are summed. Of a map of one place, whose channels have no correlation, it is 0.
    """
    with torch.autocast(x.device.type, enabled=False):
        maps = x.flatten(2)
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        products = maps @ maps.transpose(1, 2) / max(maps.shape[2] - 1, 1)
        identity = torch.eye(maps.shape[1], dtype=maps.dtype, device=maps.device)
        return products + EPSILON * identity


def pairs(channels: int, device: torch.device | None = None) -> Tensor:
    """Return bool `[C, C]`: each pair of channels once, above the diagonal."""
    return torch.ones(channels, channels, dtype=torch.bool, device=device).triu(1)


def whitening_loss(covariances: Tensor, mask: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Return `mean_b max(0, (Σ m |Σ_b| − margin) / Σ m)` of covariances `[B, C, C]`.

    `mask` bool `[C, C]` says which entries count: all `pairs` (IW, IRW), or those that were found
    sensitive (ISW). The margin is that of IRW. A mask of nothing gives 0, with a gradient.
    """
    number = mask.sum().clamp(min=1)
    sums = (covariances.abs() * mask).sum((1, 2))
    return ((sums - margin) / number).clamp(min=0).mean()
