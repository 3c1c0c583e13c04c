"""How images are seen in training and labelling: as they are, or by HRDA (arXiv 2204.13132).

A view works on a mapping of parts, trunk and decoder and what else it needs, of student or teacher.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from network.inference import cropped, resize
from network.regions.statistics import widened
from network.self_training.boxes import (
    Box,
    draw_box,
    gather,
    shown_sides,
    spread,
    window_spans,
)
from utils.errors import UserError

Parts = Mapping[str, nn.Module]


@dataclass
class Seen:
    """What a view made of a training batch: the `decoded` output of its decoder, and the trunk's
    `features` {i: `[B, C_i, h_i, w_i]`} of `images` `[B, 3, H', W']`. Of several scales, the latter
    are the context's, and `detail` is the decoder's output of the rectangle `box`."""

    images: Tensor
    features: dict[int, Tensor]
    decoded: Any
    detail: Any = None
    box: Box | None = None


class SingleScale:
    """Images as they are. `after` is that of the method, see `Trunk.forward`."""

    after: Mapping[int, Callable[[Tensor], Tensor]] = {}

    def features(self, parts: Parts, images: Tensor) -> dict[int, Tensor]:
        """Return the trunk's features of images `[B, 3, H, W]`, those that `Seen` has."""
        return parts["trunk"](images, after=self.after)

    def train(self, parts: Parts, images: Tensor) -> Seen:
        """Segment images `[B, 3, H, W]` whose sides are multiples of the trunk's `multiple`."""
        features = parts["trunk"](images, after=self.after)
        return Seen(images, features, parts["decoder"](features, images.shape[-2:]))

    def losses(
        self, parts: Parts, seen: Seen, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the decoder's losses; `labels`, `weight` `[B, H, W]` as in `Decoder.losses`."""
        return parts["decoder"].losses(seen.decoded, labels, weight)

    def predict(self, parts: Parts, images: Tensor) -> Tensor:
        """Return logits `[B, K, H, W]` of images `[B, 3, H, W]` of any size."""
        multiple = parts["trunk"].multiple
        decoded = self.train(parts, _padded(images, multiple)).decoded
        return cropped(decoded.logits, images.shape[-2:], multiple)


class MultiScale(SingleScale):
    """A context at half the size, and details at full size where attention wants them (HRDA).

    `detail` (h, w): size of the detail crops in pixels, or the image's where that is smaller;
    `stride`: that of the logits of the decoder, a `LogitDecoder`; `multiple`: the trunk's.
    `parts["attention"]` maps the trunk's features to scores `[B, K or 1, h, w]` of the context's
    logits. `fused = up((1 − a) z_c) + up(a) z_d` with `a = σ(scores)` (eq. 6), and the loss is
    `(1 − detail_weight) CE(fused) + detail_weight CE(z_d)` (eq. 9). UserError for a detail crop
    that is not made of whole cells.
    """

    def __init__(
        self, detail: Sequence[int], stride: int, multiple: int = 1, detail_weight: float = 0.1
    ):
        self.detail, self.stride, self.detail_weight = tuple(detail), stride, detail_weight
        self.unit = 2 * math.lcm(stride, multiple)
        _check_sides("HRDA.DETAIL", self.detail, math.lcm(2 * stride, multiple))

    def train(self, parts: Parts, images: Tensor) -> Seen:
        """Segment images `[B, 3, H, W]`, and a detail crop at a place that they share.

        UserError for sides that are no multiples of `unit`, 2 lcm(stride, multiple).
        """
        size = images.shape[-2:]
        _check_sides("TRANSFORM.CROP_SIZE", size, self.unit)
        box = draw_box(self.detail, size, 2 * self.stride)
        seen, attention = self._context(parts, images)
        detail = super().train(parts, box.crop(images)).decoded
        # Outside the box there is no detail to attend to.
        cells = box.divided(2 * self.stride)
        attention = cells.put(cells.crop(attention), attention.shape[-2:])
        logits = box.divided(self.stride).put(detail.small, self._cells(size))
        fused = fuse(seen.decoded.small, attention, logits)
        decoded = replace(seen.decoded, small=fused, size=size)
        return replace(seen, decoded=decoded, detail=detail, box=box)

    def losses(
        self, parts: Parts, seen: Seen, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the decoder's losses of the fused logits, and as "detail_…" of the detail crop.

        `labels`, `weight` `[B, H, W]` as in `Decoder.losses`.
        """
        decoder, box = parts["decoder"], seen.box
        fused = decoder.losses(seen.decoded, labels, weight)
        cropped = None if weight is None else box.crop(weight)
        detail = decoder.losses(seen.detail, box.crop(labels), cropped)
        losses = {name: (1 - self.detail_weight) * loss for name, loss in fused.items()}
        return losses | {f"detail_{name}": self.detail_weight * x for name, x in detail.items()}

    def predict(self, parts: Parts, images: Tensor) -> Tensor:
        """Return logits `[B, K, H, W]` of images `[B, 3, H, W]` of any size.

        Detail crops start every half of their size and are one batch; their logits are averaged
        where they overlap.
        """
        height, width = images.shape[-2:]
        images = _padded(images, self.unit)
        size = images.shape[-2:]
        seen, attention = self._context(parts, images)
        shown, cells = shown_sides(self.detail, size), self._cells(size)
        spans = [window_spans(*s, images.device) for s in zip(shown, size, strict=True)]
        logits = super().train(parts, gather(images, *spans)).decoded.small
        spans = [places[:, :: self.stride] // self.stride for places in spans]
        logits = spread(logits.to(widened(logits.dtype)), *spans, cells)
        fused = fuse(seen.decoded.small, attention, logits)
        return replace(seen.decoded, small=fused, size=size).logits[..., :height, :width]

    def features(self, parts: Parts, images: Tensor) -> dict[int, Tensor]:
        """Return the trunk's features of images `[B, 3, H, W]` at half their size."""
        return super().features(parts, _halved(images))

    def _cells(self, size: Sequence[int]) -> list[int]:
        """Return the size of the logits of an image."""
        return [side // self.stride for side in size]

    def _context(self, parts: Parts, images: Tensor) -> tuple[Seen, Tensor]:
        """Return what is seen of images at half their size, and the attention there."""
        seen = super().train(parts, _halved(images))
        attention = parts["attention"](seen.features)
        attention = attention.to(widened(attention.dtype)).sigmoid()
        return seen, resize(attention, seen.decoded.small.shape[-2:])


def fuse(context: Tensor, attention: Tensor, detail: Tensor) -> Tensor:
    """Return `up((1 − a) z_c) + up(a) z_d` `[B, K, 2 h, 2 w]`, in float32 at least (HRDA, eq. 6).

    `context` `[B, K, h, w]` and `detail` `[B, K, 2 h, 2 w]` are logits, `attention` `[B, K or 1, h,
    w]` lies in [0, 1].
    """
    size, wide = detail.shape[-2:], widened(detail.dtype)
    return resize((1 - attention) * context.to(wide), size) + resize(attention, size) * detail


def _halved(images: Tensor) -> Tensor:
    return resize(images, [side // 2 for side in images.shape[-2:]])


def _padded(images: Tensor, multiple: int) -> Tensor:
    """Pad images at bottom and right, by zeros (the mean colour), to multiples of a number."""
    bottom, right = (-side % multiple for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, bottom)) if multiple > 1 else images


def _check_sides(name: str, size: Sequence[int], unit: int) -> None:
    """Raise UserError for sides that are no multiples of `unit`."""
    if any(side % unit for side in size):
        following = ",".join(str(side + -side % unit) for side in size)
        raise UserError(
            f"{name} {size[0]},{size[1]} is no multiple of {unit}, which a network that sees "
            f"images at two scales needs; the next one is {following}"
        )
