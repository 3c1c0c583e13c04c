"""A memory of one vector for each class (PinTheMem, Kim et al., CVPR 2022).

It is read by attention: a feature is joined with a mixture of the classes' vectors that are like
it. It is written by the means of the classes' features, a little in each step.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.decoders.convolutions import conv_norm
from network.regions.statistics import wide_rows, widened
from utils.processes import summed


class Read(NamedTuple):
    """What the memory saw in its last pass in training: `feature` `[B, D, h, w]`, and `scores`
    `[B, K, h, w]`, its cosine similarities to the classes' vectors."""

    feature: Tensor
    scores: Tensor


class ClassMemory(nn.Module):
    """`vectors` `[K, D]` of unit length, 0 of a class that was never seen; a decoder's `context`.

    `reading` stands in for them where it is given. `filled` is known without asking the device.
    """

    def __init__(self, num_classes: int, channels: int, momentum: float, noise: str):
        """`noise` says when the mixtures are drawn: always, training or never."""
        super().__init__()
        self.momentum, self.noise = momentum, noise
        self.output = nn.Sequential(*conv_norm(2 * channels, channels, 1))
        self.writer = nn.Sequential(*conv_norm(channels, channels, 1)[:2])
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 1e-4)
        nn.init.normal_(self.classifier.weight, std=1e-4)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("vectors", torch.zeros(num_classes, channels))
        self.filled = False
        self.reading: Tensor | None = None
        self.last: Read | None = None

    def forward(self, feature: Tensor) -> Tensor:
        """Read: `[B, D, h, w]` to the same shape."""
        memory = self.vectors if self.reading is None else self.reading
        with torch.autocast(feature.device.type, enabled=False):
            query = F.normalize(feature.to(widened(feature.dtype)), dim=1)
            scores = torch.einsum("bdhw,kd->bkhw", query, memory)
            shares = (scores + self._noise(scores)).softmax(1)
            recalled = torch.einsum("bkhw,kd->bdhw", shares, memory)
        if self.training:
            self.last = Read(feature, scores)
        return self.output(torch.cat([query, recalled], dim=1).to(feature.dtype))

    def _noise(self, scores: Tensor) -> Tensor | float:
        """Return Gumbel noise of the shape of scores `[B, K, h, w]`; in evaluation each image has
        the same, so that predictions repeat."""
        if self.training and self.noise != "never":
            return -torch.empty_like(scores).exponential_().log()
        if not self.training and self.noise == "always":
            fixed = torch.empty(scores.shape[1:], dtype=scores.dtype)
            fixed.exponential_(generator=torch.Generator().manual_seed(0))
            return -fixed.log().to(scores.device)
        return 0.0

    def take(self) -> Read:
        """Return what was read last, and keep it no longer."""
        found, self.last = self.last, None
        assert found is not None
        return found

    def sums(self, feature: Tensor, labels: Tensor, written: bool = True) -> Tensor:
        """Return `[K, D + 1]`: sums of the classes' features of unit length, and of their shares.

        `feature` `[B, D, h, w]`, before them as they are `written`, `labels` `[B, H, W]`.
        """
        if written:
            feature = F.relu(feature + self.writer(feature))
        with torch.autocast(feature.device.type, enabled=False):
            rows = F.normalize(wide_rows(feature), dim=1)
            shares = class_shares(labels, feature.shape[-2:], len(self.vectors)).to(rows)
            return torch.cat([shares.T @ rows, shares.sum(0)[:, None]], dim=1)

    def moved(self, sums: Tensor) -> Tensor:
        """Return the vectors `[K, D]` once the means of `sums`, added over all processes, are
        written; a class that has none keeps its own."""
        own = self.vectors.to(sums)
        means, present = means_of(summed(sums))
        mixed = torch.lerp(means, own, self.momentum)
        return F.normalize(torch.where(present, mixed, own), dim=1)

    def fill(self, vectors: Tensor) -> None:
        """Store vectors `[K, D]`."""
        self.vectors.copy_(vectors)
        self.filled = True

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.filled = bool(self.vectors.any())


def means_of(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means `[K, D]` of `ClassMemory.sums`, 0 of an absent class, and which classes are
    present, bool `[K, 1]`."""
    total, share = sums[:, :-1], sums[:, -1:]
    present = share > 0
    return total / torch.where(present, share, 1), present


def class_shares(labels: Tensor, size: tuple[int, int], num_classes: int) -> Tensor:
    """Return float64 `[B * h * w, K]`: one-hot labels `[B, H, W]`, bilinearly resized to `size`.

    Corners are aligned. The share of void is left out. Nothing of the labels' own size is made.
    """
    rows, columns = (
        torch.linspace(0, outside - 1, inside, dtype=torch.float64, device=labels.device)
        for outside, inside in zip(labels.shape[1:], size, strict=True)
    )
    classes = torch.arange(num_classes, device=labels.device)
    shares: Any = 0.0
    for y in (rows.floor(), rows.ceil()):
        for x in (columns.floor(), columns.ceil()):
            # Both neighbours of a place between pixels; of one on a pixel that pixel twice.
            weight = _weight(rows, y)[:, None] * _weight(columns, x)
            found = labels[:, y.long()[:, None], x.long()]
            shares = shares + (found[..., None] == classes) * weight[..., None]
    return shares.flatten(0, 2)


def _weight(position: Tensor, pixel: Tensor) -> Tensor:
    """Return what a pixel beside a position counts: 1/2 if it is both of its neighbours."""
    return torch.where(position == position.floor(), 0.5, 1 - (position - pixel).abs())


def diversity(memory: Tensor) -> Tensor:
    """Return the mean of `max(0, m_i · m_j)` over ordered pairs i ≠ j of `[K, D]`."""
    number = len(memory)
    similar = (memory @ memory.T).clamp(min=0)
    return (similar.sum() - similar.diagonal().sum()) / max(number * (number - 1), 1)
