"""Content extension of WildNet (Lee et al., CVPR 2022): a contrast between an image's own pixels,
and with the nearest of many pixels of other photographs.

The similarities of all pixels of an image to all others are by far the largest tensors of a step.
Here they exist for a few rows of one image at a time: the loss and its gradient are computed at
once, from one exponential.
"""

import math
from typing import Any

import torch
from torch import Tensor

from utils.autograd import differentiable_once
from utils.chunks import chunks
from utils.labels import VOID

TEMPERATURE = 0.07


def content_extension(
    source: Tensor, stylised: Tensor, labels: Tensor, nearest: Tensor, temperature: float
) -> Tensor:
    """Return the content extension loss of n pixels of each image, a scalar.

    `source` and `stylised` `[B, n, D]` are embeddings of unit length, float32 at least, `labels`
    `[B, n]` int64 (255 = void), `nearest` `[B, n, D]` what the dictionary has nearest to the
    stylised pixels, a constant. With `l_ij = clamp(s_i · t_j, ±1) / T` a pixel's loss is

        −log(e^l_ii / (e^l_ii + Σ_different e^l_ij + Σ_others e^(−1/T)))
        −log(e^a_i / (e^a_i + Σ_different e^l_ij)),    a_i = clamp(s_i · n_i, ±1) / T

    where j is different if its label is another one than that of i, and not void. It is the mean
    over pixels that are not void, `sum / (count + 1e-5)`, then over images. The gradient cannot be
    differentiated again.
    """
    return _ContentExtension.apply(source, stylised, labels, nearest, temperature)


class _ContentExtension(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, stylised: Tensor, labels: Tensor, nearest: Tensor, t: float
    ) -> Tensor:
        number = labels.shape[1]
        counted = (labels != VOID).to(source.dtype)
        weights = counted / (counted.sum(1, keepdim=True) + 1e-5) / len(labels)
        gradients = [torch.empty_like(source), torch.zeros_like(stylised)]
        loss = source.new_zeros(())
        for s, other, label, n, weight, to_s, to_t in zip(
            source, stylised, labels, nearest, weights, *gradients, strict=True
        ):
            for part in chunks(number, number, source.device):
                value, slopes = _rows(s[part], other, part, label, n[part], t)
                loss = loss + (weight[part] * value).sum()
                between, own, wild = slopes
                between.mul_(weight[part][:, None])
                own, wild = (x * weight[part] for x in (own, wild))
                to_s[part] = between @ other
                to_s[part] += own[:, None] * other[part] + wild[:, None] * n[part]
                to_t.addmm_(between.T, s[part])
                to_t[part] += own[:, None] * s[part]
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        to_source, to_stylised = (upstream * gradient for gradient in ctx.saved_tensors)
        return to_source, to_stylised, None, None, None


def _rows(
    s: Tensor, stylised: Tensor, part: slice, labels: Tensor, nearest: Tensor, temperature: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the losses `[r]` of the pixels `part` of an image, and their slopes in its products:
    with all other pixels `[r, n]`, the pixel's own, and its nearest, `[r]` each."""
    products = s @ stylised.T
    own, wild = (s * stylised[part]).sum(1), (s * nearest).sum(1)
    own_label = labels[part][:, None]
    different = ((own_label != labels) & (labels != VOID)).to(s.dtype)
    others = labels.shape[0] - 1 - different.sum(1)  # of the same label, or void
    # Where clamp has a slope.
    inside = [(x.abs() <= 1) / temperature for x in (products, own, wild)]
    raised = products.clamp_(-1, 1).div_(temperature).exp_().mul_(different)
    apart = raised.sum(1)
    alike = (own.clamp(-1, 1) / temperature).exp()
    wilder = (wild.clamp(-1, 1) / temperature).exp()
    crowd = apart + others * math.exp(-1 / temperature)
    value = torch.log1p(crowd / alike) + torch.log1p(apart / wilder)
    slope = 1 / (alike + crowd) + 1 / (wilder + apart)
    between = raised.mul_(slope[:, None]).mul_(inside[0])
    to_own = -crowd / (alike + crowd) * inside[1]
    to_wild = -apart / (wilder + apart) * inside[2]
    return value, (between, to_own, to_wild)
