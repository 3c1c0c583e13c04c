"""The registry of trunks: name → "module:builder". Adding a family is a file and its lines here.

A builder is called as `builder(name, output_stride, weights, recompute)`, see `build_trunk`, and
returns a `Trunk`. It may have attributes: `settings`, a tree below TRUNK as in config.py, which it
is given by lower-case names; `defaults`, where the family's recipe differs from the defaults of
shared settings ({dotted key: value}), before which those of tuning, decoder and method go;
`columnar`, whether all layers have one stride.
Nothing else in the program knows which backbone it is.
"""

from collections.abc import Sequence
from typing import Any

from network.trunks.trunk import Trunk
from utils.registry import find

TRUNKS = {
    "resnet18": "network.trunks.torchvision:resnet",
    "resnet50": "network.trunks.torchvision:resnet",
    "resnet101": "network.trunks.torchvision:resnet",
    "mobilenet_v2": "network.trunks.torchvision:mobilenet_v2",
    "shufflenet_v2_x1_0": "network.trunks.torchvision:shufflenet_v2",
    "shufflenet_v2_x0_5": "network.trunks.torchvision:shufflenet_v2",
    "resnet_mini": "network.trunks.mini:resnet_mini",
    "mit_mini": "network.trunks.segformer:mit",
    "mit_b0": "network.trunks.segformer:mit",
    "mit_b1": "network.trunks.segformer:mit",
    "mit_b2": "network.trunks.segformer:mit",
    "mit_b3": "network.trunks.segformer:mit",
    "mit_b4": "network.trunks.segformer:mit",
    "mit_b5": "network.trunks.segformer:mit",
    "dinov2_mini": "network.trunks.dino:dinov2",
    "dinov2_s": "network.trunks.dino:dinov2",
    "dinov2_b": "network.trunks.dino:dinov2",
    "dinov2_l": "network.trunks.dino:dinov2",
    "dinov2_reg_mini": "network.trunks.dino:dinov2",
    "dinov2_reg_s": "network.trunks.dino:dinov2",
    "dinov2_reg_b": "network.trunks.dino:dinov2",
    "dinov2_reg_l": "network.trunks.dino:dinov2",
    "dinov3_mini": "network.trunks.dino:dinov3",
    "dinov3_s": "network.trunks.dino:dinov3",
    "dinov3_b": "network.trunks.dino:dinov3",
    "dinov3_l": "network.trunks.dino:dinov3",
    "convnext_mini": "network.trunks.convnext:convnext",
    "convnext_tiny": "network.trunks.convnext:convnext",
    "convnext_small": "network.trunks.convnext:convnext",
    "convnext_base": "network.trunks.convnext:convnext",
    "convnext_large": "network.trunks.convnext:convnext",
    "dinov3_convnext_mini": "network.trunks.convnext:dinov3_convnext",
    "dinov3_convnext_t": "network.trunks.convnext:dinov3_convnext",
    "dinov3_convnext_s": "network.trunks.convnext:dinov3_convnext",
    "dinov3_convnext_b": "network.trunks.convnext:dinov3_convnext",
    "dinov3_convnext_l": "network.trunks.convnext:dinov3_convnext",
}


def build_trunk(
    name: str,
    output_stride: int = 16,
    weights: str = "imagenet",
    recompute: Sequence[bool] = (False,) * 4,
    **options: Any,
) -> Trunk:
    """Build a trunk of TRUNKS at output stride 8, 16 or 32.

    `weights`: "none", the path of a state dict, for some families a folder of the hub, or a name
    that the family knows ("imagenet", "meta", "objects"). `recompute` says which of layers 1–4
    trade memory for time; `options` are the family's own settings by lower-case names. Raises
    UserError for an unknown name, weights that cannot be had or do not fit, and for an output
    stride that the trunk has not.
    """
    return find("trunk", name, TRUNKS)(name, output_stride, weights, recompute, **options)
