"""Alignment with a neutral network of another architecture, whose channels mean something else.

Beyond the papers. Either a 1×1 convolution per layer brings the student's features to the teacher's
channels, and the published terms compare them, or what is compared are relations: how similar
images, regions and places are to one another.
"""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.regions.alignment import align
from network.regions.statistics import Regions, region_means, widened

GRID = 12  # cells a side at least, where a feature has as many pixels


def resized(teacher: Tensor, size: Sequence[int]) -> Tensor:
    """Bring neutral features `[B, C, h, w]` to the size of the student's, antialiased."""
    if tuple(teacher.shape[-2:]) == tuple(size):
        return teacher
    return F.interpolate(teacher.float(), tuple(size), mode="bilinear", antialias=True)


class Projected(nn.Module):
    """The published terms between projected student features and the teacher's.

    The projections are trained with everything else; a layer that is not aligned has none.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], layers: Sequence[int]):
        """`student` and `teacher` are the channels of layers 0–4, `layers` those aligned."""
        super().__init__()
        self.layers = nn.ModuleDict(
            {str(i): nn.Conv2d(student[i], teacher[i], 1, bias=False) for i in layers}
        )

    def forward(
        self,
        layer: int,
        student: Tensor,
        teacher: Tensor,
        regions: Regions,
        wanted: Collection[str],
    ) -> dict[str, Tensor]:
        """Compare `[S * B, C, h, w]` with `[B, C', h', w']` at the student's size; see `align`."""
        teacher = resized(teacher, student.shape[-2:])
        return align(self.layers[str(layer)](student), teacher, regions, wanted)


class Related(nn.Module):
    """Mean squared differences of cosine similarities; nothing is learned.

    - global: between the means of the B images of a stream, `[B, B]`
    - regional: between the means of the regions of an image, `[R, R]`, each pair weighted by the
      product of its regions' shares of the image's pixels (which sum to 1 without void)
    - local: between the cells of a grid of some GRID × GRID means, `[cells, cells]`
    """

    def forward(
        self,
        layer: int,
        student: Tensor,
        teacher: Tensor,
        regions: Regions,
        wanted: Collection[str],
    ) -> dict[str, Tensor]:
        """Compare `[S * B, C, h, w]` with `[B, C', h', w']`; return the `wanted` terms by name."""
        with torch.autocast(student.device.type, enabled=False):
            wide = widened(student.dtype)
            teacher = resized(teacher, student.shape[-2:]).to(wide)
            streams = student.to(wide).chunk(len(student) // len(teacher))
            terms = {}
            if "global" in wanted:
                terms["global"] = _between(streams, teacher, _image_means)
            if "regional" in wanted:
                terms["regional"] = self._regional(streams, teacher, regions)
            if "local" in wanted:
                terms["local"] = _between(streams, teacher, _grid_means)
            return terms

    def _regional(self, streams: Sequence[Tensor], teacher: Tensor, regions: Regions) -> Tensor:
        share = regions.count / regions.count.sum(1, keepdim=True).clamp_min(1)
        pairs = share[:, :, None] * share[:, None, :]
        target = similarity(region_means(teacher, regions))
        gaps = [similarity(region_means(stream, regions)) - target for stream in streams]
        return sum((pairs * gap.square()).sum((1, 2)).mean() for gap in gaps) / len(gaps)


def similarity(vectors: Tensor) -> Tensor:
    """Cosine similarities `[..., N, N]` of vectors `[..., N, C]`; 0 with a vector of zeros."""
    # The square root inside `F.normalize` has no finite gradient at 0, where regions are absent.
    length = (vectors.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    unit = vectors / length
    return unit @ unit.transpose(-1, -2)


def _between(streams: Sequence[Tensor], teacher: Tensor, means) -> Tensor:
    target = similarity(means(teacher))
    return sum(F.mse_loss(similarity(means(stream)), target) for stream in streams) / len(streams)


def _image_means(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _grid_means(x: Tensor) -> Tensor:
    """Means `[B, cells, C]` over cells of equal size; adaptive pooling has no deterministic
    backward pass on GPUs."""
    cell = [max(1, side // GRID) for side in x.shape[-2:]]
    pooled = F.avg_pool2d(x, cell, ceil_mode=True, count_include_pad=False)
    return pooled.flatten(2).transpose(1, 2)
