"""DINOv2 and DINOv3: vision transformers, and their weights from files of Meta and of the hub."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from network.trunks.backbone import refuse_misfit, weights_of
from network.trunks.vit import Shape, VisionTransformer
from utils.errors import UserError
from utils.settings import Setting

# Size → width, heads, and the blocks that layers 1–4 end with.
SIZES = {
    "mini": (32, 2, (1, 2, 3, 4)),
    "s": (384, 6, (4, 6, 8, 12)),
    "b": (768, 12, (4, 6, 8, 12)),
    "l": (1024, 16, (8, 12, 16, 24)),
}
KERNEL, TABLE, REGISTERS = 14, 37, 4  # of DINOv2: patch and grid of positions; of both: registers
META = "https://dl.fbaipublicfiles.com/dinov2"
GATE = "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads"

# Names of the hub, older and newer ones of transformers, → Meta's.
HUB = (
    (r"^model\.", ""),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.)?layer\.", "blocks."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(attention\.)?([qkv])(uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^storage_tokens$", "register_tokens"),
)
# What a segmentation network does not use: the final norm, pretraining's masks and heads, tables
# that are computed.
UNUSED = re.compile(r"norm\.(weight|bias)|.*mask_token|rope_embed\.periods|.*\.bias_mask|head\..*")

SETTINGS = {
    "TRUNK": {
        "PATCH": Setting(
            16,
            "stride of DINOv2 in pixels; 16 resizes the kernel of 14 of the file (published); 14 "
            "keeps it, with crops such as 518",
            choices=(14, 16),
        ),
        "PATCH_RESIZE": Setting(
            "published",
            "how the kernel is resized: published (bicubic, responses grow by a quarter) or exact "
            "(responses stay)",
            choices=("published", "exact"),
        ),
    }
}
# Of full fine-tuning; each tuning has rates of its own.
DEFAULTS = {
    "TRUNK.OUTPUT_STRIDE": 16,
    "TRAIN.OPTIMIZER": "adamw",
    "TRAIN.LR_ENCODER": 1e-5,
    "TRAIN.LR_DECODER": 1e-4,
    "TRAIN.WEIGHT_DECAY": 0.05,
    "TRAIN.NO_DECAY": ["norms", "embeddings"],
}


def dinov2(
    name: str,
    output_stride: int,
    weights: str,
    recompute: Sequence[bool],
    patch: int = 16,
    patch_resize: str = "published",
) -> VisionTransformer:
    """Build "dinov2_l", or "dinov2_reg_l" with registers; UserError for weights that do not fit."""
    width, heads, ends = SIZES[name.split("_")[-1]]
    table = 4 if name.endswith("mini") else TABLE
    registers = REGISTERS if "_reg" in name else 0
    shape = Shape(width, heads, ends, patch, registers, table)
    if weights == "none":
        return _built(shape, name, output_stride, recompute)
    named = {} if name.endswith("mini") else {"meta": partial(_of_meta, name)}
    state = metas_names(weights_of(name, weights, named))
    trunk = _built(shape, name, output_stride, recompute)
    kernel = state.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[-1] == KERNEL != patch:
        state["patch_embed.proj.weight"] = resized_kernel(kernel, patch, patch_resize)
        trunk.converted = frozenset({"layer0.proj.weight"})
        trunk.remarks = (
            f"{name}: kernels of {KERNEL}×{KERNEL} pixels became {patch}×{patch} "
            f"(TRUNK.PATCH_RESIZE {patch_resize})",
        )
    _fill(trunk, state, name, weights)
    return trunk


dinov2.settings = SETTINGS
dinov2.columnar = True
dinov2.defaults = DEFAULTS | {"TRUNK.WEIGHTS": "meta"}


def dinov3(
    name: str, output_stride: int, weights: str, recompute: Sequence[bool]
) -> VisionTransformer:
    """Build "dinov3_l"; UserError for weights that do not fit."""
    width, heads, ends = SIZES[name.split("_")[-1]]
    shape = Shape(width, heads, ends, registers=REGISTERS, eps=1e-5)
    if weights == "none":
        return _built(shape, name, output_stride, recompute)
    refuse_missing(name, weights)
    state = metas_names(weights_of(name, weights, {}))
    trunk = _built(shape, name, output_stride, recompute)
    _fill(trunk, state, name, weights)
    return trunk


dinov3.columnar = True
dinov3.defaults = DEFAULTS


def refuse_missing(name: str, weights: str) -> None:
    """Raise UserError, saying how to come by weights of DINOv3, where there is no such file."""
    if not Path(weights).exists():
        raise UserError(
            f"no weights file {weights}. Those of {name} are given out on request: fill in the "
            f"form at {GATE} or at huggingface.co/facebook, fetch the file that you are sent a "
            "link to, and give its path as TRUNK.WEIGHTS; none starts from random weights"
        )


def _of_meta(name: str) -> Mapping[str, Tensor]:
    """Download DINOv2's weights from Meta, once."""
    network = f"dinov2_vit{name[-1]}14"
    address = f"{META}/{network}/{network}{'_reg4' if '_reg' in name else ''}_pretrain.pth"
    try:
        return torch.hub.load_state_dict_from_url(address, map_location="cpu", weights_only=True)
    # Also a file in the cache that is damaged, of which it raises whatever it stumbled over.
    except Exception as error:
        raise UserError(
            f"cannot download the weights of {name} ({error}). Without a network: fetch {address} "
            f"elsewhere and give its path as TRUNK.WEIGHTS, or put it into {torch.hub.get_dir()}/"
            "checkpoints; TRUNK.WEIGHTS none starts from random weights"
        ) from error


def _built(
    shape: Shape, name: str, output_stride: int, recompute: Sequence[bool]
) -> VisionTransformer:
    if output_stride != 16:
        raise UserError(
            f"{name} has the stride of its patches in all layers, and TRUNK.OUTPUT_STRIDE is "
            f"{output_stride}; set it to 16"
        )
    return VisionTransformer(shape, recompute)


def metas_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a trunk has of a file's weights, by Meta's names: those of the hub are renamed,
    queries, keys and values in one."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in HUB:
            key = re.sub(pattern, name, key)
        if not UNUSED.fullmatch(key):
            renamed[key] = value
    for query in [key for key in renamed if ".attn.q." in key]:
        names = [query.replace(".q.", f".{name}.") for name in "qkv"]
        # Keys of DINOv3 have no bias.
        if query.endswith("bias"):
            renamed.setdefault(names[1], torch.zeros_like(renamed[query]))
        joint = query.replace(".q.", ".qkv.")
        if joint not in renamed and all(name in renamed for name in names):
            renamed[joint] = torch.cat([renamed.pop(name) for name in names])
    return renamed


def _fill(trunk: VisionTransformer, state: Mapping[str, Tensor], name: str, weights: str) -> None:
    """Load weights with Meta's names; UserError for those of another network."""
    own, found = trunk.state_dict(), {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        if first == "patch_embed":
            key = f"layer0.{rest}"
        elif first == "blocks" and number.isdecimal():
            key = f"{trunk.layer_of(int(number))}.{rest}"
        else:
            key = f"layer1.{key}"
        found[key] = value
    table = "layer1.pos_embed"
    if table in own and table in found and own[table].shape[:2] != found[table].shape[:2]:
        raise UserError(
            f"the weights {weights} have {found[table].shape[1] - 1} positions, and {name} has "
            f"{own[table].shape[1] - 1}: the file was converted for another size. Give the "
            "original one; positions and kernels are resized here"
        )
    shapes = [k for k in own if k in found and own[k].shape != found[k].shape]
    refuse_misfit(weights, name, own.keys() - found.keys(), found.keys() - own.keys(), shapes)
    trunk.load_state_dict({k: v.to(own[k].dtype) for k, v in found.items()})


def resized_kernel(kernel: Tensor, side: int, how: str) -> Tensor:
    """Return a patch projection's kernel `[C, 3, k, k]` at another side.

    published: bicubic, as the DGSS networks have it. exact: `pinv(Bᵀ) w` with the matrix B that
    resizes a patch (FlexiViT, arXiv 2212.08013): a resized patch gives the response it gave before.
    """
    wide = kernel.double()
    options = {"mode": "bicubic", "align_corners": False}
    if how == "published":
        return F.interpolate(kernel.float(), (side, side), **options)
    old = wide.shape[-1]
    basis = torch.eye(old * old, dtype=torch.float64).view(-1, 1, old, old)
    matrix = F.interpolate(basis, (side, side), **options).flatten(1)  # [old², side²]
    resized = wide.flatten(2) @ torch.linalg.pinv(matrix).T
    return resized.view(*wide.shape[:2], side, side).to(torch.float32)
