"""Plain heads for foundation models, whose features need little: two deconvolutions, or one layer.

Both join layers 1–4 at the resolution of layer 3, which vision transformers have in all layers.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from network.decoders.decoder import LogitDecoder
from network.trunks.trunk import Trunk
from utils.errors import UserError
from utils.settings import Setting

GROUPS = 32  # of group norms


def joined(features: Mapping[int, Tensor], strides: Sequence[int]) -> Tensor:
    """Join layers 1–4, of these `strides`, to `[B, Σ C_i, h, w]` at the size of layer 3."""
    size = features[3].shape[-2:]
    options = {"mode": "bilinear", "align_corners": False}
    parts = [
        features[i] if strides[i] == strides[3] else F.interpolate(features[i], size, **options)
        for i in range(1, 5)
    ]
    return torch.cat(parts, dim=1)


class Plain(LogitDecoder):
    """A 1×1 convolution and two deconvolutions that double the resolution and halve the width."""

    settings = {
        "DECODER": {
            "CHANNELS": Setting(
                256, "width before the deconvolutions, a multiple of 128", minimum=4 * GROUPS
            ),
            "DROPOUT": Setting(0.0, "channel dropout before the classifier", maximum=1),
        },
    }
    small = {"DECODER.CHANNELS": 4 * GROUPS}
    without_dropout = {"DECODER.DROPOUT": 0.0}

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        super().__init__(trunk)
        width = cfg.DECODER.CHANNELS
        if width % (4 * GROUPS):
            raise UserError(f"DECODER.CHANNELS {width} is no multiple of {4 * GROUPS}")
        self.stride = max(1, trunk.strides[3] // 4)
        self.fuse = nn.Sequential(
            nn.Conv2d(sum(trunk.channels[1:]), width, 1), nn.GroupNorm(GROUPS, width)
        )
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            nn.GroupNorm(GROUPS, width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
            nn.GELU(),
        )
        self.dropout = nn.Dropout2d(cfg.DECODER.DROPOUT)
        self.projection: nn.Module = nn.Identity()
        self.classifier: nn.Module = nn.Conv2d(width // 4, num_classes, 1)

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return the pixel embedding `[B, D, 4 h, 4 w]`, h × w being the size of layer 3."""
        return self.projection(
            self.dropout(self.enlarge(self.fuse(joined(features, self.strides))))
        )


class Linear(LogitDecoder):
    """One linear layer on normalised features (DINOv2's linear segmentation, on layers 1–4)."""

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        super().__init__(trunk)
        width = sum(trunk.channels[1:])
        self.stride = trunk.strides[3]
        self.norm = nn.BatchNorm2d(width)
        self.projection: nn.Module = nn.Identity()
        self.classifier: nn.Module = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return the pixel embedding `[B, Σ C_i, h, w]` at the size of layer 3."""
        return self.projection(self.norm(joined(features, self.strides)))
