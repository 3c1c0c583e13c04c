"""Which image comes when: the endless class-uniform order of training."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, count

import numpy as np
from torch.utils.data import Sampler

from datasets.sampling.centroids import ClassCentroids
from transforms.geometric import Aim

# (position, image, aim: what the crop must show)
Key = tuple[int, int, Aim]


class EndlessOrder(Sampler[Key]):
    """The entries of `epoch(0)`, `epoch(1)`, …, each `length` long, as one endless sequence.

    This process gets those at `start + rank`, `start + rank + world_size`, …: processes together
    see what one alone would, and `start` continues where an earlier run stopped.
    """

    def __init__(self, length: int, rank: int, world_size: int, start: int):
        self.length, self.rank, self.world_size, self.start = length, rank, world_size, start

    def epoch(self, epoch: int) -> list[Key]:
        """Return all keys of an epoch in order."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Key]:
        current, keys = -1, []
        for position in count(self.start + self.rank, self.world_size):
            epoch, slot = divmod(position, self.length)
            if epoch != current:
                current, keys = epoch, self.epoch(epoch)
            yield keys[slot]


class ClassUniformSampler(EndlessOrder):
    """Endless keys (position, index, centroid (x, y) or None) for the training data of one source.

    The position seeds the augmentation: an image that comes twice in an epoch looks different.

    An epoch has N entries for N images: `int(N · fraction / K)` for each of the K classes, drawn
    from that class's centroids, and for the rest random images without replacement (Zhu et al.,
    CVPR 2019, as in RobustNet). What rounding leaves of `int(N · fraction)` goes to the classes in
    turn, epoch after epoch, so that few images of many classes have their share too. A class
    without centroids leaves its share to the random images. The order is a function of (seed,
    epoch, domain).
    """

    def __init__(
        self,
        length: int,
        fraction: float,
        centroids: Sequence[ClassCentroids],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        domain: int = 0,
    ):
        """`centroids` has one entry per class; it may be empty if `fraction` is 0. `domain` tells
        sources apart that are sampled together."""
        super().__init__(length, rank, world_size, start)
        self.fraction, self.centroids = fraction, centroids
        self.seed, self.domain = seed, domain

    def epoch(self, epoch: int) -> list[Key]:
        """Return all keys of an epoch in order."""
        generator = np.random.default_rng((self.seed, epoch, self.domain))
        entries: list[tuple[int, tuple[float, float] | None]] = []
        if self.fraction > 0:
            classes = len(self.centroids)
            share, left = divmod(int(self.length * self.fraction), classes)
            for number, (indices, xs, ys) in enumerate(self.centroids):
                if len(indices) == 0:
                    continue
                further = (number - epoch * left) % classes < left
                # Each centroid once before any comes again.
                chosen = np.resize(generator.permutation(len(indices)), share + further)
                entries += [(int(indices[i]), (float(xs[i]), float(ys[i]))) for i in chosen]
        rest = generator.permutation(self.length)[: self.length - len(entries)]
        entries += [(int(index), None) for index in rest]
        order = enumerate(generator.permutation(self.length), start=epoch * self.length)
        return [(position, *entries[i]) for position, i in order]


class EqualParts(Sampler[Key]):
    """The endless sequences of several sources in turn: as many samples of each (SPC's rule).

    Entry q of source d of D is at position `q · D + d`; each source has epochs of its own. Indices
    count through the sources one after the other. If every process draws a multiple of D samples, a
    step has the same samples for any number of processes, in equal parts.
    """

    def __init__(self, samplers: Sequence[EndlessOrder]):
        self.samplers = samplers

    def __iter__(self) -> Iterator[Key]:
        number, offsets = len(self.samplers), _offsets(self.samplers)
        for keys in zip(*self.samplers, strict=True):
            for domain, (position, index, aim) in enumerate(keys):
                yield position * number + domain, offsets[domain] + index, aim


class ProportionalParts(EndlessOrder):
    """Sources mixed in proportion to their images: an epoch is one of each source, in random order.

    The order is a function of (seed, epoch); `samplers` give the epochs alone, without their own
    rank and start. Indices count through the sources one after the other.
    """

    def __init__(
        self,
        samplers: Sequence[EndlessOrder],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ):
        super().__init__(sum(sampler.length for sampler in samplers), rank, world_size, start)
        self.samplers, self.seed = samplers, seed

    def epoch(self, epoch: int) -> list[Key]:
        """Return all keys of an epoch in order."""
        entries = [
            (offset + index, aim)
            for sampler, offset in zip(self.samplers, _offsets(self.samplers), strict=True)
            for _, index, aim in sampler.epoch(epoch)
        ]
        # Sources draw from (seed, epoch, their number), and this from the number after the last.
        generator = np.random.default_rng((self.seed, epoch, len(self.samplers)))
        order = enumerate(generator.permutation(self.length), start=epoch * self.length)
        return [(position, *entries[i]) for position, i in order]


def _offsets(samplers: Sequence[EndlessOrder]) -> list[int]:
    """Return at which joint index the images of each source begin."""
    return [0, *accumulate(sampler.length for sampler in samplers)][:-1]
