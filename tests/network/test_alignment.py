"""Each alignment term against a direct transcription of its equation, in float64."""

import pytest
import torch

from network.alignment import (
    HierarchicalAlignment,
    global_alignment,
    local_alignment,
    regional_alignment,
)
from network.region_statistics import find_regions

K = 5


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, 6, 7, dtype=torch.float64, generator=generator)
    teacher = torch.randn(3, 4, 6, 7, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, K + 1, (3, 6, 7), generator=generator)
    labels[1] = 2
    return student, teacher, torch.where(labels == K, 255, labels)


def test_global_term(example):
    student, teacher, _ = example
    terms = [
        (student[s, b, c].mean() - teacher[b, c].mean()) ** 2
        for s in range(2)
        for b in range(3)
        for c in range(4)
    ]
    torch.testing.assert_close(global_alignment(student - teacher), sum(terms) / len(terms))


def test_local_term(example):
    student, teacher, _ = example
    repeated = torch.cat([teacher, teacher])
    expected = torch.nn.functional.mse_loss(student.flatten(0, 1), repeated)
    torch.testing.assert_close(local_alignment(student - teacher), expected)


@pytest.mark.parametrize("void_is_region", [True, False])
def test_regional_term(example, void_is_region):
    student, teacher, labels = example
    terms = []
    for s in range(2):
        for b in range(3):
            for value in labels[b].unique():
                if value == 255 and not void_is_region:
                    continue
                mask = labels[b] == value
                share = mask.sum() / mask.numel()
                for c in range(4):
                    gap = student[s, b, c][mask].mean() - teacher[b, c][mask].mean()
                    terms.append(gap**2 * share)
    regions = find_regions(labels, (6, 7), K, void_is_region)
    value = regional_alignment(student - teacher, regions)
    torch.testing.assert_close(value, sum(terms) / len(terms))


def test_regional_term_without_any_region_is_zero_with_a_gradient():
    difference = torch.randn(2, 1, 3, 4, 4, requires_grad=True)
    regions = find_regions(torch.full((1, 4, 4), 255), (4, 4), K, void_is_region=False)
    value = regional_alignment(difference, regions)
    value.backward()
    assert value == 0 and torch.equal(difference.grad, torch.zeros_like(difference))


def test_gradients(example):
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K)

    def terms(x):
        difference = x - teacher
        return (
            global_alignment(difference),
            regional_alignment(difference, regions),
            local_alignment(difference),
        )

    assert torch.autograd.gradcheck(terms, student.requires_grad_(), fast_mode=True)


def test_layers_are_weighted_and_switched(example):
    _, _, labels = example
    generator = torch.Generator().manual_seed(1)
    sizes = {1: (4, 6, 7), 2: (8, 3, 4), 3: (8, 3, 4), 4: (16, 2, 2)}

    def draw(n):
        return {
            i: torch.randn(n, *s, dtype=torch.float64, generator=generator)
            for i, s in sizes.items()
        }

    student, teacher = draw(6), draw(3)
    weights = ([0.4, 0, 0.8, 0], [0, 0.6, 0, 0], [0, 0, 0, 0])
    alignment = HierarchicalAlignment(K, *weights)
    assert alignment.last_layer == 3
    losses = alignment(student, teacher, labels)
    assert set(losses) == {"global", "regional"}
    difference = {i: student[i].unflatten(0, (2, 3)) - teacher[i] for i in sizes}
    expected = 0.4 * global_alignment(difference[1]) + 0.8 * global_alignment(difference[3])
    torch.testing.assert_close(losses["global"], expected)
    regions = find_regions(labels, (3, 4), K)
    expected = 0.6 * regional_alignment(difference[2], regions)
    torch.testing.assert_close(losses["regional"], expected)
    assert HierarchicalAlignment(K, [0] * 4, [0] * 4, [0] * 4).last_layer == 0
