"""Cross entropy with void pixels and optional pixel weights."""

import torch.nn.functional as F
from torch import Tensor

from utils.labels import VOID


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross entropy of logits `[B, K, h, w]` against labels `[B, h, w]` int64, 255 = void.

    Without `weight`: the mean over valid pixels, `sum / max(count, 1)`, so that a batch of void
    gives 0 and not NaN. With `weight` `[B, h, w]`: the weighted sum over all pixels divided by the
    number of all pixels, void included (DACS, self-training). Computed on `[N, K]` in float32: the
    two-dimensional form has no deterministic backward on GPUs.
    """
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    rows = rows if rows.dtype.itemsize >= 4 else rows.float()
    labels = labels.reshape(-1)
    if weight is None:
        total = F.cross_entropy(rows, labels, ignore_index=VOID, reduction="sum")
        return total / (labels != VOID).sum().clamp_min(1)
    pixels = F.cross_entropy(rows, labels, ignore_index=VOID, reduction="none")
    return (pixels * weight.reshape(-1)).mean()
