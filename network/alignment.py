"""The hierarchical alignment losses: student features against those of a frozen neutral network.

SRHA's hierarchical alignment constraint (HAC), SRMA's multi-level alignment (MLA).
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from network.region_statistics import Regions, find_regions, region_means


def global_alignment(difference: Tensor) -> Tensor:
    """`MSE(GAP(f), GAP(g))` from the difference `f − g` `[S, B, C, h, w]` of S streams."""
    return difference.mean((-2, -1)).square().mean()


def regional_alignment(difference: Tensor, regions: Regions) -> Tensor:
    """Squared difference of region means, weighted by the region's share of the image.

    The mean over all present (stream, image, region) triples and channels of
    `(mean_region(f) − mean_region(g))² · pixels / (h w)`; 0 (with a gradient) without any region.
    """
    streams, _, channels, height, width = difference.shape
    share = regions.count / (height * width)
    total = sum(
        (region_means(stream, regions).square() * share[..., None]).sum() for stream in difference
    )
    return total / (regions.present.sum() * streams * channels).clamp_min(1)


def local_alignment(difference: Tensor) -> Tensor:
    """`MSE(f, g)` over all elements."""
    return difference.square().mean()


class HierarchicalAlignment(nn.Module):
    """Global, regional and local alignment on layers 1–4, each with its own four weights.

    A term of weight 0 is not computed; `last_layer` is the last layer that any term looks at (0 if
    there is none), so that the teacher computes nothing beyond it.
    """

    def __init__(
        self,
        num_classes: int,
        global_weights: Sequence[float],
        regional_weights: Sequence[float],
        local_weights: Sequence[float],
        void_is_region: bool = True,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.void_is_region = void_is_region
        self.weights = {
            "global": tuple(global_weights),
            "regional": tuple(regional_weights),
            "local": tuple(local_weights),
        }
        used = [i + 1 for weights in self.weights.values() for i, w in enumerate(weights) if w]
        self.last_layer = max(used, default=0)

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted sum over layers of each term that is switched on, by name.

        `student[i]` `[S * B, C, h, w]` holds S streams of the B images of `teacher[i]`
        `[B, C, h, w]`; `labels` `[B, H, W]`.
        """
        losses: dict[str, Tensor] = {}
        for layer in range(1, self.last_layer + 1):
            weights = {name: values[layer - 1] for name, values in self.weights.items()}
            if not any(weights.values()):
                continue
            target = _wide(teacher[layer].detach())
            difference = _wide(student[layer]).unflatten(0, (-1, len(target))) - target
            terms = {}
            if weights["global"]:
                terms["global"] = global_alignment(difference)
            if weights["regional"]:
                regions = find_regions(
                    labels, difference.shape[-2:], self.num_classes, self.void_is_region
                )
                terms["regional"] = regional_alignment(difference, regions)
            if weights["local"]:
                terms["local"] = local_alignment(difference)
            for name, value in terms.items():
                losses[name] = losses.get(name, 0) + weights[name] * value
        return losses


def _wide(features: Tensor) -> Tensor:
    """Float32 at least: squares of bfloat16 differences lose the small ones."""
    return features if features.dtype.itemsize >= 4 else features.float()
