"""Prediction consistency between two streams: the Jensen-Shannon divergence."""

import torch.nn.functional as F
from torch import Tensor


def jensen_shannon(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """JS divergence of two softmax predictions `[B, K, H, W]`, in nats, mean over all pixels.

    `½ KL(P_a‖M) + ½ KL(P_b‖M)` with `M = (P_a + P_b) / 2` clamped to `[1e-7, 1]` (SRHA's PCPC).
    Written as `p · (log_softmax − log M)`: `F.kl_div` has NaN gradients where a probability is
    exactly 0. Float32 at least; the gradient flows into both.
    """
    wide = [x if x.dtype.itemsize >= 4 else x.float() for x in (logits_a, logits_b)]
    log_a, log_b = (F.log_softmax(x, dim=1) for x in wide)
    a, b = log_a.exp(), log_b.exp()
    log_mixture = ((a + b) / 2).clamp(1e-7, 1).log()
    pointwise = a * (log_a - log_mixture) + b * (log_b - log_mixture)
    return pointwise.sum(1).mean() / 2
