"""SRM, the semantic rearrangement module: each region takes the style of other regions.

SRHA (Neural Networks 2025) and SRMA (arXiv 2404.13701), section "Semantic rearrangement module".
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from network.regions.statistics import find_regions, region_statistics, restyle
from utils.processes import sum_over_processes
from utils.products import whole_products


def dirichlet(concentration: float, allowed: Tensor) -> Tensor:
    """Draw weights ~ Dirichlet(α, …, α) over the allowed entries of the last dimension.

    `allowed` `[..., N]` bool; returns float32 `[..., N]`, rows summing to 1, exactly 0 where not
    allowed (a row that allows nothing is uniform: nothing reads it). Gamma draws underflow to 0 / 0
    at small α, so they are drawn as logarithms: `log G(α) = log G(α + 1) + log(U) / α`, and a
    softmax normalises them.
    """
    shape = torch.full(allowed.shape, concentration + 1.0, device=allowed.device)
    log_gamma = torch._standard_gamma(shape).log()
    uniform = torch.rand(allowed.shape, device=allowed.device)
    log_gamma += uniform.clamp_min(torch.finfo(torch.float32).tiny).log() / concentration
    return log_gamma.masked_fill(~allowed, torch.finfo(torch.float32).min).softmax(dim=-1)


class SemanticRearrangement(nn.Module):
    """Restyle each semantic region with a Dirichlet mixture of the styles that occur around it.

    `concentration`: α of the Dirichlet distribution (2⁻⁶ as published: almost one-hot). `scope`:
    styles come from the same "image" (published) or from the whole "batch" of this process. A
    region of fewer than `min_places` lends nothing and keeps its style. `majority` as in
    `find_regions`.
    """

    def __init__(
        self,
        num_classes: int,
        concentration: float = 2**-6,
        scope: str = "image",
        void_is_region: bool = True,
        min_places: int = 1,
        majority: bool = False,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.concentration = concentration
        self.scope = scope
        self.void_is_region = void_is_region
        self.min_places = min_places
        self.majority = majority

    @torch.no_grad()
    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Rearrange features `[B, C, h, w]` by labels `[B, H, W]`; same shape and dtype, detached.

        `weights` replaces the draw: `[B, R, R]` (scope image) or `[B * R, B * R]` (scope batch),
        R = classes + 1 with void last; row = region to restyle, column = region that lends.
        """
        regions = find_regions(
            labels, features.shape[-2:], self.num_classes, self.void_is_region, self.majority
        )
        statistics = region_statistics(features, regions)
        mean, std = statistics.mean, statistics.std
        lending = regions.count >= self.min_places
        if weights is None:
            weights = self.draw(lending)
        weights = weights.to(mean.dtype)
        with whole_products(features.device):
            if self.scope == "batch":
                new_mean = (weights @ mean.flatten(0, 1)).view_as(mean)
                new_std = (weights @ std.flatten(0, 1)).view_as(std)
            else:
                new_mean, new_std = weights @ mean, weights @ std
        if self.min_places > 1:
            taking = lending[..., None]
            new_mean, new_std = new_mean.where(taking, mean), new_std.where(taking, std)
        return restyle(features, regions, statistics, new_mean, new_std)

    def draw(self, lending: Tensor) -> Tensor:
        """Draw mixing weights of regions that are `lending` `[B, R]`, shaped as in `forward`."""
        if self.scope == "batch":
            lending = lending.flatten()
            return dirichlet(self.concentration, lending.expand(len(lending), -1))
        return dirichlet(self.concentration, lending[:, None].expand(-1, lending.shape[1], -1))


def eliminate_style(
    features: Tensor, share: float = 1.0, reference: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Remove the style of features `[B, C, h, w]`: `(x − mean) / (std + 1e-7)` per image, channel.

    The standard deviation is unbiased here (as published) and the statistics are float32 at least.
    A `share` below 1 goes a part of the way, linearly for the mean and for the logarithm of the
    deviation. A `reference` `[C], [C]`, mean and deviation, is the style to go to in place of 0, 1.
    """
    wide = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
    std, mean = torch.std_mean(wide, dim=(2, 3), keepdim=True)
    centred, std = wide - mean, std + 1e-7
    # In place where no gradient needs the centred features.
    normalised = centred / std if centred.requires_grad else centred.div_(std)
    if share < 1 or reference is not None:
        to_mean, to_std = (own[:, None, None] for own in reference) if reference else (0.0, 1.0)
        normalised = normalised * (std ** (1 - share) * to_std**share)
        normalised = normalised + ((1 - share) * mean + share * to_mean)
    return normalised.to(features.dtype)


class StyleElimination(nn.Module):
    """`eliminate_style`, then one style for all: the scale that later layers expect stays.

    That style, mean and deviation of each channel, is measured once (`measure`).
    """

    def __init__(self, channels: int, share: float = 1.0):
        super().__init__()
        self.share = share
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Give features `[B, C, h, w]` the common style; same shape and dtype."""
        return eliminate_style(features, self.share, (self.mean, self.std))

    @torch.no_grad()
    def measure(self, features: Iterable[Tensor]) -> None:
        """Take the means over images, in all processes, of the statistics of batches of features
        `[B, C, h, w]`."""
        total = torch.zeros(2 * len(self.mean) + 1, device=self.mean.device)
        for own in features:
            std, mean = torch.std_mean(own.float(), dim=(2, 3))
            total += torch.cat([mean.sum(0), std.sum(0), mean.new_full((1,), len(own))])
        sum_over_processes(total)
        mean, std = (total[:-1] / total[-1]).chunk(2)
        self.mean.copy_(mean)
        self.std.copy_(std)
