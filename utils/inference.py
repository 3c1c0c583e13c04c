"""From a network to one prediction per image: scales, flips, sliding windows."""

from collections.abc import Callable, Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def predict(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    sliding: Sequence[int] = (0, 0),
) -> Tensor:
    """Return the argmax `[B, h, w]` int64 at `size` (h, w) of a network's logits.

    `network` maps images `[B, 3, H, W]` to logits `[B, K, H, W]`. With several `scales`, or `flip`,
    the softmax probabilities of all versions are averaged at `size`. `sliding` = (crop, stride) in
    pixels segments windows of crop² and averages the logits where they overlap.
    """
    versions = [(scale, mirrored) for scale in scales for mirrored in ([False, True][: 1 + flip])]
    total: Tensor | float = 0.0
    for scale, mirrored in versions:
        view = (
            images if scale == 1 else _resize(images, [round(scale * s) for s in images.shape[2:]])
        )
        view = view.flip(3) if mirrored else view
        logits = slide(network, view, *sliding) if sliding[0] else network(view)
        logits = _resize(logits.flip(3) if mirrored else logits, size)
        if len(versions) == 1:
            return logits.argmax(1)
        total = total + logits.float().softmax(1)
    return total.argmax(1)


def slide(network: Network, images: Tensor, crop: int, stride: int) -> Tensor:
    """Logits `[B, K, H, W]` from windows of crop², averaged where they overlap.

    Windows start every `stride` pixels; the last of a row and column ends at the image's edge.
    """
    height, width = images.shape[2:]
    total = counts = None
    for top in window_starts(height, crop, stride):
        for left in window_starts(width, crop, stride):
            logits = network(images[:, :, top : top + crop, left : left + crop]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
                counts = logits.new_zeros(height, width)
            total[:, :, top : top + crop, left : left + crop] += logits
            counts[top : top + crop, left : left + crop] += 1
    return total / counts


def window_starts(length: int, crop: int, stride: int) -> Iterator[int]:
    """Where windows of `crop` start on a side of `length` so that they cover all of it."""
    last = max(0, length - crop)
    yield from range(0, last, stride)
    yield last


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
