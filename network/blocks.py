"""Norms inside a trunk's first layers, where no hook reaches: in the stem, and at a layer's end
between the residual sum and the last ReLU.

Places are those of RobustNet (Choi et al., CVPR 2021): the stem and the ends of layers 1 and 2. All
other modules stay the same objects, under the same names in checkpoints.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.shufflenetv2 import InvertedResidual as ShuffleUnit

from network.trunks.trunk import Trunk

# Those whose blocks are known here.
TRUNKS = (
    *("resnet18", "resnet50", "resnet101", "resnet_mini"),
    *("mobilenet_v2", "shufflenet_v2_x1_0", "shufflenet_v2_x0_5"),
)
LAYERS = (1, 2)  # with a norm at their ends


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm, also of a map of one place, as images of a few pixels have it: 0, or the
    shift. torch's own module refuses that."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape."""
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, cudnn
        )


class NormedBasicBlock(BasicBlock):
    """A basic block with `norm` between the residual sum and the last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C', h', w']`."""
        out = self.relu(self.bn1(self.conv1(x)))
        return _end(self, x, self.bn2(self.conv2(out)))


class NormedBottleneck(Bottleneck):
    """A bottleneck with `norm` between the residual sum and the last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C', h', w']`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return _end(self, x, self.bn3(self.conv3(out)))


def _end(block: nn.Module, x: Tensor, out: Tensor) -> Tensor:
    identity = x if block.downsample is None else block.downsample(x)
    # Not in place, as in the stem.
    return F.relu(block.norm(out + identity))


class NormedInvertedResidual(InvertedResidual):
    """A block of MobileNetV2, which ends without an activation, with `norm` behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C', h', w']`."""
        return self.norm(super().forward(x))


class NormedShuffleUnit(ShuffleUnit):
    """A unit of ShuffleNetV2 with `norm` behind the shuffle."""

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C', h', w']`."""
        return self.norm(super().forward(x))


NORMED = {
    BasicBlock: NormedBasicBlock,
    Bottleneck: NormedBottleneck,
    InvertedResidual: NormedInvertedResidual,
    ShuffleUnit: NormedShuffleUnit,
}


def early_norms(
    trunk: Trunk, make: Callable[[int], nn.Module], keep: bool = False
) -> list[nn.Module]:
    """Put `make(channels)` into stem and ends of LAYERS of a trunk of TRUNKS; return the three.

    The stem's takes the place of its batch norm and, where it is affine, that one's scale and
    shift, or stands behind the batch norm that it is to `keep`; MobileNetV2, whose stem ends
    without an activation, has it at the end of layer 0.
    """
    stem = _stem_norm(trunk)
    if stem is None:
        norms = [end_norm(trunk.layer0, make(trunk.channels[0]))]
    else:
        holder, index = stem
        old = holder[index]
        norms = [_taking_over(make(old.num_features), old)]
        holder[index + 1].inplace = False  # the ReLU; a loss may need what the norm returns
        if keep:
            _insert(holder, index + 1, norms[0])
        else:
            holder[index] = norms[0]
    for i in LAYERS:
        norms.append(end_norm(getattr(trunk, f"layer{i}"), make(trunk.channels[i])))
    return norms


def end_norm(layer: nn.Sequential, norm: nn.Module) -> nn.Module:
    """Put a norm into the last block of a layer of TRUNKS and return it: before the last ReLU of a
    ResNet's block, else at its end."""
    last = layer[-1]
    kind = NORMED[type(last)]
    block = kind.__new__(kind)
    block.__dict__ = last.__dict__  # the same children, hooks and sizes
    block.norm = norm
    layer[-1] = block
    return norm


def _insert(layers: nn.Sequential, index: int, norm: nn.Module) -> None:
    """Insert `norm` under that name; those behind it keep their names."""
    behind = list(layers.named_children())[index:]
    for name, _ in behind:
        delattr(layers, name)
    for name, module in [("norm", norm), *behind]:
        layers.add_module(name, module)


def _stem_norm(trunk: Trunk) -> tuple[nn.Sequential, int] | None:
    """Return the sequence that holds the stem's batch norm, and where; None of MobileNetV2."""
    stem = trunk.layer0
    if isinstance(stem[-1], InvertedResidual):
        return None
    return (stem, 1) if isinstance(stem[1], nn.BatchNorm2d) else (stem[0], 1)


def _taking_over(norm: nn.Module, batch_norm: nn.BatchNorm2d) -> nn.Module:
    if getattr(norm, "weight", None) is not None:
        norm.weight.data.copy_(batch_norm.weight.data)
        norm.bias.data.copy_(batch_norm.bias.data)
    return norm
