"""Points of many dimensions in the plane: principal components, or t-SNE, of scikit-learn."""

from collections.abc import Sequence

import numpy as np

from utils.extras import import_extra

LAYOUTS = ("pca", "tsne")


class Layout:
    """Places points `[n, D]`, and `bases` `[m, D]` beside them, in the plane.

    `points` `[n, 2]`, `bases` `[m, 2]` (empty without any), the names of the `axes`, and whether
    `numbers` on them mean anything. Principal components are computed from the points alone, so
    that a basis far away does not decide what is seen; t-SNE places all together.
    """

    def __init__(self, kind: str, points: np.ndarray, bases: np.ndarray | None):
        """UserError without scikit-learn."""
        if bases is None:
            bases = np.empty((0, points.shape[1]))
        joined = np.concatenate([points, bases]).astype(np.float64)
        self.numbers = kind == "pca"
        if self.numbers:
            placed, shares = principal_components(joined, len(points))
            self.axes = tuple(
                f"principal component {i} ({100 * share:.0f} % of variance)"
                for i, share in enumerate(shares, start=1)
            )
        else:
            placed, self.axes = tsne(joined), ("t-SNE 1", "t-SNE 2")
        self.points, self.bases = placed[: len(points)], placed[len(points) :]

    def split(self, lengths: Sequence[int]) -> list[np.ndarray]:
        """Return the points in groups of these lengths, as they were joined."""
        return np.split(self.points, np.cumsum(lengths)[:-1])


def principal_components(points: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Project points `[n, D]` on the two main axes of the first `number` of them.

    Returns `[n, 2]` and each axis's share of the variance `[2]`, zeros where the points do not span
    an axis. scikit-learn fixes the signs of the axes, so pictures are not mirrored by chance.
    """
    chosen = points[:number]
    placed, shares = np.zeros((len(points), 2)), np.zeros(2)
    if np.ptp(chosen, axis=0).any():
        own = min(2, *chosen.shape)
        pca = (
            import_extra("this picture", "sklearn.decomposition")
            .PCA(own, svd_solver="full")
            .fit(chosen)
        )
        placed[:, :own], shares[:own] = pca.transform(points), pca.explained_variance_ratio_
    return placed, shares


def tsne(points: np.ndarray) -> np.ndarray:
    """Place points `[n, D]` by t-SNE, from their principal components; seeded."""
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = import_extra("this picture", "sklearn.manifold").TSNE(
        init="pca", perplexity=perplexity, random_state=0
    )
    return tsne.fit_transform(points)
