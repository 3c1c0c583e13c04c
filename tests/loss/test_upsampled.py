"""Losses of logits that are upsampled on the way, against upsampling first, in float64."""

import pytest
import torch
import torch.nn.functional as F

from loss.consistency import jensen_shannon
from loss.cross_entropy import cross_entropy
from loss.upsampled import upsampled_losses
from utils.chunks import ELEMENTS

K = 5


def example(small=(3, 4), size=(11, 15), dtype=torch.float64, batch=4):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, K, *small, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, K + 1, (batch, *size), generator=generator)
    weight = torch.rand(batch, *size, dtype=torch.float64, generator=generator)
    logits = logits.to(dtype).requires_grad_()
    return logits, torch.where(labels == K, 255, labels), weight


def upsample_first(logits, labels, weight=None, align_corners=False):
    size = labels.shape[-2:]
    large = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    return cross_entropy(large, labels, weight), jensen_shannon(*large.chunk(2))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lines", [1, 4, 1000])
@pytest.mark.parametrize(
    ("small", "size"),
    [((3, 4), (11, 15)), ((5, 7), (5, 7)), ((1, 4), (9, 15)), ((4, 1), (1, 6)), ((6, 6), (3, 4))],
)
def test_equal_to_upsampling_first(small, size, lines, weighted, align_corners, monkeypatch):
    monkeypatch.setitem(ELEMENTS, "cpu", lines * size[1] * K)
    logits, labels, weight = example(small, size)
    weight = weight if weighted else None
    values = upsampled_losses(logits, labels, weight, align_corners, paired=True)
    expected = upsample_first(logits, labels, weight, align_corners)
    for value, other in zip(values, expected, strict=True):
        torch.testing.assert_close(value, other)
        (own,) = torch.autograd.grad(value, logits, retain_graph=True)
        torch.testing.assert_close(own, torch.autograd.grad(other, logits, retain_graph=True)[0])
    alone, nothing = upsampled_losses(logits, labels, weight, align_corners)
    torch.testing.assert_close(alone, expected[0])
    (own,) = torch.autograd.grad(alone, logits)
    torch.testing.assert_close(own, torch.autograd.grad(expected[0], logits)[0])
    assert nothing == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_is_computed_in_float32(layout):
    logits, labels, _ = example(dtype=torch.bfloat16)
    logits = logits.detach().contiguous(memory_format=layout).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    values, expected = upsampled_losses(logits, labels, paired=True), upsample_first(exact, labels)
    assert all(value.dtype == torch.float32 for value in values)
    (values[0] + 10 * values[1]).backward()
    (expected[0] + 10 * expected[1]).backward()
    for value, other in zip(values, expected, strict=True):
        torch.testing.assert_close(value.double(), other, rtol=1e-5, atol=1e-6)
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-2, atol=1e-6)


def test_void_alone_has_no_cross_entropy_but_a_divergence():
    logits, labels, _ = example()
    entropy, divergence = upsampled_losses(logits, torch.full_like(labels, 255), paired=True)
    assert entropy == 0 and divergence > 0
    (gradient,) = torch.autograd.grad(entropy, logits)
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_certain_predictions_keep_finite_losses():
    certain = torch.tensor([800.0, -800.0, 0.0, 0.0, 0.0])[:, None, None].expand(-1, 3, 4)
    logits = torch.stack([certain, -certain]).requires_grad_()
    labels = torch.zeros(2, 11, 15, dtype=torch.long)
    entropy, divergence = upsampled_losses(logits, labels, paired=True)
    torch.testing.assert_close(divergence, torch.tensor(2.0).log())
    torch.testing.assert_close(entropy, torch.tensor(800.0))
    (entropy + divergence).backward()
    assert torch.isfinite(logits.grad).all()
