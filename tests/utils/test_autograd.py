"""Gradients written by hand refuse to be differentiated, also where autograd would say nothing."""

import pytest
import torch

from loss.consistency import jensen_shannon
from loss.cross_entropy import cross_entropy
from loss.mask_classification import MaskClassificationLoss, QueryPrediction
from loss.upsampled import upsampled_losses
from network.decoders.decoder import LogitOutput
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


def of_logits(x, labels):
    """Of a decoder's upsampled logits."""
    return cross_entropy(LogitOutput(x, labels.shape[1:], align_corners=True).logits, labels)


def of_masks(x, labels):
    criterion = MaskClassificationLoss((2, 5, 5), 0.1, points=8)
    criterion.draw = lambda n, points, two, **o: torch.linspace(0.1, 0.9, 2 * points).to(x).view(
        1, points, 2).expand(n, points, 2)  # fmt: skip
    return sum(criterion([QueryPrediction(x.flatten(2)[..., :4], x)], labels).values())


@pytest.mark.parametrize("loss", [of_logits, of_masks])
def test_what_autograd_differentiates_has_one(loss):
    """docs/adding_a_method.md says which."""
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    labels = LABELS.repeat_interleave(2, 1).contiguous()
    assert torch.autograd.gradgradcheck(lambda x: loss(x, labels), x)
