"""Which image comes when: endless class-uniform training order, exact shards for evaluation."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from datasets.centroids import ClassCentroids

Key = tuple[int, int, tuple[float, float] | None]


class ClassUniformSampler(Sampler[Key]):
    """Endless keys (position, index, centroid (x, y) or None) for the training data.

    The position of an entry in the endless sequence is what its augmentation is drawn from, so that
    an image that comes several times in an epoch looks different each time.

    An epoch has N entries for N images: `int(N · fraction / K)` for each of the K classes, drawn
    from that class's centroids, and for the rest random images without replacement (Zhu et al.,
    CVPR 2019, as in RobustNet). A class without centroids leaves its share to the random images.
    The order is a function of (seed, epoch). Of the one endless sequence of entries this process
    gets those at `start + rank`, `start + rank + world_size`, …: processes together see what one
    alone would, and `start` continues where an earlier run stopped.
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
    ):
        """`centroids` has one entry per class; it may be empty if `fraction` is 0."""
        self.length, self.fraction, self.centroids = length, fraction, centroids
        self.seed, self.rank, self.world_size, self.start = seed, rank, world_size, start

    def epoch(self, epoch: int) -> list[Key]:
        """Return all keys of an epoch in order."""
        generator = np.random.default_rng((self.seed, epoch))
        entries: list[tuple[int, tuple[float, float] | None]] = []
        if self.fraction > 0:
            share = int(self.length * self.fraction / len(self.centroids))
            for indices, xs, ys in self.centroids:
                if len(indices) == 0:
                    continue
                # Each centroid once before any comes again.
                chosen = np.resize(generator.permutation(len(indices)), share)
                entries += [(int(indices[i]), (float(xs[i]), float(ys[i]))) for i in chosen]
        rest = generator.permutation(self.length)[: self.length - len(entries)]
        entries += [(int(index), None) for index in rest]
        order = enumerate(generator.permutation(self.length), start=epoch * self.length)
        return [(position, *entries[i]) for position, i in order]

    def __iter__(self) -> Iterator[Key]:
        position = self.start + self.rank
        current, keys = -1, []
        while True:
            epoch, slot = divmod(position, self.length)
            if epoch != current:
                current, keys = epoch, self.epoch(epoch)
            yield keys[slot]
            position += self.world_size


class SequentialShard(Sampler[int]):
    """Indices rank, rank + world_size, … below `length`: over all processes each exactly once."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1):
        self.indices = range(rank, length, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
