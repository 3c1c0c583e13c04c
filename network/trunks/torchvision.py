"""Backbones from torchvision as five layers with one interface.

`build_trunk` turns a classification network into `layer0 … layer4` at output stride 8, 16 or 32.
Nothing else in the program knows which backbone it is.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from network.trunks.mini import OBJECT_WEIGHTS, ResNetMini
from network.trunks.trunk import Trunk
from utils.errors import UserError, unknown_name
from utils.files import read_weights


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
