"""Prediction consistency between two streams: the Jensen-Shannon divergence (SRHA's PCPC)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.autograd import differentiable_once
from utils.chunks import chunks


def jensen_shannon(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """JS divergence of two softmax predictions `[B, K, H, W]`, in nats, mean over all pixels.

    `½ KL(P_a‖M) + ½ KL(P_b‖M)` with `M = (P_a + P_b) / 2` clamped to `[1e-7, 1]`.
    Written as `p · (log_softmax − log M)`: `F.kl_div` has NaN gradients where a probability is
    exactly 0. Float32 at least; the gradient flows into both and cannot be differentiated again.
    """
    classes = logits_a.shape[1]
    rows = [x.permute(0, 2, 3, 1).reshape(-1, classes) for x in (logits_a, logits_b)]
    return _JensenShannon.apply(*rows)


def divergence_and_gradient(probabilities: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Return `Σ P_a log(P_a / M) + Σ P_b log(P_b / M)` over all rows of `[2, …, K]`, and its
    gradient in the logits; it is made in the memory of `logs`, the probabilities' logarithms.

    With `r = log(P / M)` the gradient in P is r, since the derivatives of log M cancel, and a
    softmax turns it into `P (r − Σ P r)`. Autograd's own graph of the same formula keeps and walks
    through a dozen tensors of the size of the logits.
    """
    log_mixture = torch.lerp(*probabilities, 0.5).clamp_(1e-7, 1).log_()
    weighted = logs.sub_(log_mixture).mul_(probabilities)
    total = weighted.sum(-1, keepdim=True)
    return total.sum(), weighted.addcmul_(probabilities, total, value=-1)


def entropy_and_gradient(probabilities: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the relative entropy `Σ P_a log(P_a / P_b)` over all rows of `[2, …, K]`, and its
    gradient in the logits, `P_a (r − Σ P_a r)` with `r = log(P_a / P_b)`, and `P_b − P_a`."""
    ratio = logs[0] - logs[1]
    weighted = probabilities[0] * ratio
    total = weighted.sum(-1, keepdim=True)
    first = weighted.sub_(probabilities[0] * total)
    return total.sum(), torch.stack([first, probabilities[1] - probabilities[0]])


class _JensenShannon(torch.autograd.Function):
    """The divergence of rows `[N, K]` of logits, with its gradient in closed form."""

    @staticmethod
    def forward(ctx, *logits: Tensor) -> Tensor:
        gradients = [torch.empty_like(x) for x in logits]
        divergence = 0
        for part in chunks(*logits[0].shape, logits[0].device):
            both = torch.stack([x[part] for x in logits])
            logs = F.log_softmax(both if both.dtype.itemsize >= 4 else both.float(), -1)
            value, slopes = divergence_and_gradient(logs.exp(), logs)
            divergence = divergence + value
            for gradient, slope in zip(gradients, slopes, strict=True):
                gradient[part] = slope
        ctx.save_for_backward(*gradients)
        return divergence / (2 * len(logits[0]))

    @staticmethod
    @differentiable_once
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, ...]:
        upstream = upstream / (2 * len(ctx.saved_tensors[0]))
        return tuple((upstream * gradient).to(gradient) for gradient in ctx.saved_tensors)
