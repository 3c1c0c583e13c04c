import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.self_training import contrast
from network.self_training.contrast import (
    ClassDistributions,
    Projector,
    choose_crop,
    cut,
    distribution_contrast,
)
from utils.chunks import ELEMENTS

K, C = 5, 6


def example(seed=0, present=(0, 1, 3, 255)):
    """Features of about unit length and cells of some classes."""
    torch.manual_seed(seed)
    cells = torch.tensor(present)[torch.randint(0, len(present), (2, 4, 7))]
    features = 0.4 * torch.randn(2, C, 4, 7, dtype=torch.float64) + 0.1 * (cells[:, None] % 7)
    return features, cells


def rows_of(features, cells, number):
    return features.movedim(1, -1)[cells == number]


@pytest.fixture
def distributions():
    """Of four updates, in the second of which class 4 comes and class 3 goes."""
    distributions, seen = ClassDistributions(K, C), []
    for seed, present in enumerate([(0, 1, 3, 255), (0, 1, 4), (255,), (0, 3, 4, 255)]):
        seen.append(example(seed, present))
        distributions.update(*seen[-1])
    return distributions, seen


@pytest.mark.parametrize("elements", [10, 10**6])
def test_four_updates_are_the_statistics_of_all(elements, monkeypatch, request):
    monkeypatch.setitem(ELEMENTS, "cpu", elements)
    distributions, seen = request.getfixturevalue("distributions")
    for number in range(K):
        rows = torch.cat([rows_of(*one, number) for one in seen])
        assert distributions.amount[number] == len(rows)
        if number == 2:
            rows = torch.zeros(1, C, dtype=torch.float64)
        torch.testing.assert_close(distributions.mean[number], rows.mean(0), rtol=1e-12, atol=1e-14)
        variance = rows.var(0, correction=0)
        torch.testing.assert_close(distributions.variance[number], variance, rtol=1e-12, atol=1e-14)
    assert distributions.state_dict().keys() == {"mean", "variance", "amount"}


def test_processes_count_together(monkeypatch):
    features, cells = example()
    whole, half, totals = ClassDistributions(K, C), ClassDistributions(K, C), []
    whole.update(features, cells)
    monkeypatch.setattr(contrast, "sum_over_processes", lambda x: totals.append(x) or sum(totals))
    for i in range(2):
        # The second call sees the sum that both processes would see.
        half = ClassDistributions(K, C)
        half.update(features[i : i + 1], cells[i : i + 1])
    for own, other in zip(half.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("temperature", [100.0, 0.1])
@pytest.mark.parametrize("regulariser", [1.0, 0.0])
def test_contrast_cell_by_cell(distributions, temperature, regulariser):
    mean, variance = distributions[0].mean, distributions[0].variance
    features, cells = example(9, (0, 1, 2, 4, 255))
    features.requires_grad_()
    losses, own = [], []
    for b, i, j in torch.cartesian_prod(*map(torch.arange, cells.shape)).tolist():
        y = cells[b, i, j].item()
        if y == 255:
            continue
        f = features[b, :, i, j]
        own.append(f)
        spread = [0.5 * (f.square() * variance[c]).sum() for c in range(K)]
        z = [(f @ mean[c] + spread[c] / temperature) / temperature for c in range(K)]
        entropy = torch.stack(z).logsumexp(0) - z[y]
        losses.append(entropy + spread[y] / temperature**2)
    centre = sum(own) / len(own)
    scores = torch.stack([centre @ mean[c] / temperature for c in range(K)])
    evenness = sum(score - scores.logsumexp(0) for score in scores) / (K * math.log(K))
    expected = sum(losses) / len(losses) + regulariser * evenness
    loss = distribution_contrast(features, cells, distributions[0], temperature, regulariser)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad(x, features)[0] for x in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_no_cell(distributions):
    features = torch.randn(1, C, 2, 2, requires_grad=True)
    void = torch.full((1, 2, 2), 255)
    with torch.autocast("cpu", torch.bfloat16):
        loss = distribution_contrast(features.bfloat16(), void, distributions[0])
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss == 0 and loss.dtype == torch.float32
    assert torch.equal(gradient, torch.zeros_like(features))
    before = [x.clone() for x in distributions[0].buffers()]
    distributions[0].update(features, void)
    assert all(map(torch.equal, distributions[0].buffers(), before))


def test_projector():
    projector = Projector([4, 6], (1, 4), hidden=8, width=5).double()
    features = {1: torch.randn(2, 4, 6, 8).double(), 4: torch.randn(2, 6, 2, 3).double()}
    joined = torch.cat([features[1], F.interpolate(features[4], (6, 8), mode="bilinear")], 1)
    first, second = (m for m in projector.modules() if isinstance(m, nn.Conv2d))
    x = joined.permute(0, 2, 3, 1).reshape(-1, 10)
    for conv in (first, second):
        x = x @ conv.weight[:, :, 0, 0].T
        x = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).clamp_min(0)
    x = x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
    result = projector(features)
    assert result.shape == (2, 5, 6, 8)
    torch.testing.assert_close(result.permute(0, 2, 3, 1).reshape(-1, 5), x)


def test_richest_crop():
    labels = torch.randint(0, 3, (4, 30, 40)).repeat_interleave(3, 1).repeat_interleave(2, 2)
    labels[0, :50] = 1  # one class has nearly all
    labels[1] = 4  # and here all
    labels[2, :, 30:] = 255
    labels[3, 60:, 50:] = 3
    size = (20, 25)
    for seed in range(3):
        torch.manual_seed(seed)
        tops, lefts = torch.randint(71, (4, 10)), torch.randint(56, (4, 10))
        torch.manual_seed(seed)
        top, left = choose_crop(labels, size, K)
        for b in range(4):
            scores = []
            for y, x in zip(tops[b].tolist(), lefts[b].tolist(), strict=True):
                crop = labels[b, y : y + 20, x : x + 25].flatten().tolist()
                counts = [crop.count(c) for c in range(K) if c in crop]
                rich = len(counts) > 1 and max(counts) / sum(counts) < 0.75
                scores.append(sum(math.log(n) for n in counts if n > 1) if rich else 0)
            best = scores.index(max(scores))
            assert (top[b], left[b]) == (tops[b, best], lefts[b, best])
        assert (top[1], left[1]) == (tops[1, 0], lefts[1, 0])
        images = torch.randn(4, 3, 90, 80)
        for x in (labels, images):
            crops = [
                one[..., y : y + 20, x : x + 25] for one, y, x in zip(x, top, left, strict=True)
            ]
            assert torch.equal(cut(x, top, left, size), torch.stack(crops))
    # A crop of the image's size has one place.
    assert [x.tolist() for x in choose_crop(labels, (90, 80), K)] == [[0] * 4] * 2
