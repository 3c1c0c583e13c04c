"""The content extension loss against its formula in plain autograd, and numbers by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks.content_extension import formula
from loss.content_extension import content_extension

T = 0.07


def embeddings(images, pixels, channels=5):
    return F.normalize(torch.randn(images, pixels, channels, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("pixels", [7, 30])
def test_value_and_gradients(monkeypatch, pixels):
    """In several parts of rows, too."""
    monkeypatch.setattr("utils.chunks.ELEMENTS", {"cpu": 8 * pixels, "cuda": 1})
    s, t, n = (embeddings(3, pixels) for _ in range(3))
    labels = torch.randint(0, 4, (3, pixels))
    labels[labels == 3] = 255
    s, t = s.requires_grad_(), t.requires_grad_()
    expected = formula(s, t, labels, n, T)
    gradients = torch.autograd.grad(expected, (s, t))
    found = content_extension(s, t, labels, n, T)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * found, (s, t)), [3 * g for g in gradients])


def test_equal_features_and_labels():
    same = torch.ones(1, 4096, 1, dtype=torch.float64)
    labels = torch.zeros(1, 4096, dtype=torch.long)
    found = content_extension(same, same, labels, same, T)
    assert found == pytest.approx(4095 * math.exp(-2 / T), rel=1e-6) == pytest.approx(1.6e-9, 0.01)


def test_two_classes_half_each():
    same = torch.ones(1, 4096, 1, dtype=torch.float64)
    labels = (torch.arange(4096) % 2)[None]
    found = content_extension(same, same, labels, same, T)
    assert found == pytest.approx(2 * math.log(2049), rel=1e-6) == pytest.approx(15.25021, abs=1e-5)


def test_void_alone_is_nothing_with_a_gradient():
    s = embeddings(2, 6).requires_grad_()
    labels = torch.full((2, 6), 255)
    found = content_extension(s, s, labels, embeddings(2, 6), T)
    found.backward()
    assert found == 0 and not s.grad.any()
