"""Mix Transformers (MiT), the encoders of SegFormer (arXiv 2105.15203), on transformers' layers."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network.trunks.backbone import no_such_weights, refuse_misfit, weights_of
from network.trunks.trunk import Trunk
from utils.errors import UserError
from utils.extras import import_extra

transformers = import_extra("MiT trunks", "transformers")

WIDTHS, HEADS = (64, 128, 320, 512), (1, 2, 5, 8)
# Name → blocks of each stage, and their widths.
SIZES = {
    "mit_mini": ((1, 1, 1, 1), (16, 32, 40, 64)),
    "mit_b0": ((2, 2, 2, 2), (32, 64, 160, 256)),
    "mit_b1": ((2, 2, 2, 2), WIDTHS),
    "mit_b2": ((3, 4, 6, 3), WIDTHS),
    "mit_b3": ((3, 4, 18, 3), WIDTHS),
    "mit_b4": ((3, 8, 27, 3), WIDTHS),
    "mit_b5": ((3, 6, 40, 3), WIDTHS),
}
STRIDES = (4, 4, 8, 16, 32)
SMALLEST = 29  # pixels of a side; from here on stage 1 has the eight cells that its keys pool
# The release's blocks and ends of stages; transformers has torch's 1e-5 everywhere.
EPS = 1e-6

# Names of the release: parts of stages, which it counts from 1, then what is in them.
STAGES = {"patch_embed": "patch_embeddings", "block": "blocks", "norm": "layer_norm"}
INSIDE = (
    (r"patch_embeddings\.norm\.", "patch_embeddings.layer_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attn\.norm\.", ".attention.sequence_reduction.layer_norm."),
)


class MixTransformer(Trunk):
    """Layer 0 is the first patch embedding as a map, layer 1 its blocks, then a stage a layer."""

    # Keys that are pooled to a single row or column would be a graph of their own.
    exported_from = 64

    def no_weight_decay(self) -> set[str]:
        """Return the names of the layer norms' parameters, as SegFormer is trained."""
        norms = [(n, m) for n, m in self.named_modules() if isinstance(m, nn.LayerNorm)]
        return {f"{name}.{own}" for name, norm in norms for own, _ in norm.named_parameters()}


class PatchEmbedding(nn.Module):
    """Layer 0: a 7×7 convolution of stride 4 and a layer norm."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.patch_embeddings = stage.patch_embeddings

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, C, ⌈H/4⌉, ⌈W/4⌉]`; UserError for images that are too small."""
        height, width = images.shape[-2:]
        if height < SMALLEST or width < SMALLEST:
            raise UserError(
                f"MiT trunks need images of {SMALLEST} pixels a side or more; this one has "
                f"{height}×{width}"
            )
        tokens, height, width = self.patch_embeddings(images)
        return _as_map(tokens, (height, width))


class Blocks(nn.Module):
    """Layer 1: the blocks of the first stage and its layer norm."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.blocks = stage.blocks
        self.layer_norm = stage.layer_norm

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape."""
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens, *size)
        return _as_map(self.layer_norm(tokens), size)


def _as_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return tokens.unflatten(1, tuple(size)).permute(0, 3, 1, 2).contiguous()


def mit(name: str, output_stride: int, weights: str, recompute: Sequence[bool]) -> Trunk:
    """Build a MiT. Drop-path grows from 0 to 0.1 over its blocks, as published."""
    if output_stride != STRIDES[-1]:
        raise UserError(
            f"{name} has output stride {STRIDES[-1]} only, and TRUNK.OUTPUT_STRIDE is "
            f"{output_stride}; set it to {STRIDES[-1]}"
        )
    depths, widths = SIZES[name]
    config = transformers.SegformerConfig(
        depths=depths, hidden_sizes=widths, num_attention_heads=HEADS, drop_path_rate=0.1
    )
    stages = _loaded(config, name, weights).stages
    for stage in stages:
        pairs = [(block.layernorm_before, block.layernorm_after) for block in stage.blocks]
        for norm in (stage.layer_norm, *chain(*pairs)):
            norm.eps = EPS
    layers = [PatchEmbedding(stages[0]), Blocks(stages[0]), *stages[1:]]
    return MixTransformer(layers, (widths[0], *widths), STRIDES, (False, *recompute))


# SegFormer's recipe, and the one stride there is.
mit.defaults = {
    "TRUNK.OUTPUT_STRIDE": STRIDES[-1],
    "TRAIN.OPTIMIZER": "adamw",
    "TRAIN.LR_ENCODER": 6e-5,
    "TRAIN.LR_DECODER": 6e-4,
    "TRAIN.WEIGHT_DECAY": 0.01,
    "TRAIN.NO_DECAY": ["named"],
    "TRAIN.POLY_POWER": 1.0,
    "TRAIN.WARMUP": 1500,
}


def _loaded(config: Any, name: str, weights: str) -> nn.Module:
    """Return transformers' model with random weights, or those of the hub, a folder or a file."""
    model_class = transformers.SegformerModel
    if weights == "none":
        with torch.device("meta"):
            model = model_class(config)
        return draw_weights(model.to_empty(device="cpu"))
    path, state, origin = Path(weights), None, weights
    named = [] if name == "mit_mini" else ["imagenet"]
    if weights in named:
        origin = f"nvidia/{name.replace('_', '-')}"
    elif path.is_file():
        state, origin = transformers_names(weights_of(name, weights, {})), None
    elif not path.is_dir():
        raise no_such_weights(name, weights, named)
    options = {"config": config, "state_dict": state, "dtype": torch.float32}
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with _unreported():
            model, found = model_class.from_pretrained(origin, **options)
    # It raises whatever it stumbled over, in a damaged file or on the way to the hub.
    except Exception as error:
        reason = str(error).split("\n")[0]
        if weights not in named:
            raise UserError(f"cannot read the weights {weights} of {name} ({reason})") from error
        raise UserError(
            f"cannot get the ImageNet weights {origin} ({reason}). Without a network: fetch the "
            f"folder huggingface.co/{origin} elsewhere and give its path as TRUNK.WEIGHTS (or that "
            f"of SegFormer's {name}.pth); TRUNK.WEIGHTS none starts from random weights"
        ) from error
    refuse_misfit(
        weights,
        name,
        missing=found["missing_keys"],
        unknown=found["unexpected_keys"] - {"classifier.weight", "classifier.bias"},
        shapes=[key for key, *_ in found["mismatched_keys"]],
    )
    return model


@contextmanager
def _unreported() -> Iterator[None]:
    """Keep transformers from reporting what does not fit: that is an error here."""
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def transformers_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of SegFormer's release to transformers' names, without the classifier.

    Others are returned as they are; transformers knows the older names of the hub.
    """
    if "patch_embed1.proj.weight" not in state:
        return dict(state)
    renamed = {}
    for key, value in state.items():
        if key.startswith("head."):
            continue
        first = re.match(r"(patch_embed|block|norm)(\d)\.", key)
        if first:
            key = f"stages.{int(first[2]) - 1}.{STAGES[first[1]]}.{key[first.end() :]}"
        for pattern, name in INSIDE:
            key = re.sub(pattern, name, key)
        if ".attn.kv." in key:
            for part, half in zip("kv", value.chunk(2), strict=True):
                renamed[key.replace(".attn.kv.", f".attention.{part}_proj.")] = half
        else:
            renamed[key] = value
    return renamed


@torch.no_grad()
def draw_weights(model: nn.Module) -> nn.Module:
    """Draw all weights as SegFormer's release does; transformers takes a deviation of 0.02, also
    for depthwise convolutions, which have 0.47 there."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels / module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        else:
            continue
        nn.init.zeros_(module.bias)
    return model
