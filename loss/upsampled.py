"""Cross entropy and prediction consistency of logits that are upsampled to the image on the way.

Upsampled logits, their softmax and their gradients are the largest tensors of a step: K numbers for
each pixel of the image. Here they exist for a few lines of the image at a time, on which both
losses and their gradients are computed, and the gradients are carried back to the small logits at
once. Exact: nothing is approximated by that.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loss.consistency import compare
from utils.chunks import chunks
from utils.labels import VOID


def upsampled_losses(
    logits: Tensor, labels: Tensor, weight: Tensor | None = None, paired: bool = False
) -> tuple[Tensor, Tensor]:
    """Return cross entropy and, if `paired`, JS divergence (else 0) of upsampled logits.

    `logits` `[B, K, h, w]` are upsampled bilinearly with aligned corners to the labels `[B, H, W]`
    int64, 255 = void. Cross entropy as in `loss.cross_entropy`, with `weight` `[B, H, W]` or
    without; the divergence as in `loss.consistency`, between the first and the second half of the
    batch, mean over all pixels of the image. Float32 at least.
    """
    valid = labels != VOID
    wide = torch.promote_types(logits.dtype, torch.float32)
    if weight is None:
        share, divisor = valid.to(wide), valid.sum().clamp_min(1)
    else:
        share, divisor = (valid * weight).to(wide), labels.numel()
    target = labels.masked_fill(~valid, 0)
    entropy, divergence = _UpsampledLosses.apply(logits, target, share, paired)
    return entropy / divisor, divergence / labels.numel()


class _Axis(NamedTuple):
    """Where each output coordinate of an axis lies between two input coordinates."""

    low: Tensor
    high: Tensor
    fraction: Tensor

    @classmethod
    def of(cls, inside: int, outside: int, device: torch.device, dtype: torch.dtype) -> "_Axis":
        position = torch.linspace(0, inside - 1, outside, device=device, dtype=torch.float64)
        low = position.long().clamp(max=max(inside - 2, 0))
        return cls(low, (low + 1).clamp(max=inside - 1), (position - low).to(dtype)[:, None])


class _Lines:
    """Bilinear upsampling of `[B, h, w, K]` to some lines of `[B, H, W, K]`, and its transpose.

    The lines of all images are numbered through: `[B * h, w, K]` and `[B * H, W, K]`.
    """

    def __init__(self, small: tuple[int, ...], size: tuple[int, int], like: Tensor):
        batch, height, width, _ = small
        device, self.dtype = like.device, torch.promote_types(like.dtype, torch.float32)
        self.x = _Axis.of(width, size[1], device, self.dtype)
        y = _Axis.of(height, size[0], device, self.dtype)
        offset = height * torch.arange(batch, device=device)[:, None]
        fraction = y.fraction.repeat(batch, 1)[:, None]
        self.y = _Axis((offset + y.low).flatten(), (offset + y.high).flatten(), fraction)

    def enlarge(self, lines: Tensor, part: Tensor) -> Tensor:
        """Return the lines numbered `part` `[n]` of the upsampled images: `[n, W, K]`."""
        low, high = (lines.index_select(0, y[part]).to(self.dtype) for y in self.y[:2])
        line = low.lerp_(high, self.y.fraction[part])
        left, right = (line.index_select(1, x) for x in self.x[:2])
        return left.lerp_(right, self.x.fraction)

    def reduce_into(self, lines: Tensor, gradient: Tensor, part: Tensor) -> None:
        """Add the gradients `[G, n, W, K]` of lines `part` to `[G, B * h, w, K]`; they are
        overwritten."""
        kinds, number = gradient.shape[:2]
        gradient = gradient.flatten(0, 1)
        line = gradient.new_zeros(kinds * number, *lines.shape[2:])
        upper = gradient * self.x.fraction
        line.index_add_(1, self.x.high, upper)
        line.index_add_(1, self.x.low, gradient.sub_(upper))
        line = line.view(kinds, number, *lines.shape[2:])
        upper = line * self.y.fraction[part]
        lines.index_add_(1, self.y.high[part], upper)
        lines.index_add_(1, self.y.low[part], line.sub_(upper))


class _UpsampledLosses(torch.autograd.Function):
    """Sums of both losses over all pixels, and their gradients at the size of the small logits."""

    @staticmethod
    def forward(ctx, logits, target, share, paired):
        small = logits.permute(0, 2, 3, 1).contiguous()
        lines, classes = small.flatten(0, 1), small.shape[-1]
        streams, size = 1 + paired, target.shape[-2:]
        sampling = _Lines(small.shape, size, logits)
        target, share = (x.reshape(-1, size[1], 1) for x in (target, share))
        number = len(target) // streams
        # Lines of the second stream stand `number` behind those of the first.
        order = torch.arange(len(target), device=logits.device).view(streams, number)
        gradients = lines.new_zeros(1 + paired, *lines.shape, dtype=sampling.dtype)
        entropy = divergence = gradients.new_zeros(())
        for part in chunks(number, streams * size[1] * classes, logits.device):
            own = order[:, part].flatten()
            logs = sampling.enlarge(lines, own).log_softmax(-1)
            slopes = torch.empty((1 + paired, *logs.shape), dtype=logs.dtype, device=logs.device)
            probabilities = torch.exp(logs, out=slopes[0])
            own_target, own_share = target[own], share[own]
            entropy = entropy - (logs.gather(-1, own_target) * own_share).sum()
            if paired:
                pairs = (x.view(2, -1, *x.shape[1:]) for x in (probabilities, logs, slopes[1]))
                divergence = divergence + compare(*pairs)
            probabilities.mul_(own_share).scatter_add_(-1, own_target, -own_share)
            sampling.reduce_into(gradients, slopes, own)
        ctx.save_for_backward(gradients)
        ctx.shape, ctx.dtype = small.shape, logits.dtype
        return entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream):
        (gradients,) = ctx.saved_tensors
        # Of the two `upstream`, the divergence's means nothing where it was not computed.
        total = sum(u * own for u, own in zip(upstream, gradients, strict=False))
        total = total.view(ctx.shape).permute(0, 3, 1, 2)
        return total.to(ctx.dtype), None, None, None
