"""SAN and SAW against loops over classes, groups and images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.build import build_method
from network.clusters import above_lowest_cluster, lowest_cluster
from network.methods.san_saw import SemanticNorm, rarity
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


def norm(classes=(0, 2), region="none", channels=8, number=4):
    made = SemanticNorm(channels, number, list(classes), region).double()
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.normal_(made.bias)
    return made


def by_loops(made, x, regions=None):
    """Instance norms of the weighted features, class by class."""
    p = made.classifier(x).softmax(1)
    total = 0
    for place, i in enumerate(made.classes.tolist()):
        u = x * p[:, i : i + 1]
        seen = torch.cat([u.mean(1, keepdim=True), u.amax(1, keepdim=True), p[:, i : i + 1]], dim=1)
        a = F.conv2d(seen, made.attention.weight[place : place + 1], padding=3).sigmoid()
        v = u * a
        if regions:
            v = v * regions(v.mean(1, keepdim=True))
        total = total + F.instance_norm(v, weight=made.weight, bias=made.bias)
    return total.relu()


def test_what_it_returns_and_its_gradients():
    made = norm()
    x = torch.randn(2, 8, 7, 9, dtype=torch.float64).relu().requires_grad_()
    found = made(x)
    expected = by_loops(made, x)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    gradients = [
        torch.autograd.grad((y * upstream).sum(), [x, *made.parameters()])
        for y in (found, expected)
    ]
    # The classifier sees no more than values of x, so x has a gradient past it alone.
    for own, other in zip(gradients[0][1:], gradients[1][1:], strict=True):
        torch.testing.assert_close(own, other)
    p = made.classifier(x.detach()).softmax(1).detach()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made.classifier, "forward", lambda x: p.log())
        (expected,) = torch.autograd.grad((by_loops(made, x) * upstream).sum(), x)
    torch.testing.assert_close(gradients[0][0], expected)


def test_equal_probabilities_leave_the_attention_alone():
    """Where p is uniform, classes differ by their attention only."""
    made = norm()
    nn.init.zeros_(made.classifier.weight), nn.init.zeros_(made.classifier.bias)
    made.attention.weight.data[1] = made.attention.weight.data[0]
    nn.init.zeros_(made.bias)
    x = torch.randn(1, 8, 7, 9, dtype=torch.float64).relu()
    one = norm(classes=(0,))
    one.load_state_dict(made.state_dict() | {"attention.weight": made.attention.weight[:1]})
    torch.testing.assert_close(made(x), 2 * one(x))


@pytest.mark.parametrize("training", [True, False])
def test_regions(training):
    made = norm(region="kmeans").train(training)
    x = torch.rand(3, 8, 6, 5, dtype=torch.float64)

    def regions(heat):
        parts = [heat] if training else heat.split(1)
        return torch.cat([(part > lowest_cluster(binned(part), 5)).double() for part in parts])

    def binned(part):
        return part.detach().numpy()

    found, expected = made(x), by_loops(made, x, regions)
    # Bins round values: a few places at a border may differ.
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("number", [2, 3, 5])
def test_above_the_lowest_cluster(number):
    generator = np.random.default_rng(number)
    rows = np.stack([generator.normal(size=400), generator.exponential(size=400),
                     np.repeat([1.0, 2.0, 2.5, 9.0], 100)])  # fmt: skip
    # On the bins themselves, where nothing is rounded.
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    rows = np.round((rows - low) / (high - low) * 255) / 255
    found = above_lowest_cluster(torch.from_numpy(rows), number).numpy()
    for row, own in zip(rows, found, strict=True):
        assert np.array_equal(own, row > lowest_cluster(row, number))


def test_what_is_not_finite_is_no_error_here():
    """The step's losses are not finite then, and end it."""
    values = torch.tensor([[1.0, torch.nan, 2.0], [1.0, torch.inf, 3.0]])
    assert above_lowest_cluster(values, 2).shape == (2, 3)


def test_of_one_value_nothing_is_above():
    assert not above_lowest_cluster(torch.full((2, 9), 3.0), 5).any()


def test_targets_are_regions_of_labels():
    made = norm()
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64).relu()
    labels = torch.randint(0, 4, (2, 8, 10))
    labels[0, :2] = 255
    small = labels[:, ::2, ::2]
    expected = sum(
        F.instance_norm(x * (small == i)[:, None], weight=made.weight, bias=made.bias)
        for i in (0, 2)
    )
    torch.testing.assert_close(made.targets(x, labels), expected.relu())


def test_whitening_by_loops():
    made = norm(classes=(0, 2, 3), channels=11)
    made.classifier.weight.data *= 3
    y = torch.randn(2, 11, 6, 6, dtype=torch.float64).relu() * 3
    importance = made.classifier.weight.detach().abs()[[0, 2, 3], :, 0, 0]
    order = importance.argsort(dim=1, descending=True)
    total = 0
    for g in range(11 // 3):
        z = torch.stack(
            [y[:, order[k, g]] * importance[k, order[k, g]].sigmoid() for k in range(3)], dim=1
        ).flatten(2)
        gram = z @ z.transpose(1, 2) / (z.shape[2] - 1)
        sums = gram[:, 0, 1].abs() + gram[:, 0, 2].abs() + gram[:, 1, 2].abs()
        total = total + ((sums - 1) / 3).clamp(min=0).mean()
    found = made.whitening(y)
    assert total > 0.1
    torch.testing.assert_close(found, total)


def test_a_channel_that_means_two_classes():
    """That pair contributes `sigmoid(W_a) · sigmoid(W_b) · v`; uncorrelated channels nothing."""
    made = norm(classes=(0, 1), channels=2, number=2)
    made.classifier.weight.data[:] = torch.tensor([[2.0, 0.1], [1.0, 0.2]])[..., None, None]
    y = 3 + torch.rand(1, 2, 5, 5, dtype=torch.float64)
    v = y[0, 0].square().sum() / 24
    expected = torch.tensor([2.0, 1.0]).double().sigmoid().prod() * v
    torch.testing.assert_close(made.whitening(y), expected)
    apart = norm(classes=(0, 1, 2, 3), channels=4)
    assert apart.whitening(torch.eye(4, dtype=torch.float64).view(1, 4, 2, 2)) == 0


def test_rare_classes_weigh_more():
    labels = torch.tensor([[[0, 0, 0, 0, 0, 1, 1, 255]]])
    found = rarity(labels, 3)
    weights = [1 - 5 / 8, 1 - 2 / 8]
    expected = torch.tensor([weights[0]] * 5 + [weights[1]] * 2 + [0.0])
    torch.testing.assert_close(found.pixels.flatten(), expected)
    assert float(found.scale) == pytest.approx(8 / float(expected.sum()))
    for single in (torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255)):
        pixels, scale = rarity(single, 3)
        assert not pixels.any() and scale == 0


def test_a_step_by_hand(settings):
    cfg = settings(METHOD="san_saw", DECODER__NAME="deeplabv2", SAW__WEIGHT=0.1, **SPACE)
    method = build_method(cfg)[0].double().train()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 64, 64))
    labels[0, :9] = 255
    losses = method({"image": images, "label": labels})
    first, second = method.semantic["layer1"], method.semantic["layer2"]
    trunk = method.trunk
    f1 = trunk.layer1(trunk.layer0(images))
    y1 = first(f1)
    f2 = trunk.layer2(y1)
    y2 = second(f2)
    logits = method.decoder.classifier(trunk.layer4(trunk.layer3(y2)))
    shares = torch.stack([(labels == k).double().mean() for k in range(19)])

    def weighted(small):
        large = F.interpolate(small, (64, 64), mode="bilinear", align_corners=False)
        return F.cross_entropy(large, labels, 1 - shares, ignore_index=255)

    expected = {
        "ce": weighted(logits),
        "classifiers": 0.1 * (weighted(first.classifier(f1)) + weighted(second.classifier(f2))),
        "semantic": 0.1 * sum(F.smooth_l1_loss(y, n.targets(f, labels))
                              for n, f, y in ((first, f1, y1), (second, f2, y2))),
        "whitening": 0.1 * (first.whitening(y1) + second.whitening(y2)),
    }  # fmt: skip
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-9)


def test_classes_that_are_not_there(settings):
    cfg = settings(METHOD="san_saw", SAN__CLASSES=[0, 10], DATASET__LABEL_SPACE="idd_lite7")
    with pytest.raises(UserError, match="SAN.CLASSES holds 10, .* those of its largest classes"):
        build_method(cfg)


def test_more_classes_than_channels(settings):
    many = {"SAN__CLASSES": list(range(19)) * 3, "SAW__WEIGHT": 0.1}
    with pytest.raises(UserError, match="SAN.CLASSES names 57 classes, .* or set SAW.WEIGHT to 0"):
        build_method(settings(METHOD="san_saw", **many, **SPACE))
