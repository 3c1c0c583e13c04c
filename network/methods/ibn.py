"""IBN-Net (Pan et al., ECCV 2018): instance norms in early layers, the loss of the baseline."""

import torch
from easydict import EasyDict
from torch import Tensor, nn

from network.blocks import TRUNKS, InstanceNorm, early_norms
from network.methods.baseline import Baseline
from utils.errors import UserError
from utils.settings import Setting


class SplitNorm(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the rest (IBN-a).

    Both start from the scale and shift of the batch norm in whose place it is, the batch norm also
    from its statistics. Names are those of the original code's checkpoints.
    """

    def __init__(self, batch_norm: nn.BatchNorm2d):
        super().__init__()
        channels = batch_norm.num_features
        self.half = channels // 2
        self.IN = InstanceNorm(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)
        for norm, part in ((self.IN, slice(None, self.half)), (self.BN, slice(self.half, None))):
            state = batch_norm.state_dict()
            own = {name: state[name] for name in norm.state_dict()}
            norm.load_state_dict({n: v[part] if v.ndim else v for n, v in own.items()})

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape."""
        first, rest = x[:, : self.half], x[:, self.half :]
        return torch.cat([self.IN(first), self.BN(rest)], dim=1)


class IBN(Baseline):
    """The baseline on a trunk with instance norms.

    IBN-b, RobustNet's "IBN-Net": in the stem and at the ends of layers 1 and 2 (network/blocks.py);
    the stem's starts from the batch norm's scale and shift, the others from 1 and 0. IBN-a: half of
    the channels of the first norm in every block of layers 1 to 3. UserError for IBN-a with
    anything but a ResNet.
    """

    settings = {
        "IBN": {
            "KIND": Setting(
                "b",
                "b: instance norms in the stem and at the ends of layers 1 and 2, as in every "
                "published table of the field; a: of half the channels inside the blocks of "
                "layers 1 to 3 (ResNets)",
                choices=("a", "b"),
            )
        }
    }
    trunks = TRUNKS

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        if cfg.IBN.KIND == "b":
            early_norms(self.trunk, lambda channels: InstanceNorm(channels, affine=True))
            return
        blocks = [block for i in (1, 2, 3) for block in getattr(self.trunk, f"layer{i}")]
        for block in blocks:
            if not isinstance(getattr(block, "bn1", None), nn.BatchNorm2d):
                raise UserError(
                    f"IBN.KIND a is made for ResNets, not for {cfg.TRUNK.NAME}; set it to b"
                )
            block.bn1 = SplitNorm(block.bn1)
