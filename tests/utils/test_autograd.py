"""Gradients written by hand refuse to be differentiated, also where autograd would say nothing."""

import pytest
import torch

from loss.consistency import jensen_shannon
from loss.upsampled import upsampled_losses
from network.regions.alignment import align
from network.regions.statistics import find_regions

LABELS = torch.tensor([0, 1, 2, 255]).view(1, 2, 2).expand(2, 2, 2)
TEACHER = torch.randn(2, 3, 2, 2)
LOSSES = {
    "Align": lambda x: sum(align(x, TEACHER, find_regions(LABELS, (2, 2), 3)).values()),
    "JensenShannon": lambda x: jensen_shannon(x, TEACHER),
    "UpsampledLosses": lambda x: sum(upsampled_losses(x, LABELS, paired=True)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("power", [1, 2])
def test_there_is_no_second_derivative(name, power):
    x = torch.randn(2, 3, 2, 2, requires_grad=True)
    loss = LOSSES[name](x) ** power
    torch.autograd.grad(loss, x, retain_graph=True)
    with pytest.raises(RuntimeError, match=f"gradient of _{name} is written by hand"):
        torch.autograd.grad(loss, x, create_graph=True)
