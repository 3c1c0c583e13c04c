"""Prediction consistency between two streams: the Jensen-Shannon divergence."""

import torch
import torch.nn.functional as F
from torch import Tensor


def jensen_shannon(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """JS divergence of two softmax predictions `[B, K, H, W]`, in nats, mean over all pixels.

    `½ KL(P_a‖M) + ½ KL(P_b‖M)` with `M = (P_a + P_b) / 2` clamped to `[1e-7, 1]` (SRHA's PCPC).
    Written as `p · (log_softmax − log M)`: `F.kl_div` has NaN gradients where a probability is
    exactly 0. Float32 at least; the gradient flows into both.
    """
    wide = [x if x.dtype.itemsize >= 4 else x.float() for x in (logits_a, logits_b)]
    return _JensenShannon.apply(*wide)


class _JensenShannon(torch.autograd.Function):
    """The divergence with its gradient in closed form.

    `dJS / dP_a = ½ log(P_a / M)`, since the derivatives of log M cancel, and a softmax turns that
    into `½ P_a (r_a − Σ P_a r_a)` with `r_a = log(P_a / M)`. Autograd's own graph of the same
    formula keeps and walks through a dozen tensors of the size of the logits.
    """

    @staticmethod
    def forward(ctx, logits_a: Tensor, logits_b: Tensor) -> Tensor:
        log_a, log_b = F.log_softmax(logits_a, dim=1), F.log_softmax(logits_b, dim=1)
        a, b = log_a.exp(), log_b.exp()
        log_mixture = (a + b).mul_(0.5).clamp_(1e-7, 1).log_()
        pixels = log_a.numel() // log_a.shape[1]
        divergence = log_a.new_zeros(())
        gradients = []
        for probability, ratio in ((a, log_a.sub_(log_mixture)), (b, log_b.sub_(log_mixture))):
            weighted = ratio.mul_(probability)
            total = weighted.sum(1, keepdim=True)
            divergence += total.sum() / (2 * pixels)
            gradients.append(weighted.addcmul_(probability, total, value=-1).div_(2 * pixels))
        ctx.save_for_backward(*gradients)
        return divergence

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gradient_a, gradient_b = ctx.saved_tensors
        return upstream * gradient_a, upstream * gradient_b
