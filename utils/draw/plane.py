"""Points of many dimensions in the plane: principal components, or t-SNE."""

from collections.abc import Sequence

import numpy as np

from utils.errors import UserError

LAYOUTS = ("pca", "tsne")


class Layout:
    """Places points `[n, D]`, and `bases` `[m, D]` beside them, in the plane.

    `points` `[n, 2]`, `bases` `[m, 2]` (empty without any), the names of the `axes`, and whether
    `numbers` on them mean anything. Principal components are those of the points alone, so that a
    basis far away from them does not decide what is seen; t-SNE places all together.
    """

    def __init__(self, kind: str, points: np.ndarray, bases: np.ndarray | None):
        """UserError for t-SNE without scikit-learn."""
        if bases is None:
            bases = np.empty((0, points.shape[1]))
        joined = np.concatenate([points, bases]).astype(np.float64)
        if kind == "tsne":
            placed, self.axes, self.numbers = tsne(joined), ("t-SNE 1", "t-SNE 2"), False
        else:
            placed, shares = principal_components(joined, len(points))
            self.axes = tuple(
                f"principal component {i} ({100 * share:.0f} % of variance)"
                for i, share in enumerate(shares, start=1)
            )
            self.numbers = True
        self.points, self.bases = placed[: len(points)], placed[len(points) :]

    def split(self, lengths: Sequence[int]) -> list[np.ndarray]:
        """Return the points in groups of these lengths, as they were joined."""
        return np.split(self.points, np.cumsum(lengths)[:-1])


def principal_components(points: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Project points `[n, D]` on the two main axes of the first `number` of them.

    Returns `[n, 2]` and each axis's share of the variance `[2]`. The sign of an axis is that of its
    largest entry, or pictures would be mirrored by chance.
    """
    mean = points[:number].mean(0)
    _, singular, axes = np.linalg.svd(points[:number] - mean, full_matrices=False)
    axes = np.concatenate([axes, np.zeros((2, points.shape[1]))])[:2]
    largest = np.abs(axes).argmax(1)
    axes = axes * np.where(axes[[0, 1], largest] < 0, -1, 1)[:, None]
    variances = np.concatenate([singular**2, [0, 0]])
    return (points - mean) @ axes.T, variances[:2] / max(variances.sum(), 1e-300)


def tsne(points: np.ndarray) -> np.ndarray:
    """Place points `[n, D]` by scikit-learn's t-SNE, from their principal components; seeded."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError(
            "--layout tsne needs a package: pip install -r requirements-extra.txt"
        ) from None
    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(points)
