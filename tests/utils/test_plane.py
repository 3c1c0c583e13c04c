"""Principal components and t-SNE of points, with bases beside them."""

import sys

import numpy as np
import pytest

from utils.draw.plane import LAYOUTS, Layout, principal_components
from utils.errors import UserError

POINTS = np.random.default_rng(0).normal(size=(50, 6)) * [5, 1, 3, 0.1, 1, 2] + 7


def test_principal_components_are_the_main_axes_of_the_covariance():
    placed, shares = principal_components(POINTS, len(POINTS))
    variances, axes = np.linalg.eigh(np.cov(POINTS.T))
    np.testing.assert_allclose(shares, variances[:-3:-1] / variances.sum(), rtol=1e-9)
    expected = (POINTS - POINTS.mean(0)) @ axes[:, :-3:-1]
    signs = np.sign((placed * expected).sum(0))
    np.testing.assert_allclose(placed, expected * signs, atol=1e-9)


def test_pictures_are_not_mirrored_by_chance():
    """The sign of an axis does not depend on the order of the points."""
    placed, _ = principal_components(POINTS, len(POINTS))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(POINTS))
        shuffled, _ = principal_components(POINTS[order], len(POINTS))
        np.testing.assert_allclose(shuffled, placed[order], atol=1e-9)


def test_a_missing_scikit_learn_is_said(monkeypatch):
    for name in ("sklearn", "sklearn.decomposition", "sklearn.manifold"):
        monkeypatch.setitem(sys.modules, name, None)
    for kind in LAYOUTS:
        with pytest.raises(UserError, match="need sklearn.*pip install -r requirements-extra.txt"):
            Layout(kind, POINTS, None)


def test_a_basis_far_away_does_not_choose_the_axes():
    bases = np.full((2, 6), 1e4)
    alone, beside = Layout("pca", POINTS, None), Layout("pca", POINTS, bases)
    np.testing.assert_allclose(beside.points, alone.points)
    assert beside.bases.shape == (2, 2) and alone.bases.shape == (0, 2)
    assert beside.axes == alone.axes and "% of variance" in alone.axes[0]
    parts = alone.split([20, 25, 5])
    assert [len(part) for part in parts] == [20, 25, 5]
    np.testing.assert_array_equal(np.concatenate(parts), alone.points)


@pytest.mark.parametrize("points", [np.ones((4, 3)), np.ones((1, 3)), np.ones((3, 1))])
def test_points_that_do_not_span_a_plane(points):
    layout = Layout("pca", points, None)
    np.testing.assert_array_equal(layout.points, np.zeros((len(points), 2)))


def test_tsne_keeps_groups_together_and_repeats():
    groups = np.concatenate([POINTS, POINTS + 100])
    layout = Layout("tsne", groups, POINTS[:2])
    one, other = layout.split([50, 50])
    distance = np.linalg.norm(one.mean(0) - other.mean(0))
    assert distance > 2 * max(one.std(), other.std()) and not layout.numbers
    assert layout.bases.shape == (2, 2)
    np.testing.assert_array_equal(Layout("tsne", groups, POINTS[:2]).points, layout.points)
