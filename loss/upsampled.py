"""Cross entropy and prediction consistency of logits that are upsampled to the image on the way.

Upsampled logits, their softmax and their gradients are the largest tensors of a step: K numbers for
each pixel of the image. Here they exist for a few lines of the image at a time, on which both
losses and their gradients are computed, and the gradients are carried back to the small logits at
once. Exact: nothing is approximated by that.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from loss.consistency import divergence_and_gradient, entropy_and_gradient
from utils.autograd import differentiable_once
from utils.chunks import chunks
from utils.labels import VOID


def upsampled_losses(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    align_corners: bool = False,
    paired: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return cross entropy and, if `paired`, JS divergence (else 0) of upsampled logits.

    `logits` `[B, K, h, w]` are upsampled bilinearly, `align_corners` as in `F.interpolate`, to the
    labels `[B, H, W]` int64, 255 = void. Cross entropy as in `loss.cross_entropy`, with `weight`
    `[B, H, W]` or without; the divergence as in `loss.consistency`, between the first and the
    second half of the batch, mean over all pixels of the image. Float32 at least. The gradient
    cannot be differentiated again.
    """
    valid = labels != VOID
    wide = torch.promote_types(logits.dtype, torch.float32)
    if weight is None:
        share, divisor = valid.to(wide), valid.sum().clamp_min(1)
    else:
        share, divisor = (valid * weight).to(wide), labels.numel()
    target = labels.masked_fill(~valid, 0)
    pair, size = divergence_and_gradient if paired else None, labels.shape[-2:]
    entropy, divergence = _UpsampledLosses.apply(logits, target, share, size, align_corners, pair)
    return entropy / divisor, divergence / labels.numel()


def upsampled_relative_entropy(
    logits: Tensor, others: Tensor, size: tuple[int, int], align_corners: bool = False
) -> Tensor:
    """Return `KL(P‖Q)` in nats, a mean over all pixels of the image, of the softmax of two logits
    `[B, K, h, w]` that are upsampled bilinearly to `size`. Gradients go into both, once."""
    both = torch.cat([logits, others])
    options = (None, None, size, align_corners, entropy_and_gradient)
    return _UpsampledLosses.apply(both, *options)[1] / (len(logits) * size[0] * size[1])


class _Axis(NamedTuple):
    """Where each output coordinate of an axis lies between two input coordinates."""

    low: Tensor
    high: Tensor
    fraction: Tensor

    @classmethod
    def of(cls, inside: int, outside: int, align_corners: bool, like: Tensor) -> "_Axis":
        """Place `outside` coordinates among `inside` ones; `fraction` `[outside, 1]` is of the
        dtype of `like`."""
        options = {"device": like.device, "dtype": torch.float64}
        if align_corners:
            position = torch.linspace(0, inside - 1, outside, **options)
        else:
            centre = torch.arange(outside, **options) + 0.5
            position = (centre * inside / outside - 0.5).clamp(0, inside - 1)
        low = position.long().clamp(max=max(inside - 2, 0))
        return cls(low, (low + 1).clamp(max=inside - 1), (position - low).to(like.dtype)[:, None])


class _Lines:
    """Bilinear upsampling of `[B, h, w, K]` to some lines of `[B, H, W, K]`, and its transpose.

    The lines of all images are numbered through: `[B * h, w, K]` and `[B * H, W, K]`.
    """

    def __init__(
        self, small: tuple[int, ...], size: tuple[int, int], align_corners: bool, like: Tensor
    ):
        """`small` is (B, h, w, K), `size` (H, W); results have the dtype of `like`."""
        batch, height, width, _ = small
        self.dtype = like.dtype
        self.x = _Axis.of(width, size[1], align_corners, like)
        y = _Axis.of(height, size[0], align_corners, like)
        offset = height * torch.arange(batch, device=like.device)[:, None]
        fraction = y.fraction.repeat(batch, 1)[:, None]
        self.y = _Axis((offset + y.low).flatten(), (offset + y.high).flatten(), fraction)

    def enlarge(self, lines: Tensor, part: Tensor) -> Tensor:
        """Return the lines numbered `part` `[n]` of the upsampled images: `[n, W, K]`."""
        low, high = (lines.index_select(0, y[part]).to(self.dtype) for y in self.y[:2])
        line = low.lerp_(high, self.y.fraction[part])
        left, right = (line.index_select(1, x) for x in self.x[:2])
        return left.lerp_(right, self.x.fraction)

    def reduce_into(self, lines: Tensor, gradient: Tensor, part: Tensor) -> None:
        """Add the gradient `[n, W, K]` of lines `part`, which is overwritten, to
        `[B * h, w, K]`."""
        line = gradient.new_zeros(len(gradient), *lines.shape[1:])
        upper = gradient * self.x.fraction
        line.index_add_(1, self.x.high, upper)
        line.index_add_(1, self.x.low, gradient.sub_(upper))
        upper = line * self.y.fraction[part]
        lines.index_add_(0, self.y.high[part], upper)
        lines.index_add_(0, self.y.low[part], line.sub_(upper))


class _UpsampledLosses(torch.autograd.Function):
    """Sums of both losses over all pixels, and their gradients at the size of the small logits."""

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        target: Tensor | None,
        share: Tensor | None,
        size: tuple[int, int],
        align_corners: bool,
        pair: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
    ):
        """Without a `target` there is no cross entropy, without a `pair`, which compares the halves
        of a batch, no divergence."""
        small = logits.permute(0, 2, 3, 1).contiguous()
        lines, classes = small.flatten(0, 1), small.shape[-1]
        streams = 1 if pair is None else 2
        like = small.new_empty(0, dtype=torch.promote_types(small.dtype, torch.float32))
        sampling = _Lines(small.shape, size, align_corners, like)
        number = len(small) * size[0] // streams
        # Lines of the second stream stand `number` behind those of the first.
        order = torch.arange(streams * number, device=logits.device).view(streams, number)
        entropy = divergence = like.new_zeros(())
        gradients = [None if x is None else like.new_zeros(lines.shape) for x in (target, pair)]
        if target is not None:
            target, share = (x.reshape(-1, size[1], 1) for x in (target, share))
        for part in chunks(number, streams * size[1] * classes, logits.device):
            own = order[:, part].flatten()
            logs = sampling.enlarge(lines, own).log_softmax(-1)
            probabilities = logs.exp()
            if target is not None:
                own_target, own_share = target[own], share[own]
                entropy = entropy - (logs.gather(-1, own_target) * own_share).sum()
            if pair is not None:
                value, slope = pair(*(x.unflatten(0, (2, -1)) for x in (probabilities, logs)))
                divergence = divergence + value
                sampling.reduce_into(gradients[1], slope.flatten(0, 1), own)
            if target is not None:
                # The gradient of cross entropy: the probabilities, less one for the class.
                slope = probabilities.mul_(own_share).scatter_add_(-1, own_target, -own_share)
                sampling.reduce_into(gradients[0], slope, own)
        used = [i for i, there in enumerate((target, pair)) if there is not None]
        ctx.used = used
        ctx.save_for_backward(*(gradients[i] for i in used))
        ctx.shape, ctx.dtype = small.shape, logits.dtype
        return entropy, divergence

    @staticmethod
    @differentiable_once
    def backward(ctx, *upstream):
        gradients = zip(ctx.used, ctx.saved_tensors, strict=True)
        total = sum(upstream[i] * own for i, own in gradients)
        total = total.view(ctx.shape).permute(0, 3, 1, 2)
        return total.to(ctx.dtype), None, None, None, None, None
