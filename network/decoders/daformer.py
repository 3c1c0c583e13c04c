"""The heads of DAFormer (arXiv 2111.14887) and of HRDA's attention (arXiv 2204.13132).

Both bring layers 1–4 to one width and the resolution of layer 1, side by side, and score what they
make of that: DAFormer by dilated convolutions, the attention by a single 1×1 convolution.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from network.decoders.convolutions import conv_norm
from network.decoders.decoder import LogitDecoder
from network.trunks.trunk import Trunk
from utils.settings import Setting

RATES = (6, 12, 18)  # dilation at stride 4


class SeparableASPP(nn.Module):
    """A 1×1 and three depthwise separable, dilated 3×3 convolutions, without image pooling; then
    3×3."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        branches = [conv_norm(inside, outside, 1)]
        branches += [
            conv_norm(inside, inside, 3, rate, groups=inside) + conv_norm(inside, outside, 1)
            for rate in RATES
        ]
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.bottleneck = nn.Sequential(*conv_norm(outside * len(branches), outside, 3))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inside, h, w]` to `[B, outside, h, w]`."""
        return self.bottleneck(torch.cat([branch(x) for branch in self.branches], dim=1))


class JoinedLayers(LogitDecoder):
    """Layers 1–4 side by side, `fusion` of them to `width` channels, and a 1×1 classifier."""

    wanted_strides = {1: 4}

    def __init__(
        self, trunk: Trunk, num_classes: int, width: int, fusion: nn.Module, dropout: float
    ):
        super().__init__(trunk)
        self.stride = self.strides[1]
        self.layers = nn.ModuleList(nn.Conv2d(inside, width, 1) for inside in trunk.channels[1:])
        self.fusion = fusion
        self.dropout = nn.Dropout2d(dropout)
        self.projection: nn.Module = nn.Identity()
        self.classifier: nn.Module = nn.Conv2d(width, num_classes, 1)
        for module in fusion.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return the pixel embedding `[B, D, h, w]` at the resolution of layer 1."""
        size, options = features[1].shape[-2:], {"mode": "bilinear", "align_corners": False}
        # No name for the parts: they would be kept while the whole is worked on.
        joined = torch.cat(
            [
                F.interpolate(layer(features[i]), size, **options)
                for i, layer in enumerate(self.layers, start=1)
            ],
            dim=1,
        )
        return self.projection(self.dropout(self.fusion(joined)))


class DAFormer(JoinedLayers):
    """DAFormer's head."""

    settings = {
        "DECODER": {
            "CHANNELS": Setting(256, "width of the layers' and of all further maps", minimum=1),
            "DROPOUT": Setting(0.1, "channel dropout before the classifier", maximum=1),
        },
    }
    small = {"DECODER.CHANNELS": 16}
    without_dropout = {"DECODER.DROPOUT": 0.0}

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        width = cfg.DECODER.CHANNELS
        fusion = SeparableASPP(4 * width, width)
        super().__init__(trunk, num_classes, width, fusion, cfg.DECODER.DROPOUT)


class AttentionHead(JoinedLayers):
    """HRDA's attention: the sigmoid of its scores says which scale scores a pixel's class.

    It goes beside any decoder of logits, so its sizes are no settings.
    """

    def __init__(self, trunk: Trunk, num_classes: int, width: int = 256, dropout: float = 0.1):
        fusion = nn.Sequential(*conv_norm(4 * width, width, 1))
        super().__init__(trunk, num_classes, width, fusion, dropout)

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return scores `[B, K, h, w]` at the resolution of layer 1."""
        return self.classifier(self.embed(self.pyramid(features)))
