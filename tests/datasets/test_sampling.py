from itertools import islice

import numpy as np
import pytest

from datasets.sampling.centroids import ClassCentroids
from datasets.sampling.rare_classes import RareClassSampler, class_probabilities
from datasets.sampling.samplers import ClassUniformSampler
from utils.errors import UserError


def make_centroids(sizes):
    """Centroids of each class; x names the class and y the centroid."""
    return [
        ClassCentroids(np.arange(n) % 40, np.full(n, float(c)), np.arange(n, dtype=np.float32))
        for c, n in enumerate(sizes)
    ]


CENTROIDS = make_centroids([100, 3, 0, 60])


def sampler(**options):
    return ClassUniformSampler(**{"length": 40, "fraction": 0.5, "seed": 1} | options)


def drawn_classes(epoch):
    return [int(centroid[0]) for _, _, centroid in epoch if centroid is not None]


def test_an_epoch_has_equal_shares_of_the_classes_that_occur():
    epoch = sampler(centroids=CENTROIDS).epoch(0)
    assert len(epoch) == 40
    # int(40 · 0.5 / 4) each; the share of the class without centroids is random.
    assert np.bincount(drawn_classes(epoch)).tolist() == [5, 5, 0, 5]


def test_what_rounding_leaves_goes_to_the_classes_in_turn():
    # 19 of 39 for 4 classes: 4 each, and 3 of them one more.
    counts = [
        np.bincount(drawn_classes(sampler(length=39, centroids=CENTROIDS).epoch(epoch)))
        for epoch in range(4)
    ]
    assert [part.tolist() for part in counts[:2]] == [[5, 5, 0, 4], [5, 5, 0, 5]]
    assert sum(counts).tolist() == [19, 19, 0, 19]


def test_few_images_of_many_classes_have_their_class_uniform_part():
    few = sampler(length=30, centroids=make_centroids([4] * 19))
    drawn = [drawn_classes(few.epoch(epoch)) for epoch in range(19)]
    assert {len(classes) for classes in drawn} == {15}
    assert np.bincount(sum(drawn, [])).tolist() == [15] * 19


def test_random_part_is_without_replacement():
    epoch = sampler(centroids=CENTROIDS).epoch(2)
    random = [index for _, index, centroid in epoch if centroid is None]
    assert len(random) == len(set(random)) == 25
    assert set(random) <= set(range(40))


def test_centroids_belong_to_their_image_and_repeat_only_when_used_up():
    epoch = sampler(centroids=CENTROIDS).epoch(0)
    drawn = [(index, centroid) for _, index, centroid in epoch if centroid is not None]
    assert all(index == centroid[1] % 40 for index, centroid in drawn)
    numbers = [[int(y) for _, (x, y) in drawn if x == c] for c in range(4)]
    assert len(set(numbers[0])) == 5
    assert sorted(np.bincount(numbers[1])) == [1, 2, 2]


def test_classes_are_spread_over_the_epoch():
    kinds = [centroid is None for _, _, centroid in sampler(centroids=CENTROIDS).epoch(0)]
    assert 5 < sum(kinds[:20]) < 20


def test_no_class_uniform_part_is_a_plain_shuffle():
    keys = list(islice(sampler(fraction=0.0, centroids=[]), 80))
    for epoch in (0, 1):
        part = keys[40 * epoch : 40 * (epoch + 1)]
        assert sorted(index for _, index, _ in part) == list(range(40))
        assert {centroid for _, _, centroid in part} == {None}
    assert [position for position, _, _ in keys] == list(range(80))
    assert [key[1] for key in keys[:40]] != [key[1] for key in keys[40:]]


def test_order_is_a_function_of_seed_and_epoch():
    one = sampler(centroids=CENTROIDS)
    list(islice(one, 7))
    assert one.epoch(3) == sampler(centroids=CENTROIDS).epoch(3)
    indices = [[index for _, index, _ in one.epoch(epoch)] for epoch in (3, 4)]
    assert indices[0] != indices[1]
    other = sampler(centroids=CENTROIDS, seed=2)
    assert one.epoch(3) != other.epoch(3)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_together_see_what_one_sees(world_size):
    alone = list(islice(sampler(centroids=CENTROIDS), 90))
    shares = [
        list(islice(sampler(centroids=CENTROIDS, rank=r, world_size=world_size), 90 // world_size))
        for r in range(world_size)
    ]
    together = [key for keys in zip(*shares, strict=True) for key in keys]
    assert together == alone
    assert [position for position, _, _ in alone] == list(range(90))


def test_start_continues():
    alone = list(islice(sampler(centroids=CENTROIDS), 120))
    assert list(islice(sampler(centroids=CENTROIDS, start=46), 50)) == alone[46:96]
    second = sampler(centroids=CENTROIDS, start=46, rank=1, world_size=2)
    assert list(islice(second, 20)) == alone[47:87:2]


PIXELS = np.array([[9000, 50, 0, 4000], [8000, 3500, 0, 10], [9500, 2000, 0, 0]])


def test_probabilities_of_rare_classes_against_the_formula():
    share = PIXELS.sum(0).astype(np.float64) / PIXELS.sum()
    for temperature in (0.01, 0.5):
        weights = np.where(share > 0, np.exp((1 - share) / temperature), 0)
        found = class_probabilities(PIXELS.sum(0), temperature)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-4)


def test_images_of_rare_classes_have_enough_of_them():
    rare = RareClassSampler(PIXELS, 0.5, 3000, seed=1)
    keys = [key for epoch in range(1000) for key in rare.epoch(epoch)]
    assert [position for position, _, _ in keys] == list(range(3000))
    assert all(PIXELS[index, drawn] > 3000 for _, index, drawn in keys)
    counts = np.bincount([drawn for _, _, drawn in keys], minlength=4)
    expected = class_probabilities(PIXELS.sum(0), 0.5)
    np.testing.assert_allclose(counts / 3000, expected, atol=0.03)
    first = [index for _, index, drawn in keys if drawn == 0]
    assert np.bincount(first).min() > 0.28 * len(first)


def test_a_class_without_such_an_image_is_left_out():
    rare = RareClassSampler(PIXELS, 0.5, 3600, seed=1)
    assert {drawn for epoch in range(50) for _, _, drawn in rare.epoch(epoch)} == {0, 3}
    with pytest.raises(UserError, match="RARE_CLASS_PIXELS is 9500, .*the most are 9500"):
        RareClassSampler(PIXELS, 0.5, 9500, seed=1)
