"""How wide a set of images is, and how near to another: figures of styles and features."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Looks(NamedTuple):
    """What a trunk says of n images: styles {layer: [n, 2 C]}, mean and deviation of each channel,
    and features [n, D], the means of its last layer."""

    styles: dict[int, np.ndarray]
    features: np.ndarray

    def part(self, number: int) -> "Looks":
        """Return `number` of the images, evenly spread."""
        chosen = np.arange(number) * len(self.features) // number
        return Looks({i: s[chosen] for i, s in self.styles.items()}, self.features[chosen])


def spread(styles: np.ndarray, unit: np.ndarray) -> float:
    """Return the root of the mean variance of styles [n, D], each dimension divided by `unit`."""
    return float(np.sqrt(np.mean(np.var(styles / unit, axis=0))))


def shift(styles: np.ndarray, others: np.ndarray, unit: np.ndarray) -> float:
    """Return how far the means of two sets of styles are apart, per dimension, in `unit`s."""
    return float(np.sqrt(np.mean(((styles.mean(0) - others.mean(0)) / unit) ** 2)))


def nearest(styles: np.ndarray, others: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return the distance [n] of each style to the nearest other, per dimension in `unit`s."""
    a, b = styles / unit, others / unit
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares.min(1), 0) / a.shape[1])


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Fréchet distance of the Gaussians of two sets of features [n, D], [m, D].

    ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁C₂)^½) (Heusel et al., 2017). With C = XᵀX the last trace is the
    sum of the singular values of X₁X₂ᵀ, so that no root of a D × D matrix is taken. Estimated from
    few images it is too large.
    """
    centred = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (first, second)]
    joint = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    squares = sum((x**2).sum() for x in centred)
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + squares - 2 * joint)


def evenness(counts: Mapping[str, int], choices: int) -> float:
    """Return the entropy of counts as a share of that of `choices` equally frequent ones."""
    total = sum(counts.values())
    shares = [n / total for n in counts.values() if n]
    entropy = -sum(p * math.log(p) for p in shares)
    return entropy / math.log(choices) if choices > 1 else 1.0
