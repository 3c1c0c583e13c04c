"""DeepLabV3+ (arXiv 1802.02611) with the auxiliary head and layout of the RobustNet family."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from network.decoders.convolutions import conv_norm
from network.decoders.decoder import LogitDecoder
from network.trunks.trunk import Trunk
from utils.errors import UserError
from utils.settings import Setting


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: image pooling, a 1×1 and three dilated 3×3 convolutions."""

    def __init__(self, inside: int, outside: int, rates: tuple[int, ...]):
        super().__init__()
        branches = [conv_norm(inside, outside, 1)]
        branches += [conv_norm(inside, outside, 3, rate) for rate in rates]
        self.features = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.img_conv = nn.Sequential(*conv_norm(inside, outside, 1))
        self.channels = outside * (len(branches) + 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inside, h, w]` to `[B, channels, h, w]`; the pooled image comes first.

        UserError for a training batch of one image: the batch norm of the pooled feature would have
        a single value per channel (unless it is synchronised over GPUs).
        """
        if self.img_conv[1].training and len(x) == 1 and type(self.img_conv[1]) is nn.BatchNorm2d:
            raise UserError(
                "DeepLabV3+ normalises pooled features over the images that it sees at once and "
                "cannot train on one"
            )
        pooled = self.img_conv(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([pooled, *(branch(x) for branch in self.features)], dim=1)


class DeepLabV3Plus(LogitDecoder):
    """ASPP on layer 4, joined with layer 1 at its resolution, two 3×3 and a 1×1 classifier."""

    settings = {
        "DECODER": {
            "CHANNELS": Setting(256, "width of ASPP branches and final convolutions", minimum=1),
            "LOW_LEVEL_CHANNELS": Setting(
                48, "width of the projected low-level feature", minimum=1
            ),
            "AUX_CHANNELS": Setting(512, "width of the auxiliary head on layer 3", minimum=1),
            "AUX_WEIGHT": Setting(0.4, "weight of the auxiliary cross entropy; 0: no such head"),
            "AUX_DROPOUT": Setting(0.1, "channel dropout in the auxiliary head", maximum=1),
        },
    }
    small = {
        "DECODER.CHANNELS": 16,
        "DECODER.LOW_LEVEL_CHANNELS": 8,
        "DECODER.AUX_CHANNELS": 16,
    }
    without_dropout = {"DECODER.AUX_DROPOUT": 0.0}
    wanted_strides = {1: 4}
    least_images = 2  # of which pooled features are normalised
    align_corners = True

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        super().__init__(trunk)
        self.stride = self.strides[1]
        options, width = cfg.DECODER, cfg.DECODER.CHANNELS
        # 6, 12, 18 at stride 16 (DeepLabV3+); the same field of view at other strides.
        rates = tuple(rate * 16 // trunk.strides[4] for rate in (6, 12, 18))
        self.aspp = ASPP(trunk.channels[4], width, rates)
        self.bot_aspp = nn.Sequential(*conv_norm(self.aspp.channels, width, 1))
        self.context: nn.Module = nn.Identity()
        self.deep_channels = width
        low_level = options.LOW_LEVEL_CHANNELS
        self.bot_fine = nn.Sequential(*conv_norm(trunk.channels[1], low_level, 1))
        self.final1 = nn.Sequential(
            *conv_norm(width + low_level, width, 3), *conv_norm(width, width, 3)
        )
        self.projection: nn.Module = nn.Identity()
        self.classifier: nn.Module = nn.Conv2d(width, num_classes, 1)
        self.aux_weight = options.AUX_WEIGHT
        if self.aux_weight:
            self.dsn = nn.Sequential(
                nn.Conv2d(trunk.channels[3], options.AUX_CHANNELS, 3, padding=1),
                nn.BatchNorm2d(options.AUX_CHANNELS),
                nn.ReLU(inplace=True),
                nn.Dropout2d(options.AUX_DROPOUT),
                nn.Conv2d(options.AUX_CHANNELS, num_classes, 1),
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def deep(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return what ASPP makes of layer 4 `[B, deep_channels, h, w]`, at its resolution."""
        return self.bot_aspp(self.aspp(features[4]))

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return the pixel embedding `[B, D, h, w]` at the resolution of layer 1."""
        low_level = self.bot_fine(features[1])
        deep = self.context(self.deep(features))
        size = low_level.shape[-2:]
        deep = F.interpolate(deep, size, mode="bilinear", align_corners=self.align_corners)
        return self.projection(self.final1(torch.cat([low_level, deep], dim=1)))

    def auxiliary(self, features: Mapping[int, Tensor]) -> Tensor | None:
        """Return the auxiliary head's logits `[B, K, h, w]` at the resolution of layer 3."""
        return self.dsn(features[3]) if self.aux_weight else None
