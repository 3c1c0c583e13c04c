"""From a network to one prediction per image: scales, flips, sliding windows.

Logits at the size of a label are never there all at once: they are resized, turned into
probabilities and compared in bands of rows. Beside what the network itself returns, a prediction
takes a few bands, and with several scales or flips one sum of probabilities at the label's size,
whatever their number. Sliding windows hold the logits of one row of windows.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]

BAND = 2**20  # logits that are resized at once: 4 MiB of float32


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
    return _predict(network, images, size, scales, flip, sliding)


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
    confidence = images.new_empty(len(images), *size, dtype=torch.float32)
    prediction = _predict(network, images, size, scales, flip, sliding, confidence)
    return prediction, confidence


def _predict(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scales: Sequence[float],
    flip: bool,
    sliding: Sequence[int],
    confidence: Tensor | None = None,
) -> Tensor:
    """Return the argmax, and fill `confidence` if it is given."""
    versions = [(scale, mirrored) for scale in scales for mirrored in ([False, True][: 1 + flip])]
    prediction = images.new_empty(len(images), *size, dtype=torch.uint8)
    total: Tensor | None = None
    for version in versions:
        for rows, band in _logits(network, images, size, *version, sliding):
            if len(versions) == 1:
                prediction[:, rows] = band.argmax(1)
                if confidence is not None:
                    # The softmax of the largest logit.
                    confidence[:, rows] = (band.amax(1) - band.logsumexp(1)).exp()
                continue
            if total is None:
                total = band.new_zeros(*band.shape[:2], *size)
            total[:, :, rows] += band.softmax(1)
        del band  # It may be a view of all logits, which the next version must not find there.
    if total is not None:
        for rows in bands(total.shape, size):
            prediction[:, rows] = total[:, :, rows].argmax(1)
            if confidence is not None:
                confidence[:, rows] = total[:, :, rows].amax(1) / len(versions)
    return prediction


def _logits(
    network: Network,
    images: Tensor,
    size: tuple[int, int],
    scale: float,
    mirrored: bool,
    sliding: Sequence[int],
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, logits `[B, K, rows, w]` at `size`) of one version of the images."""
    view = resize(images, scaled_size(images.shape[2:], scale))
    view = view.flip(3) if mirrored else view
    if sliding[0]:
        strips = slide(network, view, *sliding)
        height = view.shape[2]
    else:
        logits = network(view)
        strips, height = iter([logits]), logits.shape[2]
    for rows, band in resized_bands(strips, height, size):
        yield rows, band.flip(3) if mirrored else band


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """Return the size in pixels at which an image of `size` is seen at a scale."""
    return [round(scale * side) for side in size]


def slide(network: Network, images: Tensor, crop: int, stride: int) -> Iterator[Tensor]:
    """Yield logits `[B, K, rows, W]`, from top to bottom, of windows of crop².

    Where windows overlap their logits are averaged; rows are yielded as soon as no window adds to
    them. Windows start every `stride` pixels; the last of a row and column ends at the image's
    edge.
    """
    height, width = images.shape[2:]
    tops = list(window_starts(height, crop, stride))
    shared: tuple[Tensor, Tensor] | None = None
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        total = counts = None
        for left in window_starts(width, crop, stride):
            logits = network(images[:, :, top : top + crop, left : left + crop]).float()
            if total is None:
                rows = logits.shape[2]
                total = logits.new_zeros(*logits.shape[:2], rows, width)
                counts = logits.new_zeros(rows, width)
                if shared is not None:
                    total[:, :, : shared[0].shape[2]], counts[: len(shared[1])] = shared
            total[..., left : left + crop] += logits
            counts[:, left : left + crop] += 1
        done = following - top
        shared = total[:, :, done:].clone(), counts[done:].clone()
        yield total[:, :, :done].div_(counts[:done])


def window_starts(length: int, crop: int, stride: int) -> Iterator[int]:
    """Where windows of `crop` start on a side of `length` so that they cover all of it."""
    last = max(0, length - crop)
    yield from range(0, last, stride)
    yield last


def resized_bands(
    strips: Iterator[Tensor], height: int, size: tuple[int, int]
) -> Iterator[tuple[slice, Tensor]]:
    """Resize logits that come as strips `[B, K, rows, W]` of together `height` rows to `size`.

    Yields (rows of the result, float32 logits `[B, K, rows, w]`) from top to bottom: the bands of
    what `resize` makes of the whole. Strips are asked for when a band needs them.
    """
    above, below, weight = row_weights(height, size[0])
    held, first = next(strips), 0
    for rows in bands((*held.shape[:2], height, held.shape[3]), size):
        last = int(below[rows.stop - 1])
        while first + held.shape[2] <= last:
            held = torch.cat([held, next(strips)], dim=2)
        held, first = held[:, :, int(above[rows.start]) - first :], int(above[rows.start])
        needed = held[:, :, : last + 1 - first].float()
        needed = resize(needed, (needed.shape[2], size[1]))
        if height != size[0]:
            upper = needed[:, :, (above[rows] - first).to(needed.device)]
            lower = needed[:, :, (below[rows] - first).to(needed.device)]
            share = weight[rows, None].to(needed.device)
            needed = upper.mul_(1 - share).add_(lower.mul_(share))
        yield rows, needed


def row_weights(height: int, new_height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which two rows of `height` each row of `new_height` lies between, and the share of
    the lower one, as bilinear interpolation without aligned corners has them."""
    # Rounded to float32 where the kernels of `F.interpolate` round that fuse multiply and add.
    scale = torch.tensor(height / new_height, dtype=torch.float32).item()
    centres = torch.arange(new_height, dtype=torch.float64) + 0.5
    position = (centres * scale - 0.5).float().clamp(min=0)
    above = position.long().clamp(max=height - 1)
    share = position - above
    return above, (above + (share > 0)).clamp(max=height - 1), share


def bands(shape: Sequence[int], size: tuple[int, int]) -> Iterator[slice]:
    """Part the rows of `size` so that resizing `shape` [B, K, H, W] to one takes about BAND
    logits."""
    number, classes, height, width = shape
    rows_per_row = max(1.0, height / size[0])
    row = number * classes * max(width, size[1]) * rows_per_row
    step = max(1, int(BAND / row))
    for start in range(0, size[0], step):
        yield slice(start, min(start + step, size[0]))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images or logits `[B, C, H, W]` to (h, w) by bilinear interpolation, without
    antialiasing."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
