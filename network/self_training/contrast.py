"""SePiCo's contrast of pixels with the distributions of classes (arXiv 2204.08808, DistCL)."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.regions.statistics import to_rows, wide_rows
from utils.chunks import chunks
from utils.labels import VOID
from utils.processes import sum_over_processes


class Projector(nn.Module):
    """Features of some layers to unit vectors `[B, width, h, w]` by two 1×1 convolutions.

    `channels` are those of `layers`. Several layers are brought to the size of the first. Published
    on layer 4 of a ResNet (2048 → 2048 → 512), on layers 1 to 4 of MiT (1024 → 256 → 512).
    """

    def __init__(
        self, channels: Sequence[int], layers: Sequence[int], hidden: int, width: int = 512
    ):
        super().__init__()
        self.layers = tuple(layers)
        modules: list[nn.Module] = []
        for inside, outside in ((sum(channels), hidden), (hidden, width)):
            conv = nn.Conv2d(inside, outside, 1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            modules += [conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*modules)

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        """Project features {i: `[B, C_i, h_i, w_i]`} of a trunk."""
        own = [features[i] for i in self.layers]
        size = own[0].shape[-2:]
        own = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in own]
        return F.normalize(self.convs(torch.cat(own, 1)), dim=1)


class ClassDistributions(nn.Module):
    """Running mean, variance (the covariance's diagonal) and number of all features of a class.

    Float64 buffers `mean` `[K, C]`, `variance` `[K, C]`, `amount` `[K]`, 0 at first.
    """

    def __init__(self, num_classes: int, width: int = 512):
        super().__init__()
        for name in ("mean", "variance"):
            self.register_buffer(name, torch.zeros(num_classes, width, dtype=torch.float64))
        self.register_buffer("amount", torch.zeros(num_classes, dtype=torch.float64))

    @torch.no_grad()
    def update(self, features: Tensor, cells: Tensor) -> None:
        """Count the features `[B, C, h, w]` of cells `[B, h, w]` of all processes, which all call
        this; 255 is no class.

        With n features of mean m and biased variance v, and `w = n / (n + N)`:
        `Σ ← (1 − w) Σ + w v + w (1 − w) (μ − m)²`, `μ ← (1 − w) μ + w m`, `N ← N + n`.
        """
        rows, cells = to_rows(features), cells.flatten()
        classes = torch.arange(len(self.mean), device=cells.device)
        number = torch.zeros_like(self.amount)
        # Relative to the running mean: sums of one pass, and few digits are lost.
        sums, squares = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for part in chunks(*rows.shape, rows.device):
            member = (cells[part, None] == classes).to(self.mean.dtype)
            centred = rows[part].to(self.mean.dtype) - member @ self.mean
            number += member.sum(0)
            sums.addmm_(member.T, centred)
            squares.addmm_(member.T, centred.square_())
        total = torch.cat([number[:, None], sums, squares], 1)
        width = self.mean.shape[1]
        number, sums, squares = sum_over_processes(total).split([1, width, width], 1)

        known = self.amount[:, None]
        shift = sums / number.clamp_min(1)  # m − μ
        variance = (squares / number.clamp_min(1) - shift.square()).clamp_min(0)
        share = number / (number + known).clamp_min(1)
        self.variance.lerp_(variance, share).add_(share * (1 - share) * shift.square())
        self.mean.add_(share * shift)
        self.amount.add_(number[:, 0])


def distribution_contrast(
    features: Tensor,
    cells: Tensor,
    distributions: ClassDistributions,
    temperature: float = 100.0,
    regulariser: float = 1.0,
) -> Tensor:
    """Return the mean contrast of features `[B, C, h, w]` at cells `[B, h, w]` that are not 255.

    A cell of class y costs `CE(z, y) + ½ f²·Σ_y / τ²` with `z_c = (f·μ_c + ½ f²·Σ_c / τ) / τ`, an
    upper bound of the expected contrast with Gaussian classes. To the mean comes `regulariser`
    times `Σ_c log softmax_c(f̄·μ_c / τ) / (K ln K)`, f̄ the mean feature of the cells (as published:
    it is about −1 and minimised). Float32 at least; without a cell 0, with a gradient of 0.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows, cells = wide_rows(features), cells.flatten()
        mean, variance = (x.to(rows.dtype) for x in (distributions.mean, distributions.variance))
        inside = (cells != VOID).to(rows.dtype)
        number = inside.sum()
        divisor = number.clamp_min(1)
        spread = rows.square() @ variance.T / (2 * temperature)
        logits = (rows @ mean.T + spread) / temperature
        contrast = F.cross_entropy(logits, cells, ignore_index=VOID, reduction="sum")
        own = spread.gather(1, cells.masked_fill(cells == VOID, 0)[:, None])[:, 0]
        contrast = (contrast + (own * inside).sum() / temperature) / divisor
        centre = inside @ rows / divisor
        scores = (centre @ mean.T / temperature).log_softmax(0)
        evenness = scores.sum() / (len(mean) * math.log(len(mean)))
        return contrast + regulariser * (number > 0) * evenness


@torch.no_grad()
def choose_crop(
    labels: Tensor, size: Sequence[int], num_classes: int, tries: int = 10, most: float = 0.75
) -> tuple[Tensor, Tensor]:
    """Return top and left `[B]` int64 of the richest of `tries` random crops of each image.

    `labels` `[B, H, W]` int64, 255 = void; `size` (h, w) at most (H, W). A crop scores `Σ_c log
    n_c`, n_c its pixels of class c, and 0 if a class has the share `most` of them or more; the
    first of equals is taken. Draws on the device of the labels, tops first.
    """
    sides, draws = zip(labels.shape[1:], size, strict=True), (len(labels), tries)
    top, left = (torch.randint(a - b + 1, draws, device=labels.device) for a, b in sides)
    bottom, right = top + size[0], left + size[1]
    image = torch.arange(len(labels), device=labels.device)[:, None]
    counts = []
    for number in range(num_classes):
        # The integral histogram: pixels of the class above and left of each corner.
        sums = (labels == number).cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
        sums = F.pad(sums, (1, 0, 1, 0))
        upper = sums[image, top, right] - sums[image, top, left]
        counts.append(sums[image, bottom, right] - sums[image, bottom, left] - upper)
    count = torch.stack(counts, -1).float()
    score = count.clamp_min(1).log().sum(-1)
    score = score.masked_fill(count.amax(-1) >= most * count.sum(-1), 0)
    best = score.argmax(1, keepdim=True)
    return top.gather(1, best)[:, 0], left.gather(1, best)[:, 0]


def cut(x: Tensor, top: Tensor, left: Tensor, size: Sequence[int]) -> Tensor:
    """Cut crops of `size` (h, w) at `top`, `left` `[B]` out of `[B, H, W]` or `[B, C, H, W]`."""
    rows, columns = (
        start[:, None] + torch.arange(side, device=x.device)
        for start, side in zip((top, left), size, strict=True)
    )
    image = torch.arange(len(x), device=x.device)[:, None, None]
    cropped = x.movedim(1, -1) if x.dim() == 4 else x
    cropped = cropped[image, rows[:, :, None], columns[:, None]]
    return cropped.movedim(-1, 1).contiguous() if x.dim() == 4 else cropped
