"""Rare-class sampling (DAFormer, Hoyer et al., CVPR 2022, section 3.2)."""

import numpy as np

from datasets.sampling.samplers import EndlessOrder, Key
from utils.errors import UserError


def class_probabilities(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probability of drawing each class, float32 [K].

    `pixels` int64 [K] are counted over the whole source. The probability is the softmax of
    (1 − share) / temperature over the classes that occur, as published in float32.
    """
    share = (pixels / pixels.sum()).astype(np.float32)
    logits = np.where(pixels > 0, (1 - share) / np.float32(temperature), -np.inf)
    weights = np.exp(logits - logits.max(), dtype=np.float32)
    return weights / weights.sum()


class RareClassSampler(EndlessOrder):
    """Endless keys (position, index, train id): a class, and an image that has enough of it.

    Classes are drawn with `class_probabilities`, images uniformly among those with more than
    `least` pixels of the class, with replacement. A class without such an image is left out. The
    order is a function of (seed, epoch, domain); an epoch has as many entries as images.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        temperature: float,
        least: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        domain: int = 0,
    ):
        """`pixels` int64 [N, K] are each image's pixels of the classes. UserError if no image has
        enough of any class."""
        super().__init__(len(pixels), rank, world_size, start)
        self.seed, self.domain = seed, domain
        self.images = [np.flatnonzero(column > least) for column in pixels.T]
        possible = np.array([len(own) > 0 for own in self.images])
        if not possible.any():
            raise UserError(
                f"DATASET.RARE_CLASS_PIXELS is {least}, and no image of the source has as many "
                f"pixels of a class (the most are {pixels.max()}); lower it"
            )
        probabilities = class_probabilities(pixels.sum(0), temperature) * possible
        self.probabilities = probabilities / probabilities.sum(dtype=np.float64)

    def epoch(self, epoch: int) -> list[Key]:
        """Return all keys of an epoch in order."""
        generator = np.random.default_rng((self.seed, epoch, self.domain))
        classes = generator.choice(len(self.images), self.length, p=self.probabilities)
        picks = generator.random(self.length)
        keys: list[Key] = []
        for position, (drawn, pick) in enumerate(
            zip(classes, picks, strict=True), start=epoch * self.length
        ):
            own = self.images[drawn]
            keys.append((position, int(own[int(pick * len(own))]), int(drawn)))
        return keys
