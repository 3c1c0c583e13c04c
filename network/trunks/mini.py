"""The demo's small network, whose weights ship with the project."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from network.trunks.backbone import convolutional_trunk, load_backbone
from network.trunks.trunk import Trunk
from utils.files import read_weights

WIDTHS = (24, 24, 48, 96, 192)
OBJECT_WEIGHTS = Path(__file__).parent / "weights" / "resnet_mini_objects.pth"


class ResNetMini(nn.Module):
    """The demo's small network: a ResNet of one basic block a layer, 24 to 192 channels wide."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        for i in range(1, 5):
            inside, outside, stride = WIDTHS[i - 1], WIDTHS[i], 1 if i == 1 else 2
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(outside),
                )
            block = BasicBlock(inside, outside, stride, shortcut)
            self.add_module(f"layer{i}", nn.Sequential(block))
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Classify images `[B, 3, H, W]`: logits `[B, classes]`."""
        x = images
        for i in range(5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def resnet_mini(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build the trunk; its "objects" weights are a stand-in for ImageNet (pretrain_objects.py)."""
    model = ResNetMini()
    load_backbone(model, name, weights, {"objects": partial(read_weights, OBJECT_WEIGHTS)})
    layers = [getattr(model, f"layer{i}") for i in range(5)]
    return convolutional_trunk(layers, WIDTHS, output_stride, recompute, dilate_all=True)
