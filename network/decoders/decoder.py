"""The contract of a decoder: features of a trunk in, logits of the image and losses out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from loss.consistency import jensen_shannon
from loss.cross_entropy import cross_entropy
from loss.upsampled import upsampled_losses
from network.regions.statistics import downsample_labels
from network.trunks.trunk import Trunk


class Decoder(nn.Module):
    """Segments the features of a trunk, and says how wrong that is.

    A decoder declares its settings in `settings`, a tree as in `config.py`, and in `defaults` where
    its recipe differs from the defaults of shared settings ({dotted key: value}). It is built as
    `Class(trunk, num_classes, cfg)`. `align_corners` says how its logits are upsampled, wherever
    that is done.

    Some decoders have parts that a method may replace:

    - `embed(features)`: the pixel embedding `[B, D, h, w]`, of what `pyramid` returns. It ends in
      the module `projection`, and the module `classifier` scores it; that has D `in_channels`. In
      training the output holds the `embedding`.
    - `deep(features)`: deep features `[B, D, h, w]` (D is `deep_channels`), of what `pyramid`
      returns. The module `context` acts on them before they are joined with shallow ones.
    """

    settings: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    small: dict[str, Any] = {}  # settings ({dotted key: value}) of a decoder for tests
    without_dropout: dict[str, Any] = {}  # settings that switch its dropout off
    remarks: Sequence[str] = ()  # what the log is to say of this network
    least_images = 1  # that it has to see at once in training, where batch norms are its own
    traced = True  # whether utils.export can trace it for images of any size
    waits = 0  # how often the host waits for the device in the losses of a pass
    # {layer: stride} that features are resized to if all layers of the trunk have one stride.
    wanted_strides: dict[int, int] = {}
    align_corners = False

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk_stride = trunk.strides[0] if len(set(trunk.strides)) == 1 else None
        wanted = {} if self.trunk_stride is None else self.wanted_strides
        # Of what `pyramid` returns.
        self.strides = [wanted.get(layer, stride) for layer, stride in enumerate(trunk.strides)]

    def pyramid(self, features: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """Bring features {i: `[B, C, h, w]`} to `wanted_strides` by bilinear interpolation.

        Those of a trunk that has several strides are returned as they are.
        """
        if self.trunk_stride is None:
            return features
        resized = dict(features)
        for layer, stride in self.wanted_strides.items():
            feature = features[layer]
            size = [max(1, side * self.trunk_stride // stride) for side in feature.shape[-2:]]
            resized[layer] = F.interpolate(feature, size, mode="bilinear", align_corners=False)
        return resized

    def forward(self, features: Mapping[int, Tensor], size: tuple[int, int]) -> Any:
        """Segment trunk features at the image `size` (H, W).

        The output's `logits` `[B, K, H, W]` have the posterior as their softmax.
        """
        raise NotImplementedError

    def losses(
        self, output: Any, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted losses of an output by name.

        `labels` `[B, H, W]` int64, 255 = void; `weight` `[B, H, W]` weighs pixels.
        """
        raise NotImplementedError

    def divergence(self, output: Any) -> Tensor:
        """Return the JS divergence between the predictions of the two halves of a batch."""
        return jensen_shannon(*output.logits.chunk(2))

    def paired_losses(
        self, output: Any, labels: Tensor, weight: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return `losses` and `divergence`; a decoder may compute both at once."""
        return self.losses(output, labels, weight), self.divergence(output)


@dataclass
class LogitOutput:
    """`small` `[B, K, h, w]`: logits at the decoder's own resolution; `size` (H, W) of the image.
    In training also `auxiliary` `[B, K, h', w']`, logits of an auxiliary head at its resolution, if
    there is one, and `embedding` `[B, D, h, w]`, the classifier's input."""

    small: Tensor
    size: tuple[int, int]
    align_corners: bool
    auxiliary: Tensor | None = None
    embedding: Tensor | None = None

    @cached_property
    def logits(self) -> Tensor:
        """`[B, K, H, W]`, made when they are asked for, which the losses do not."""
        options = {"mode": "bilinear", "align_corners": self.align_corners}
        return F.interpolate(self.small, self.size, **options)


class LogitDecoder(Decoder):
    """Base of decoders that score the pixels of a small map, whose logits are upsampled.

    A decoder of this kind defines `embed`, `projection` and `classifier`, and says the `stride` of
    its logits. It may define `auxiliary`, a head whose cross entropy counts `aux_weight`.
    """

    stride: int

    aux_weight = 0.0

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return the pixel embedding `[B, D, h, w]` of features at `wanted_strides`."""
        raise NotImplementedError

    def auxiliary(self, features: Mapping[int, Tensor]) -> Tensor | None:
        """Return logits `[B, K, h, w]` of the auxiliary head; default: there is none."""
        return None

    def forward(self, features: Mapping[int, Tensor], size: tuple[int, int]) -> LogitOutput:
        """Segment trunk features at the image `size` (H, W)."""
        features = self.pyramid(features)
        embedding = self.embed(features)
        small = self.classifier(embedding)
        if not self.training:
            return LogitOutput(small, size, self.align_corners)
        return LogitOutput(small, size, self.align_corners, self.auxiliary(features), embedding)

    def losses(
        self, output: LogitOutput, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the cross entropies "ce" and, with an auxiliary head, "aux", weighted.

        `labels` `[B, H, W]`, `weight` `[B, H, W]` as in `cross_entropy`. The auxiliary loss is
        taken at the head's own resolution against nearest-downsampled labels.
        """
        return self._losses(output, labels, weight, paired=False)[0]

    def paired_losses(
        self, output: LogitOutput, labels: Tensor, weight: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return `losses` and `divergence`, from one pass over the upsampled logits."""
        return self._losses(output, labels, weight, paired=True)

    def _losses(
        self, output: LogitOutput, labels: Tensor, weight: Tensor | None, paired: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        entropy, divergence = upsampled_losses(
            output.small, labels, weight, self.align_corners, paired
        )
        losses = {"ce": entropy}
        if output.auxiliary is not None:
            size = output.auxiliary.shape[-2:]
            small_weight = None if weight is None else downsample_labels(weight, size)
            small = downsample_labels(labels, size)
            losses["aux"] = self.aux_weight * cross_entropy(output.auxiliary, small, small_weight)
        return losses, divergence
