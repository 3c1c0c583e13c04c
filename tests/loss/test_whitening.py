"""Whitening losses: the numbers of the paper's formulas, and what must not change them."""

import pytest
import torch
import torch.nn.functional as F

from loss.whitening import EPSILON, covariance, pairs, whitening_loss


def matrix(size, entries):
    """A covariance `[1, C, C]` of ones with these entries above the diagonal; others below."""
    found = torch.full((1, size, size), 9.0, dtype=torch.float64)
    found[0][pairs(size)] = torch.tensor(entries, dtype=torch.float64)
    return found.requires_grad_()


def test_losses_by_hand():
    own = matrix(3, [0.5, -0.25, 0.1])
    assert whitening_loss(own, pairs(3)).item() == pytest.approx(0.85 / 3)
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0, 1] = True
    assert whitening_loss(own, mask).item() == pytest.approx(0.5)
    # IRW: 2016 pairs, margin 2016 // 64 = 31.
    relaxed = [matrix(64, [value] * 2016) for value in (0.02, 0.01)]
    assert whitening_loss(relaxed[0], pairs(64), 31).item() == pytest.approx(0.0046230, abs=1e-7)
    nothing = whitening_loss(relaxed[1], pairs(64), 31)
    nothing.backward()
    assert nothing.item() == 0 and not relaxed[1].grad.any()


def test_each_image_has_its_own_margin():
    two = torch.cat([matrix(64, [0.02] * 2016), matrix(64, [0.01] * 2016)])
    assert whitening_loss(two, pairs(64), 31).item() == pytest.approx(0.0046230 / 2, abs=1e-7)


def test_no_entry_gives_zero_with_a_gradient():
    own = matrix(3, [1.0, 1.0, 1.0])
    loss = whitening_loss(own, torch.zeros(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and own.grad is not None and not own.grad.any()


def test_covariance_against_loops():
    x = F.instance_norm(torch.randn(2, 4, 5, 6, dtype=torch.float64))
    found = covariance(x)
    for b in range(2):
        for i in range(4):
            for j in range(4):
                slow = sum(x[b, i, r, c] * x[b, j, r, c] for r in range(5) for c in range(6)) / 29
                assert found[b, i, j].item() == pytest.approx(slow.item() + EPSILON * (i == j))
    # The diagonal of what instance norm returns.
    raw = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    variance = raw.flatten(2).var(2, correction=0)
    expected = variance / (variance + 1e-5) * 30 / 29 + EPSILON
    diagonal = covariance(F.instance_norm(raw)).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, expected)


def test_brightness_and_contrast_of_a_channel_change_nothing():
    x = torch.randn(2, 6, 16, 16, dtype=torch.float64)
    scale, shift = (torch.rand(2, 6, 1, 1, dtype=torch.float64) + 0.5 for _ in range(2))
    first, second = (
        whitening_loss(covariance(F.instance_norm(images)), pairs(6))
        for images in (x, x * scale + shift)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-4)


def test_sums_are_taken_in_float32():
    x = torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = covariance(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, covariance(x.bfloat16().float()))
    assert covariance(torch.zeros(1, 2, 1, 1)).isfinite().all()
