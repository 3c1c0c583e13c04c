"""The optimal one-dimensional partition against all partitions."""

from itertools import combinations

import numpy as np
import pytest

from network.clusters import lowest_cluster


def slow(values, number):
    """The largest value of the lowest cluster, by trying every partition."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    tried = []
    for cuts in combinations(range(1, len(ordered)), number - 1):
        parts = np.split(ordered, cuts)
        tried.append((sum(((p - p.mean()) ** 2).sum() for p in parts), parts[0][-1]))
    return min(tried)[1]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_against_all_partitions(number):
    rng = np.random.default_rng(number)
    for _ in range(60):
        values = rng.choice([rng.normal(size=9), rng.exponential(size=9) ** 3])
        assert lowest_cluster(values, number) == pytest.approx(slow(values, number))


def test_zeros_below_the_diagonal_pull_the_lowest_centre_down():
    """As released, whose k-means sees all entries of a matrix."""
    above = [1.0, 2.0, 3.2]
    assert lowest_cluster(np.array(above + 6 * [0.0]), 2) == 1.0
    assert lowest_cluster(np.array(above), 2) == 2.0
    assert lowest_cluster(np.array([0, 0, 0, 0, 0.1, 0.11, 5, 5.2]), 3) == 0.11


def test_few_distinct_values_and_one_cluster():
    assert lowest_cluster(np.array([2.0, 2.0, 2.0]), 3) == 2.0
    assert lowest_cluster(np.array([1.0, 4.0, 4.0]), 2) == 1.0
    assert lowest_cluster(np.array([1.0, 4.0, 9.0]), 1) == 9.0


def test_an_offset_and_many_values_do_not_blur_it():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1e-4, 70000), rng.normal(1, 1e-4, 30000)]) + 1e3
    found = lowest_cluster(values, 2)
    assert (values <= found).sum() == 70000
