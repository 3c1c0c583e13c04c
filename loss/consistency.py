"""Prediction consistency between two streams: the Jensen-Shannon divergence."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements that a CPU works on at a time: a few copies of them stay in its cache.
CHUNK = 2**18


def jensen_shannon(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """JS divergence of two softmax predictions `[B, K, H, W]`, in nats, mean over all pixels.

    `½ KL(P_a‖M) + ½ KL(P_b‖M)` with `M = (P_a + P_b) / 2` clamped to `[1e-7, 1]` (SRHA's PCPC).
    Written as `p · (log_softmax − log M)`: `F.kl_div` has NaN gradients where a probability is
    exactly 0. Float32 at least; the gradient flows into both.
    """
    classes = logits_a.shape[1]
    rows = [x.permute(0, 2, 3, 1).reshape(-1, classes) for x in (logits_a, logits_b)]
    return _JensenShannon.apply(*rows)


class _JensenShannon(torch.autograd.Function):
    """The divergence of rows `[N, K]` of logits, with its gradient in closed form.

    `dJS / dP_a = ½ log(P_a / M)`, since the derivatives of log M cancel, and a softmax turns that
    into `½ P_a (r_a − Σ P_a r_a)` with `r_a = log(P_a / M)`. Autograd's own graph of the same
    formula keeps and walks through a dozen tensors of the size of the logits.
    """

    @staticmethod
    def forward(ctx, logits_a: Tensor, logits_b: Tensor) -> Tensor:
        pixels, classes = logits_a.shape
        gradients = [torch.empty_like(logits_a), torch.empty_like(logits_b)]
        divergence = 0
        size = max(1, CHUNK // classes) if logits_a.device.type == "cpu" else pixels
        for start in range(0, pixels, size):
            part = slice(start, start + size)
            logs = [F.log_softmax(_wide(x[part]), 1) for x in (logits_a, logits_b)]
            a, b = (log.exp() for log in logs)
            log_mixture = (a + b).mul_(0.5).clamp_(1e-7, 1).log_()
            for probability, log, gradient in zip((a, b), logs, gradients, strict=True):
                weighted = log.sub_(log_mixture).mul_(probability)
                total = weighted.sum(1, keepdim=True)
                divergence = divergence + total.sum()
                gradient[part] = weighted.addcmul_(probability, total, value=-1)
        ctx.save_for_backward(*gradients)
        return divergence / (2 * pixels)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gradient_a, gradient_b = ctx.saved_tensors
        upstream = upstream / (2 * len(gradient_a))
        return (upstream * gradient_a).to(gradient_a), (upstream * gradient_b).to(gradient_b)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()
