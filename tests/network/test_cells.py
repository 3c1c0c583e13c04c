import pytest
import torch

from network.regions.cells import THINGS, feature_distance
from network.regions.statistics import pure_cells

K = 19


def labels_of(size):
    labels = torch.randint(0, 3, (2, *size))
    labels = torch.where(labels == 0, 18, labels + 10)  # 11, 12 and 18
    labels[:, : size[0] // 2, : size[1] // 3] = 12
    labels[:, -size[0] // 3 :] = 0
    labels[0, :, -size[1] // 4 :] = 255
    return labels


@pytest.mark.parametrize(
    ("size", "cells"), [((16, 24), (4, 6)), ((13, 22), (4, 5)), ((9, 9), (9, 9)), ((8, 8), (1, 1))]
)
@pytest.mark.parametrize("purity", [0.75, 0.5, 1.0])
def test_cells_pixel_by_pixel(size, cells, purity):
    labels = labels_of(size)
    labels[1, : size[0] // cells[0], : size[1] // cells[1]] = 7
    labels[1, 0, : size[1] // cells[1]] = 8  # in whole cells of 4 × 4, a quarter
    pixels = {}
    for b in range(2):
        for i in range(size[0]):
            for j in range(size[1]):
                cell = b, i * cells[0] // size[0], j * cells[1] // size[1]
                pixels.setdefault(cell, []).append(labels[b, i, j].item())
    expected = torch.full((2, *cells), 255)
    for cell, own in pixels.items():
        largest = max(set(own), key=own.count)
        if own.count(largest) / len(own) >= purity:
            expected[cell] = largest
    assert torch.equal(pure_cells(labels, cells, K, purity), expected)


def test_three_quarters_are_enough():
    labels = torch.full((1, 4, 4), 3)
    labels[0, 0] = 5
    assert pure_cells(labels, (1, 1), K, 0.75).item() == 3
    labels[0, 1, 0] = 5
    assert pure_cells(labels, (1, 1), K, 0.75).item() == 255


def test_distance_and_gradient():
    features = torch.randn(2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    reference = torch.randn_like(features)
    cells = torch.randint(0, K + 1, (2, 4, 6))
    cells = torch.where(cells == K, 255, cells)
    distances = [
        (features[b, :, i, j] - reference[b, :, i, j]).square().sum().sqrt()
        for b, i, j in torch.cartesian_prod(*map(torch.arange, cells.shape)).tolist()
        if cells[b, i, j].item() in (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)
    ]
    assert 5 < len(distances) < 48
    expected = sum(distances) / len(distances)
    distance = feature_distance(features, reference, cells)
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(x, features)[0] for x in (distance, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)


def test_no_cell_and_no_distance():
    features = torch.randn(1, 5, 2, 2, requires_grad=True)
    for cells, reference in (
        (torch.tensor([[[0, 255], [8, 10]]]), torch.randn_like(features)),
        (torch.full((1, 2, 2), THINGS[0]), features.detach().clone()),
    ):
        distance = feature_distance(features, reference, cells)
        (gradient,) = torch.autograd.grad(distance, features)
        assert distance == 0 and torch.equal(gradient, torch.zeros_like(features))
    assert feature_distance(features.bfloat16(), reference, cells).dtype == torch.float32
