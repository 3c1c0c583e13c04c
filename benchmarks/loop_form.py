"""SRM and the regional loss with Python loops over images and regions, as the published code has
them, and by matrix products: what the one-pass form is held against. Written for this comparison,
from the equations."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.regions.statistics import EPSILON
from utils.labels import VOID


@torch.no_grad()
def rearrange(features: Tensor, labels: Tensor, concentration: float = 2**-6) -> Tensor:
    """Restyle features `[B, C, h, w]` by labels `[B, H, W]`, region by region of each image."""
    small = F.interpolate(labels[:, None].float(), features.shape[-2:], mode="nearest")[:, 0].long()
    restyled = features.clone()
    for image, label, out in zip(features, small, restyled, strict=True):
        values = label.unique()
        masks = [label == value for value in values]
        styles = []
        for mask in masks:
            pixels = image[:, mask]
            styles.append((pixels.mean(1), pixels.std(1, unbiased=False) + EPSILON))
        concentrations = torch.full((len(values),), concentration, dtype=torch.float64)
        mixture = torch.distributions.Dirichlet(concentrations)
        for mask, (mean, std) in zip(masks, styles, strict=True):
            weights = mixture.sample().nan_to_num(1 / len(values)).float().to(image.device)
            new_mean = sum(w * m for w, (m, _) in zip(weights, styles, strict=True))
            new_std = sum(w * s for w, (_, s) in zip(weights, styles, strict=True))
            normalised = (image[:, mask] - mean[:, None]) / std[:, None]
            out[:, mask] = normalised * new_std[:, None] + new_mean[:, None]
    return restyled


class LoopRearrangement(nn.Module):
    """`rearrange` in place of SemanticRearrangement."""

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Rearrange features `[B, C, h, w]` by labels `[B, H, W]`."""
        return rearrange(features, labels)


def regional_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, classes: int | None = None
) -> Tensor:
    """Regional alignment of `[S * B, C, h, w]` with `[B, C, h, w]`, a region at a time.

    The teacher's features are repeated for each stream, and a mean over a region is a masked sum
    over the whole image. With `classes`, each of them and void is visited in every image, there or
    not (absent ones give 0), as where a loop asks nobody what is in the image.
    """
    streams = len(student) // len(teacher)
    teacher = teacher.repeat(streams, 1, 1, 1)
    size = student.shape[-2:]
    small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
    small = small.repeat(streams, 1, 1)
    terms = []
    for f, g, label in zip(student, teacher, small, strict=True):
        for value in label.unique() if classes is None else [*range(classes), VOID]:
            mask = (label == value).to(f.dtype)
            count = mask.sum().clamp_min(1)
            gap = (f * mask).sum((1, 2)) / count - (g * mask).sum((1, 2)) / count
            terms.append((gap.square() * count / mask.numel()).mean())
    present = len(terms) if classes is None else sum(len(label.unique()) for label in small)
    return sum(terms) / present


def regional_loss_by_product(
    student: Tensor, teacher: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """The same by matrix products of the features with one-hot labels, which grow with K."""
    batch, channels, *size = teacher.shape
    small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
    region = small.flatten(1).masked_fill(small.flatten(1) == VOID, classes)
    one_hot = F.one_hot(region, classes + 1).to(student.dtype)
    count = one_hot.sum(1)[:, None]
    sums = student.view(-1, batch, channels, size[0] * size[1]) @ one_hot
    gap = (sums - teacher.flatten(2) @ one_hot) / count.clamp_min(1)
    triples = (count > 0).sum() * len(sums) * channels
    return (gap.square() * count).sum() / (size[0] * size[1] * triples)


class LoopAlignment(nn.Module):
    """All three terms of hierarchical alignment on layers 1–4, with the loop form of the regional
    one, in place of HierarchicalAlignment."""

    last_layer = 4

    def __init__(self, weights: Sequence[float]):
        super().__init__()
        self.weights = weights

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name, as HierarchicalAlignment does."""
        losses = {"global": 0, "regional": 0, "local": 0}
        for layer, weight in enumerate(self.weights, start=1):
            f, g = student[layer], teacher[layer].detach()
            repeated = g.repeat(len(f) // len(g), 1, 1, 1)
            losses["global"] += weight * F.mse_loss(f.mean((2, 3)), repeated.mean((2, 3)))
            losses["regional"] += weight * regional_loss(f, g, labels)
            losses["local"] += weight * F.mse_loss(f, repeated)
        return losses
