"""SRM's statistics and restyling against plain loops over images and regions in float64."""

from types import SimpleNamespace

import pytest
import torch

from network.regions.rearrangement import SemanticRearrangement, dirichlet, eliminate_style
from network.regions.statistics import (
    downsample_labels,
    find_regions,
    region_means,
    region_statistics,
    restyle,
    sums_by_product,
)

K = 6


def random_labels(generator, shape=(3, 12, 15), void=True):
    labels = torch.randint(0, K + int(void), shape, generator=generator)
    return torch.where(labels == K, 255, labels)


def regions_of(label, void_is_region):
    """Values that are regions of one label map, as plain numbers with void as K."""
    values = [int(v) for v in label.unique()]
    return [v for v in values if void_is_region or v != 255]


def loop_statistics(features, labels, void_is_region):
    """Mean and std + 1e-7 [B, K + 1, C] by masks, one region of one image at a time."""
    batch, channels = features.shape[:2]
    mean = torch.zeros(batch, K + 1, channels, dtype=features.dtype)
    std = torch.zeros(batch, K + 1, channels, dtype=features.dtype)
    for b in range(batch):
        for value in regions_of(labels[b], void_is_region):
            pixels = features[b][:, labels[b] == value]
            region = K if value == 255 else value
            mean[b, region] = pixels.mean(1)
            std[b, region] = pixels.std(1, unbiased=False) + 1e-7
    return mean, std


def loop_rearrange(features, labels, weights, void_is_region):
    mean, std = loop_statistics(features, labels, void_is_region)
    result = features.clone()
    for b in range(len(features)):
        for value in regions_of(labels[b], void_is_region):
            region = K if value == 255 else value
            mask = labels[b] == value
            new_mean = sum(weights[b, region, j] * mean[b, j] for j in range(K + 1))
            new_std = sum(weights[b, region, j] * std[b, j] for j in range(K + 1))
            normalised = (features[b][:, mask] - mean[b, region][:, None]) / std[b, region][:, None]
            result[b][:, mask] = normalised * new_std[:, None] + new_mean[:, None]
    return result


@pytest.mark.parametrize("void_is_region", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_statistics_equal_the_loop(void_is_region, channels_last):
    generator = torch.Generator().manual_seed(0)
    labels = random_labels(generator)
    features = torch.randn(3, 5, 12, 15, dtype=torch.float64, generator=generator)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    regions = find_regions(labels, (12, 15), K, void_is_region)
    statistics = region_statistics(features, regions)
    mean, std = loop_statistics(features, labels, void_is_region)
    torch.testing.assert_close(statistics.mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics.std, std, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(region_means(features, regions), mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("void_is_region", [True, False])
def test_rearrangement_equals_the_loop(void_is_region):
    generator = torch.Generator().manual_seed(1)
    labels = random_labels(generator)
    features = torch.randn(3, 5, 12, 15, dtype=torch.float64, generator=generator) * 3 + 2
    srm = SemanticRearrangement(K, void_is_region=void_is_region)
    present = find_regions(labels, (12, 15), K, void_is_region).present
    weights = srm.draw(present).double()
    expected = loop_rearrange(features, labels, weights, void_is_region)
    torch.testing.assert_close(srm(features, labels, weights), expected, rtol=1e-9, atol=1e-9)
    if not void_is_region:
        void = (labels == 255)[:, None].expand_as(features)
        torch.testing.assert_close(srm(features, labels, weights)[void], features[void])


def test_styles_are_borrowed_from_the_whole_batch():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=generator)
    labels = torch.stack([torch.full((6, 6), 0), torch.full((6, 6), 1)])
    srm = SemanticRearrangement(K, scope="batch")
    rows = 2 * (K + 1)
    weights = torch.eye(rows, dtype=torch.float64)
    weights[0] = torch.eye(rows, dtype=torch.float64)[K + 2]  # class 0 of image 0 ← 1 of image 1
    restyled = srm(features, labels, weights)
    torch.testing.assert_close(restyled[0].mean((1, 2)), features[1].mean((1, 2)))
    torch.testing.assert_close(
        restyled[0].std((1, 2), unbiased=False), features[1].std((1, 2), unbiased=False)
    )
    torch.testing.assert_close(restyled[1], features[1])
    drawn = srm.draw(find_regions(labels, (6, 6), K).present)
    assert drawn.shape == (rows, rows)
    torch.testing.assert_close(drawn[:, [0, K + 2]].sum(1), torch.ones(rows))


def test_one_region_keeps_its_style():
    features = torch.randn(2, 8, 9, 9)
    labels = torch.full((2, 9, 9), 3)
    torch.testing.assert_close(SemanticRearrangement(K)(features, labels), features)


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_small_regions_lend_nothing_and_keep_their_style(scope):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=generator)
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[:, 4:], labels[:, 0, :3] = 1, 2  # 29, 32 and 3 places
    srm = SemanticRearrangement(K, concentration=50.0, scope=scope, min_places=4)
    lending = find_regions(labels, (8, 8), K).count >= 4
    drawn = srm.draw(lending).unflatten(-1, (-1, K + 1))
    assert not drawn[..., 2].any() and drawn[..., 0].all()
    restyled = srm(features, labels)
    small = (labels == 2)[:, None].expand_as(features)
    torch.testing.assert_close(restyled[small], features[small], rtol=1e-12, atol=1e-12)
    assert (restyled[~small] - features[~small]).abs().min() > 0
    # An image of small regions alone stays.
    nothing = SemanticRearrangement(K, scope=scope, min_places=99)(features, labels)
    torch.testing.assert_close(nothing, features, rtol=1e-12, atol=1e-12)


def test_a_place_may_have_the_label_of_most_of_its_pixels():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[0, ::2, ::2] = 1  # what nearest downsampling sees
    labels[0, 4:, 4:], labels[0, 4, 4] = 255, 2
    nearest, majority = (find_regions(labels, (2, 2), K, majority=m).slot for m in (False, True))
    assert nearest.tolist() == [1, 1, 1, 2] and majority.tolist() == [0, 0, 0, K]


@pytest.mark.parametrize("void_is_region", [True, False])
def test_all_void_stays_as_it_is(void_is_region):
    features = torch.randn(2, 8, 9, 9)
    labels = torch.full((2, 9, 9), 255)
    srm = SemanticRearrangement(K, void_is_region=void_is_region)
    torch.testing.assert_close(srm(features, labels), features)


def test_a_region_of_one_pixel_or_of_constant_value_does_not_explode():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, 16, 40, 40, generator=generator) * 1000 + 1e4
    labels = torch.zeros(1, 40, 40, dtype=torch.int64)
    labels[0, 20, 20] = 1
    labels[0, 30:, :] = 2
    features[0, :, 30:] = 12345.678
    srm = SemanticRearrangement(K)
    weights = torch.zeros(1, K + 1, K + 1)
    weights[0, :, 0] = 1  # everything takes the style of region 0
    restyled = srm(features, labels, weights)
    mean = features[0][:, labels[0] == 0].mean(1)
    torch.testing.assert_close(restyled[0, :, 20, 20], mean)
    expected = mean[:, None, None].expand(-1, 10, 40)
    torch.testing.assert_close(restyled[0, :, 30:], expected)


def test_statistics_keep_their_digits_when_the_mean_is_large():
    generator = torch.Generator().manual_seed(4)
    exact = torch.randn(2, 8, 32, 32, dtype=torch.float64, generator=generator) + 1000
    features = exact.float()
    labels = random_labels(generator, (2, 32, 32))
    statistics = region_statistics(features, find_regions(labels, (32, 32), K))
    mean, std = loop_statistics(features.double(), labels, True)
    torch.testing.assert_close(statistics.mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(statistics.std.double(), std, rtol=1e-4, atol=0)


def test_statistics_are_float32_for_bfloat16_features():
    features = torch.randn(2, 8, 16, 16).bfloat16()
    labels = random_labels(torch.Generator().manual_seed(5), (2, 16, 16))
    regions = find_regions(labels, (16, 16), K)
    statistics = region_statistics(features, regions)
    assert statistics.mean.dtype == statistics.std.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        restyled = SemanticRearrangement(K)(features, labels)
    assert restyled.dtype == torch.bfloat16
    mean, _ = loop_statistics(features.double(), labels, True)
    torch.testing.assert_close(statistics.mean.double(), mean, rtol=1e-4, atol=1e-5)


def test_restyling_to_the_own_style_is_the_identity():
    generator = torch.Generator().manual_seed(6)
    features = torch.randn(3, 5, 12, 15, dtype=torch.float64, generator=generator)
    regions = find_regions(random_labels(generator), (12, 15), K)
    statistics = region_statistics(features, regions)
    same = restyle(features, regions, statistics, statistics.mean, statistics.std)
    torch.testing.assert_close(same, features)


def test_region_means_have_the_right_gradient():
    generator = torch.Generator().manual_seed(7)
    labels = random_labels(generator, (2, 3, 4))
    features = torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=generator)
    regions = find_regions(labels, (3, 4), K)
    assert torch.autograd.gradcheck(lambda x: region_means(x, regions), features.requires_grad_())


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (13, 31), (24, 31)])
def test_labels_are_downsampled_like_nearest_interpolation(size):
    labels = torch.randint(0, 19, (2, 24, 31))
    expected = torch.nn.functional.interpolate(labels[:, None].double(), size, mode="nearest")[:, 0]
    assert torch.equal(downsample_labels(labels, size), expected.long())


def test_dirichlet_weights_have_the_right_moments():
    torch.manual_seed(0)
    number, alpha, draws = 5, 2**-6, 100_000
    allowed = torch.tensor([True, True, False, True, True, True]).expand(draws, -1)
    weights = dirichlet(alpha, allowed).double()
    assert (weights >= 0).all() and (weights[:, 2] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(draws, dtype=torch.float64))
    weights = weights[:, allowed[0]]
    mean = 1 / number
    variance = mean * (1 - mean) / (number * alpha + 1)
    deviation = (variance / draws) ** 0.5
    assert (weights.mean(0) - mean).abs().max() < 5 * deviation
    assert (weights.var(0) / variance - 1).abs().max() < 0.02


@pytest.mark.parametrize("alpha", [2**-8, 2**-6, 1.0])
def test_dirichlet_weights_are_never_nan(alpha):
    torch.manual_seed(1)
    weights = dirichlet(alpha, torch.ones(1_000_000, 3, dtype=torch.bool))
    assert torch.isfinite(weights).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(1_000_000))


def test_style_elimination_normalises_each_image_and_channel():
    generator = torch.Generator().manual_seed(8)
    features = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=generator) * 4 + 3
    plain = eliminate_style(features)
    for b in range(2):
        for c in range(3):
            x = features[b, c]
            expected = (x - x.mean()) / (x.std(unbiased=True) + 1e-7)
            torch.testing.assert_close(plain[b, c], expected)


@pytest.mark.parametrize(
    "reference", [None, (torch.tensor([1.0, -2, 5]), torch.tensor([0.5, 2, 1]))]
)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_share_of_the_way_to_a_style(share, reference):
    generator = torch.Generator().manual_seed(8)
    features = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=generator) * 4 + 3
    given = eliminate_style(features, share, reference)
    for b in range(2):
        for c in range(3):
            mean, std = features[b, c].mean(), features[b, c].std()
            to_mean, to_std = (0.0, 1.0) if reference is None else (own[c] for own in reference)
            own_std, own_mean = given[b, c].std(), given[b, c].mean()
            torch.testing.assert_close(own_mean, (1 - share) * mean + share * to_mean)
            expected = (1 - share) * std.log() + share * torch.as_tensor(to_std).log()
            torch.testing.assert_close(own_std.log(), expected.double(), atol=1e-6, rtol=1e-6)
    if share == 0:
        torch.testing.assert_close(given, features)


@pytest.mark.parametrize("classes", [19, 150, 1000])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_any_number_of_classes_and_any_layout(classes, layout):
    generator = torch.Generator().manual_seed(9)
    features = torch.randn(2, 6, 14, 18, dtype=torch.float64, generator=generator)
    # Few of the classes are in the images, most regions are empty.
    names = torch.randperm(classes, generator=generator)[:5]
    labels = names[torch.randint(0, 5, (2, 14, 18), generator=generator)]
    labels[0, :3] = 255
    few = torch.searchsorted(names.sort()[0], labels.clamp_max(classes - 1))
    few = torch.where(labels == 255, 255, few)
    expected, _ = loop_statistics(features, few, True)
    views = {
        "contiguous": features,
        "channels_last": features.contiguous(memory_format=torch.channels_last),
        "strided": torch.stack([features, -features], dim=-1)[..., 0],
    }
    regions = find_regions(labels, (14, 18), classes)
    assert regions.present.sum() == (expected.abs().sum(-1) > 0).sum()
    statistics = region_statistics(views[layout], regions)
    kept = torch.cat([names.sort()[0], torch.tensor([classes])])
    torch.testing.assert_close(statistics.mean[:, kept], expected[:, [0, 1, 2, 3, 4, K]])
    restyled = SemanticRearrangement(classes)(views[layout], labels)
    assert restyled.shape == features.shape and torch.isfinite(restyled).all()


@pytest.mark.parametrize("dtypes, classes, gpu, product", [
    ((torch.bfloat16, torch.bfloat16), 19, True, True),
    ((torch.float16, torch.float16), 63, True, True),
    ((torch.bfloat16, torch.bfloat16), 64, True, False),  # with void, more regions than channels
    ((torch.float32, torch.float32), 19, True, False),
    ((torch.bfloat16, torch.float32), 19, True, False),
    ((torch.bfloat16, torch.float16), 19, True, False),
    ((torch.bfloat16, torch.bfloat16), 19, False, False),
])  # fmt: skip
def test_where_sums_are_a_product(dtypes, classes, gpu, product):
    """Halves of one kind on a GPU, while the one-hot labels are no larger than the features."""
    regions = find_regions(torch.zeros(1, 2, 2, dtype=torch.long), (2, 2), classes)
    rows = [SimpleNamespace(dtype=dtype, is_cuda=gpu, shape=(4, 64)) for dtype in dtypes]
    assert sums_by_product(regions, rows) is product
