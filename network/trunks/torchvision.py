"""Trunks from torchvision's classification networks."""

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from network.trunks.backbone import convolutional_trunk, load_backbone
from network.trunks.trunk import Trunk
from utils.errors import UserError


def resnet(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build a ResNet: the stem with its pooling, then the four stages."""
    model = _loaded(name, weights)
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    layers = [stem, model.layer1, model.layer2, model.layer3, model.layer4]
    expansion = model.layer1[0].expansion
    channels = [64] + [expansion * width for width in (64, 128, 256, 512)]
    return convolutional_trunk(layers, channels, output_stride, recompute, dilate_all=True)


def mobilenet_v2(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build a MobileNetV2; the last convolution, 1280 channels wide, belongs to layer 4."""
    features = _loaded(name, weights).features
    cuts = [0, 2, 7, 11, 18, len(features)]
    # Numbered from 0 in each layer, as in published checkpoints.
    layers = [nn.Sequential(*features[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    channels = [16, 32, 64, 320, 1280]
    return convolutional_trunk(layers, channels, output_stride, recompute, dilate_all=False)


def shufflenet_v2(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build a ShuffleNetV2: the stem with its pooling, three stages, the last convolution."""
    model = _loaded(name, weights)
    stem = nn.Sequential(model.conv1, model.maxpool)
    layers = [stem, model.stage2, model.stage3, model.stage4, model.conv5]
    channels = list(model._stage_out_channels)
    return convolutional_trunk(layers, channels, output_stride, recompute, dilate_all=False)


def _loaded(name: str, weights: str) -> nn.Module:
    model = getattr(torchvision.models, name)()
    load_backbone(model, name, weights, {"imagenet": partial(imagenet_weights, name)})
    return model


def imagenet_weights(name: str) -> Mapping[str, Tensor]:
    """Return torchvision's IMAGENET1K_V1 of a network."""
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"cannot download the ImageNet weights of {name} ({error}). Without a network: fetch "
            f"{weights.url} elsewhere and give its path as TRUNK.WEIGHTS, or put it into "
            f"{torch.hub.get_dir()}/checkpoints; TRUNK.WEIGHTS none starts from random weights"
        ) from error
