"""Backbones from torchvision as five layers with one interface.

`build_trunk` turns a classification network into `layer0 … layer4` at output stride 8, 16 or 32.
Nothing else in the program knows which backbone it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock

from utils.errors import UserError, unknown_name
from utils.files import read_weights

OBJECT_WEIGHTS = Path(__file__).parent / "weights" / "resnet_mini_objects.pth"


class Trunk(nn.Module):
    """Five layers of a backbone; `channels[i]` and `strides[i]` describe what layer i returns.

    Where `recompute[i]` is set, the activations inside layer i are not kept for the backward pass
    but computed again there: less memory, one more forward pass of that layer, the same result.
    """

    def __init__(
        self,
        layers: list[nn.Module],
        channels: list[int],
        strides: list[int],
        recompute: Sequence[bool] = (False,) * 5,
    ):
        super().__init__()
        self.recompute = tuple(recompute)
        for i, layer in enumerate(layers):
            self.add_module(f"layer{i}", layer)
        self.channels = channels
        self.strides = strides

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        stop: int = 4,
        after: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[int, Tensor]:
        """Run layers `start` to `stop`; return {i: f_i} with f_i `[B, channels[i], h_i, w_i]`.

        `x` is an image batch `[B, 3, H, W]` or, with `start` > 0, the feature f_{start−1}.
        `after[i]` acts on what enters layer i + 1; the recorded f_i is the value before it.
        """
        after = after or {}
        features: dict[int, Tensor] = {}
        for i in range(start, stop + 1):
            if i - 1 in after:
                x = after[i - 1](x)
            layer = getattr(self, f"layer{i}")
            if self.recompute[i] and self.training and torch.is_grad_enabled():
                contexts = partial(_recomputation, layer)
                x = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
            else:
                x = layer(x)
            features[i] = x
        return features


def _recomputation(layer: nn.Module) -> tuple:
    """Contexts of the two forward passes of a recomputed layer."""
    return nullcontext(), _statistics_at_rest(layer)


@contextmanager
def _statistics_at_rest(layer: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch twice in their running statistics."""
    norms = [m for m in layer.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1


def _resnet(model: nn.Module) -> tuple[list[nn.Module], list[int]]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    layers = [stem, model.layer1, model.layer2, model.layer3, model.layer4]
    expansion = model.layer1[0].expansion
    return layers, [64] + [expansion * width for width in (64, 128, 256, 512)]


def _mobilenet_v2(model: nn.Module) -> tuple[list[nn.Module], list[int]]:
    features = model.features
    cuts = [0, 2, 7, 11, 18, len(features)]
    # Numbered from 0 in each layer, as in published checkpoints.
    layers = [nn.Sequential(*features[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    return layers, [16, 32, 64, 320, 1280]


def _shufflenet_v2(model: nn.Module) -> tuple[list[nn.Module], list[int]]:
    stem = nn.Sequential(model.conv1, model.maxpool)
    layers = [stem, model.stage2, model.stage3, model.stage4, model.conv5]
    return layers, list(model._stage_out_channels)


class ResNetMini(nn.Module):
    """The demo's small network: a ResNet of one basic block a layer, 24 to 192 channels wide."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        widths = [24, 24, 48, 96, 192]
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        for i in range(1, 5):
            inside, outside, stride = widths[i - 1], widths[i], 1 if i == 1 else 2
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(outside),
                )
            block = BasicBlock(inside, outside, stride, shortcut)
            self.add_module(f"layer{i}", nn.Sequential(block))
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Classify images `[B, 3, H, W]`: logits `[B, classes]`."""
        x = images
        for i in range(5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def _resnet_mini(model: nn.Module) -> tuple[list[nn.Module], list[int]]:
    return [getattr(model, f"layer{i}") for i in range(5)], [24, 24, 48, 96, 192]


class _Backbone:
    """How a classification network is built and cut: `dilate_all` dilates every 3×3 of a stage
    that loses its stride (ResNets as published), otherwise only the convolution that had it."""

    def __init__(self, build: Callable, cut: Callable, dilate_all: bool):
        self.build, self.cut, self.dilate_all = build, cut, dilate_all


TRUNKS = {
    "resnet18": _Backbone(torchvision.models.resnet18, _resnet, True),
    "resnet50": _Backbone(torchvision.models.resnet50, _resnet, True),
    "resnet101": _Backbone(torchvision.models.resnet101, _resnet, True),
    "mobilenet_v2": _Backbone(torchvision.models.mobilenet_v2, _mobilenet_v2, False),
    "shufflenet_v2_x1_0": _Backbone(torchvision.models.shufflenet_v2_x1_0, _shufflenet_v2, False),
    "shufflenet_v2_x0_5": _Backbone(torchvision.models.shufflenet_v2_x0_5, _shufflenet_v2, False),
    "resnet_mini": _Backbone(ResNetMini, _resnet_mini, True),
}


def build_trunk(
    name: str,
    output_stride: int = 16,
    weights: str = "imagenet",
    recompute: Sequence[bool] = (False,) * 4,
) -> Trunk:
    """Build a trunk of TRUNKS; `recompute` says which of layers 1–4 trade memory for time.

    `weights`: "imagenet" (torchvision's IMAGENET1K_V1), "objects" (the stand-in shipped for
    resnet_mini), "none", or the path of a state dict of the classification network.
    Raises UserError for an unknown name or weights that cannot be had or do not fit.
    """
    if name not in TRUNKS:
        raise unknown_name("trunk", name, TRUNKS)
    backbone = TRUNKS[name]
    model = backbone.build()
    if weights != "none":
        _load_weights(model, name, weights)
    layers, channels = backbone.cut(model)
    strides = _limit_stride(layers, output_stride, backbone.dilate_all)
    return Trunk(layers, channels, strides, (False, *recompute))


def _limit_stride(layers: list[nn.Module], output_stride: int, dilate_all: bool) -> list[int]:
    """Replace strides by dilation where a layer would exceed `output_stride`; return all strides.

    Each removed factor of two doubles the dilation of the layer (2, then 4 at output stride 8).
    """
    stride, dilation, strides = 1, 1, []
    for layer in layers:
        factor = _stride_of(layer)
        if stride * factor <= output_stride:
            stride *= factor
        else:
            dilation *= factor
            for conv in [m for m in layer.modules() if isinstance(m, nn.Conv2d)]:
                strided = conv.stride == (2, 2)
                conv.stride = (1, 1)
                if conv.kernel_size == (3, 3) and (strided or dilate_all):
                    conv.dilation = conv.padding = (dilation, dilation)
        strides.append(stride)
    return strides


@torch.no_grad()
def _stride_of(layer: nn.Module) -> int:
    """Measure a layer's stride on a 64-pixel input of zeros, without touching batch statistics."""
    # In every backbone here the first convolution of a layer takes all the channels that enter it.
    first = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
    training = layer.training
    layer.eval()
    size = layer(torch.zeros(1, first.in_channels, 64, 64)).shape[-1]
    layer.train(training)
    return 64 // size


def _load_weights(model: nn.Module, name: str, weights: str) -> None:
    if weights == "imagenet":
        state = _imagenet_weights(name)
    else:
        path = OBJECT_WEIGHTS if weights == "objects" else Path(weights)
        if weights == "objects" and name != "resnet_mini":
            raise UserError(f"the objects weights are made for resnet_mini, not for {name}")
        if not path.is_file():
            raise UserError(f"no weights file {path}; give imagenet, none, or the path of one")
        state = read_weights(path)
        state = state.get("state_dict", state)
    own = model.state_dict()
    head = {key for key in own if key.startswith(("fc.", "classifier."))}
    missing = sorted(own.keys() - head - state.keys())
    unknown = sorted(state.keys() - own.keys() - {"fc.weight", "fc.bias"})
    shapes = [k for k in own if k in state and k not in head and own[k].shape != state[k].shape]
    if missing or unknown or shapes:
        problems = {"missing": missing, "unknown": unknown, "of another shape": sorted(shapes)}
        report = "; ".join(f"{what}: {', '.join(k[:3])}" for what, k in problems.items() if k)
        raise UserError(f"the weights {weights} do not fit {name} ({report})")
    trunk_state = {k: v.to(own[k].dtype) for k, v in state.items() if k in own and k not in head}
    model.load_state_dict(trunk_state, strict=False)


def _imagenet_weights(name: str) -> Mapping[str, Tensor]:
    if name not in torchvision.models.list_models():
        raise UserError(
            f"there are no ImageNet weights for {name}; set TRUNK.WEIGHTS objects (a stand-in that "
            "ships with the project), none, or the path of a state dict"
        )
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"cannot download the ImageNet weights of {name} ({error}). Without a network: fetch "
            f"{weights.url} elsewhere and give its path as TRUNK.WEIGHTS, or put it into "
            f"{torch.hub.get_dir()}/checkpoints; TRUNK.WEIGHTS none starts from random weights"
        ) from error
