"""Cross entropy and Jensen-Shannon divergence against their equations, in float64."""

import pytest
import torch
import torch.nn.functional as F

from loss.consistency import jensen_shannon
from loss.cross_entropy import cross_entropy
from utils.chunks import ELEMENTS


def example(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 4, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 6, (2, 4, 6), generator=generator)
    return logits, torch.where(labels == 5, 255, labels)


def test_cross_entropy_is_the_mean_over_valid_pixels():
    logits, labels = example()
    probability = logits.softmax(1)
    terms = [
        -probability[b, labels[b, y, x], y, x].log()
        for b in range(2)
        for y in range(4)
        for x in range(6)
        if labels[b, y, x] != 255
    ]
    torch.testing.assert_close(cross_entropy(logits, labels), sum(terms) / len(terms))


def test_cross_entropy_of_void_is_zero_with_a_gradient():
    logits = torch.randn(2, 5, 4, 6, requires_grad=True)
    value = cross_entropy(logits, torch.full((2, 4, 6), 255))
    value.backward()
    assert value == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_weighted_cross_entropy_divides_by_all_pixels():
    logits, labels = example()
    weight = torch.rand(2, 4, 6, dtype=torch.float64)
    pixels = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    torch.testing.assert_close(
        cross_entropy(logits, labels, weight), (pixels * weight).sum() / labels.numel()
    )


def test_jensen_shannon_is_its_equation():
    (a, _), (b, _) = example(0), example(1)
    p, q = a.softmax(1), b.softmax(1)
    m = (p + q) / 2
    terms = 0.5 * (q * (q / m).log()).sum(1) + 0.5 * (p * (p / m).log()).sum(1)
    torch.testing.assert_close(jensen_shannon(a, b), terms.mean())
    torch.testing.assert_close(jensen_shannon(a, a), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_jensen_shannon_does_not_depend_on_layout_and_chunks(layout, monkeypatch):
    inputs = [example(seed)[0].contiguous(memory_format=layout).requires_grad_() for seed in (4, 5)]
    whole = jensen_shannon(*inputs)
    gradients = torch.autograd.grad(whole, inputs)
    monkeypatch.setitem(ELEMENTS, "cpu", 3 * inputs[0].shape[1] + 1)
    parts = jensen_shannon(*inputs)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, inputs), gradients)


def test_jensen_shannon_has_the_right_gradient_in_both():
    (a, _), (b, _) = example(2), example(3)
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(jensen_shannon, inputs, fast_mode=True)


def test_jensen_shannon_survives_probabilities_of_zero_in_bfloat16():
    a = torch.tensor([[800.0, -800.0, 0.0]]).bfloat16()[..., None, None].requires_grad_()
    b = torch.tensor([[-800.0, 800.0, 0.0]]).bfloat16()[..., None, None].requires_grad_()
    value = jensen_shannon(a, b)
    value.backward()
    torch.testing.assert_close(value, torch.tensor(2.0).log())
    assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()
