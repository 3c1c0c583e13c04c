"""From a network to one prediction per image: scales, flips, sliding windows.

Beside what the network returns, a prediction holds the logits at the label's size in float32
(19 classes at 2048×1024: 160 MB an image). With several scales or flips, their softmax and the sum
of the probabilities are two more tensors of that size, whatever the number of versions. Sliding
windows hold the sum of their logits at the image's size.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
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
    """Return the argmax `[B, h, w]` uint8 at `size` (h, w) of a network's logits.

    `network` maps images `[B, 3, H, W]` to logits `[B, K, H, W]`, K at most 256, which are resized
    by bilinear interpolation. With several `scales`, or `flip`, the softmax probabilities of all
    versions are averaged at `size`. `sliding` = (crop, stride) in pixels segments windows of crop²
    and averages the logits where they overlap.
    """
    return _scores(network, images, size, scales, flip, sliding)[0].argmax(1).byte()


def predict_with_confidence(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    sliding: Sequence[int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """Return what `predict` does, and the probability of each predicted class, float32 `[B, h, w]`:
    the softmax, with several versions their mean."""
    scores, versions = _scores(network, images, size, scales, flip, sliding)
    largest, labels = scores.max(1)
    if versions == 1:
        # The softmax of the largest logit.
        return labels.byte(), (largest - scores.logsumexp(1)).exp()
    return labels.byte(), largest / versions


def _scores(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    flip: bool,
    sliding: Sequence[int],
) -> tuple[Tensor, int]:
    """Return logits `[B, K, h, w]` at `size` in float32 and 1, or of several versions of the images
    the sum of their probabilities and their number."""
    versions = [(scale, mirrored) for scale in scales for mirrored in ([False, True][: 1 + flip])]
    if len(versions) == 1:
        return _logits(network, images, size, *versions[0], sliding), 1
    total = _logits(network, images, size, *versions[0], sliding).softmax(1)
    for version in versions[1:]:
        total += _logits(network, images, size, *version, sliding).softmax(1)
    return total, len(versions)


def _logits(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scale: float,
    mirrored: bool,
    sliding: Sequence[int],
) -> Tensor:
    """Return the logits `[B, K, h, w]` at `size` of one version of the images, in float32."""
    view = resize(images, scaled_size(images.shape[2:], scale))
    view = view.flip(3) if mirrored else view
    logits = slide(network, view, *sliding) if sliding[0] else network(view)
    logits = resize(logits.float(), size)
    return logits.flip(3) if mirrored else logits


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """Return the size in pixels at which an image of `size` is seen at a scale."""
    return [max(1, round(scale * side)) for side in size]


def slide(network: Network, images: Tensor, crop: int, stride: int) -> Tensor:
    """Return logits `[B, K, H, W]` from windows of crop², averaged where windows overlap.

    Windows start every `stride` pixels; the last of a row and column ends at the image's edge.
    """
    height, width = images.shape[2:]
    total = None
    counts = images.new_zeros(height, width, dtype=torch.float32)
    for top in window_starts(height, crop, stride):
        for left in window_starts(width, crop, stride):
            window = ..., slice(top, top + crop), slice(left, left + crop)
            logits = network(images[window]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[window] += logits
            counts[window] += 1
    return total.div_(counts)


def window_starts(length: int, crop: int, stride: int) -> Iterator[int]:
    """Where windows of `crop` start on a side of `length` so that they cover all of it."""
    last = max(0, length - crop)
    yield from range(0, last, stride)
    yield last


def cropped(x: Tensor, size: Sequence[int], multiple: int) -> Tensor:
    """Cut what was padded to a `multiple`, `[B, C, H, W]`, at bottom and right to (h, w)."""
    height, width = size
    if multiple > 1 and torch.compiler.is_exporting():
        # A view would make a difference between images that are cut and those that are not.
        rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
        return x.index_select(2, rows).index_select(3, columns)
    return x[..., :height, :width]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images or logits `[B, C, H, W]` to (h, w) by bilinear interpolation, without
    antialiasing."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
