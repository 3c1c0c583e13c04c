"""ConvNeXt (arXiv 2201.03545) on torchvision's blocks: ImageNet's weights, or DINOv3's."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models.convnext import CNBlock, CNBlockConfig, ConvNeXt

from network.trunks.backbone import load_backbone, load_state, weights_of
from network.trunks.dino import DEFAULTS, refuse_missing
from network.trunks.torchvision import imagenet_weights
from network.trunks.trunk import Trunk
from utils.errors import UserError

STRIDES = (4, 4, 8, 16, 32)
# Size → blocks of each stage, their widths, and the share of blocks left out in full training.
SIZES = {
    "mini": ((1, 1, 2, 1), (16, 32, 48, 64), 0.0),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768), 0.1),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768), 0.4),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536), 0.5),
}
DINOV3 = {"mini": "mini", "t": "tiny", "s": "small", "b": "base", "l": "large"}
# Names of Meta's and of the hub's DINOv3, within a block → torchvision's.
INSIDE = {
    "gamma": "layer_scale",
    **dict.fromkeys(("dwconv", "depthwise_conv"), "block.0"),
    **dict.fromkeys(("norm", "layer_norm"), "block.2"),
    **dict.fromkeys(("pwconv1", "pointwise_conv1"), "block.3"),
    **dict.fromkeys(("pwconv2", "pointwise_conv2"), "block.5"),
}


class Stage(nn.Sequential):
    """A layer: what halves the resolution, but of layer 1, then blocks by their number."""

    def forward(self, x: Tensor, after_block: Callable[[int, Tensor], Tensor] | None = None):
        """`[B, C, h, w]` to `[B, C', h', w']`; `after_block` takes number and map of each block."""
        for name, module in self.named_children():
            x = module(x)
            if after_block is not None and isinstance(module, CNBlock):
                x = after_block(int(name), x)
        return x


class ConvNeXtTrunk(Trunk):
    """Layer 0 is the stem, layers 1–4 are the stages; no batch norm."""

    multiple = STRIDES[-1]
    # A last map of a single row or column would be a graph of its own.
    exported_from = 2 * STRIDES[-1]
    tunings = ("full", "frozen", "lora", "soma", "rein")

    def no_weight_decay(self) -> set[str]:
        """Return the names of layer scales."""
        return {name for name, _ in self.named_parameters() if name.endswith("layer_scale")}

    def adapt(self, number: int, x: Tensor) -> Tensor:
        """Let the adapter act on the places of a map `[B, C, h, w]`."""
        places = self.adapter(number, x.flatten(2).transpose(1, 2))
        return places.transpose(1, 2).unflatten(2, x.shape[-2:])


def convnext(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build "convnext_tiny" … with torchvision's ImageNet weights, the free stand-in for DINOv3."""
    size = name.removeprefix("convnext_")
    model = _model(name, size, output_stride, SIZES[size][2])
    named = {} if size == "mini" else {"imagenet": partial(imagenet_weights, name)}
    load_backbone(model, name, weights, named)
    return _trunk(model, recompute)


def dinov3_convnext(
    name: str, output_stride: int, weights: str, recompute: Sequence[bool]
) -> Trunk:
    """Build "dinov3_convnext_t" …; UserError for weights that do not fit."""
    size = DINOV3[name.removeprefix("dinov3_convnext_")]
    if weights != "none":
        refuse_missing(name, weights)
    model = _model(name, size, output_stride, 0.0)
    if weights != "none":
        load_state(model, name, weights, torchvisions_names(weights_of(name, weights, {})))
    return _trunk(model, recompute)


convnext.defaults = DEFAULTS | {"TRUNK.OUTPUT_STRIDE": STRIDES[-1]}
dinov3_convnext.defaults = convnext.defaults


def _model(name: str, size: str, output_stride: int, left_out: float) -> ConvNeXt:
    if output_stride != STRIDES[-1]:
        raise UserError(
            f"{name} has output stride {STRIDES[-1]} only, and TRUNK.OUTPUT_STRIDE is "
            f"{output_stride}; set it to {STRIDES[-1]}"
        )
    depths, widths, _ = SIZES[size]
    outside = (*widths[1:], None)
    settings = [CNBlockConfig(*each) for each in zip(widths, outside, depths, strict=True)]
    return ConvNeXt(settings, stochastic_depth_prob=left_out)


def _trunk(model: ConvNeXt, recompute: Sequence[bool]) -> Trunk:
    stem, *parts = model.features
    layers, widths, block_widths = [stem], [stem[0].out_channels], []
    for i in range(4):
        stage = Stage()
        if i > 0:
            stage.add_module("downsample", parts[2 * i - 1])
        for block in parts[2 * i]:
            stage.add_module(str(len(block_widths)), block)
            block_widths.append(block.layer_scale.shape[0])
        layers.append(stage)
        widths.append(block_widths[-1])
    trunk = ConvNeXtTrunk(layers, widths, STRIDES, (False, *recompute))
    trunk.block_widths = block_widths
    return trunk


def torchvisions_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of DINOv3's ConvNeXt, of Meta or of the hub, to torchvision's names, without
    the final norm."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("model.")
        down = re.match(r"(?:stages\.(\d)\.)?downsample_layers\.(?:(\d)\.)?(\d)\.(?=[wb])", key)
        block = re.match(r"stages\.(\d)\.(?:layers\.)?(\d+)\.(\w+)", key)
        if down:
            # Meta numbers them by stage, the hub has them inside stages.
            stage = int(down[1] or down[2])
            key = f"features.{2 * stage}.{down[3]}.{key[down.end() :]}"
        elif block:
            inside = INSIDE.get(block[3], block[3]) + key[block.end() :]
            key = f"features.{2 * int(block[1]) + 1}.{block[2]}.{inside}"
        elif key.startswith(("norm", "layer_norm", "head")):
            continue
        renamed[key] = value[:, None, None] if key.endswith("layer_scale") else value
    return renamed
