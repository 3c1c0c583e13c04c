"""The loops that speed is measured against compute the same as what they are compared with."""

import pytest
import torch

from benchmarks.loop_form import regional_loss, regional_loss_by_product
from network.regions.alignment import align
from network.regions.statistics import find_regions


@pytest.mark.parametrize("visited", [None, 6])
def test_regional_loop(visited):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 3, 5, 7, dtype=torch.float64, generator=generator)
    teacher = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 5, (2, 5, 7), generator=generator)
    labels[0, :2] = 255
    expected = align(student, teacher, find_regions(labels, (5, 7), 6))["regional"]
    torch.testing.assert_close(regional_loss(student, teacher, labels, visited), expected)
    by_product = regional_loss_by_product(student, teacher, labels, 6)
    torch.testing.assert_close(by_product, expected)
