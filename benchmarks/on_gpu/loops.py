"""SRM and alignment by loops over images and regions, as released code has them: what the forms of
network/regions are compared with. Written from the formulas."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.methods import Method
from network.regions.alignment import HierarchicalAlignment
from network.regions.statistics import EPSILON, downsample_labels


def by_loops(method: Method) -> None:
    """Let an SRHA method rearrange and align by loops."""
    method.rearrangement = LoopRearrangement(method.rearrangement.concentration)
    method.alignment.__class__ = LoopAlignment


class LoopRearrangement(nn.Module):
    """SRM (see network/regions/rearrangement.py): void is a region, styles are of the image."""

    def __init__(self, concentration: float):
        super().__init__()
        self.concentration = concentration

    @torch.no_grad()
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Rearrange features `[B, C, h, w]` by labels `[B, H, W]`; same shape and dtype."""
        small = downsample_labels(labels, features.shape[-2:])
        restyled = features.clone()
        for image, label, out in zip(features.float(), small, restyled, strict=True):
            masks = [label == value for value in label.unique().tolist()]
            styles = [torch.std_mean(image[:, mask], dim=1, correction=0) for mask in masks]
            std, mean = (torch.stack(own) for own in zip(*styles, strict=True))
            std = std + EPSILON
            alpha = torch.full((len(masks),), self.concentration, device=image.device)
            for number, mask in enumerate(masks):
                weight = torch.distributions.Dirichlet(alpha).sample().nan_to_num(1 / len(masks))
                normal = (image[:, mask] - mean[number, :, None]) / std[number, :, None]
                own = normal * (weight @ std)[:, None] + (weight @ mean)[:, None]
                out[:, mask] = own.to(out.dtype)
        return restyled


class LoopAlignment(HierarchicalAlignment):
    """Global, regional and local alignment term by term."""

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted terms, as HierarchicalAlignment does."""
        losses = {"global": 0.0, "regional": 0.0, "local": 0.0}
        for layer in self.layers:
            own = student[layer].float()
            streams = len(own) // len(teacher[layer])
            target = torch.cat([teacher[layer].float()] * streams)
            small = downsample_labels(labels, own.shape[-2:]).repeat(streams, 1, 1)
            terms = {
                "global": F.mse_loss(own.mean((2, 3)), target.mean((2, 3))),
                "regional": regional(own, target, small),
                "local": F.mse_loss(own, target),
            }
            for term, value in terms.items():
                losses[term] = losses[term] + self.weights[term][layer - 1] * value
        return losses


def regional(own: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over (image, region) pairs and channels of the squared difference of the
    region's means, times its share of the pixels."""
    total, pairs = own.new_zeros(()), 0
    for image, aim, label in zip(own, target, labels, strict=True):
        for value in label.unique().tolist():
            mask = label == value
            difference = image[:, mask].mean(1) - aim[:, mask].mean(1)
            total = total + difference.square().mean() * mask.float().mean()
            pairs += 1
    return total / pairs
