"""DeepLabV2's head (arXiv 1606.00915) as DACS and its successors have it: two dilated classifiers.

Their code lists dilations 6, 12, 18 and 24; a `return` inside the loop drops the last two.
"""

from collections.abc import Mapping

from easydict import EasyDict
from torch import Tensor, nn

from network.decoders.decoder import LogitDecoder
from network.trunks.trunk import Trunk

RATES, PUBLISHED_STRIDE = (6, 12), 8


class DilatedClassifiers(nn.Module):
    """The sum of 3×3 convolutions of several dilations, each with a bias."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.in_channels = inside
        self.branches = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, padding=rate, dilation=rate) for rate in RATES
        )
        for conv in self.branches:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inside, h, w]` to `[B, outside, h, w]`."""
        return sum(branch(x) for branch in self.branches)


class DeepLabV2(LogitDecoder):
    """Classifies layer 4 directly: its embedding is the trunk's own feature.

    A method that replaces the classifier leaves nothing of this head.
    """

    wanted_strides = {4: PUBLISHED_STRIDE}

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        super().__init__(trunk)
        self.stride = self.strides[4]
        if self.stride != PUBLISHED_STRIDE:
            self.remarks = [
                f"warning: deeplabv2 belongs to output stride {PUBLISHED_STRIDE}, and this is "
                f"{self.stride} (TRUNK.OUTPUT_STRIDE); its dilations span "
                f"{self.stride / PUBLISHED_STRIDE:g} times as many pixels"
            ]
        self.projection: nn.Module = nn.Identity()
        self.classifier: nn.Module = DilatedClassifiers(trunk.channels[4], num_classes)

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return layer 4's feature `[B, D, h, w]`."""
        return self.projection(features[4])
