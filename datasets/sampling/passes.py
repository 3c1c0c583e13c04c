"""A pass over source images between two steps of training, for a method that surveys them."""

from collections.abc import Sequence
from copy import copy
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch

from datasets.sampling.source import Sources

# Number of the round, place in the pass, index of the image in the sources.
PassKey = tuple[int, int, int]


class SourcePass(NamedTuple):
    """Which images a survey sees: in each of its rounds some of each source.

    whole   images as they are read, uint8; else crops of the training transform
    rounds  how often images are chosen
    images  how many of each source, without any twice; 0, or more than there are: all
    """

    whole: bool
    rounds: int = 1
    images: int = 0

    def keys(self, sizes: Sequence[int], seed: Sequence[int]) -> list[PassKey]:
        """Return what is seen of sources of so many images, in order, the same in all processes."""
        generator = np.random.default_rng(seed)
        chosen: list[tuple[int, int]] = []
        for number in range(self.rounds):
            for begin, size in zip([0, *accumulate(sizes)], sizes, strict=False):
                some = 0 < self.images < size
                own = generator.permutation(size)[: self.images] if some else range(size)
                chosen += [(number, begin + int(i)) for i in own]
        return [(number, place, index) for place, (number, index) in enumerate(chosen)]


class PassSamples(torch.utils.data.Dataset):
    """The samples of a pass, each with its `round` and its `place`; crops are those of positions in
    the order of samples from `start` on."""

    def __init__(self, source: Sources, whole: bool, start: int):
        datasets = [copy(dataset) for dataset in source.datasets]
        for dataset in datasets if whole else ():
            dataset.transform = None
        self.source, self.start = Sources(datasets), start  # streams stay where they are

    def __getitem__(self, key: PassKey) -> dict[str, Any]:
        """Read the sample of a key."""
        number, place, index = key
        sample = self.source[self.start + place, index, None]
        return sample | {"round": number, "place": place}
