"""Low-rank changes of linear layers: LoRA (arXiv 2106.09685) and SoMA (arXiv 2412.04077)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from network.trunks.trunk import Adapter, Trunk
from network.tuning.tuning import Tuning
from utils.errors import UserError
from utils.settings import Setting

# Names of linear layers in blocks of vision transformers and of ConvNeXt, by what they do.
TARGETS = {
    "qkv": ("attn.qkv",),
    "proj": ("attn.proj",),
    "fc1": ("mlp.fc1", "block.3"),
    "fc2": ("mlp.fc2", "block.5"),
}


class LowRank(Adapter):
    """What is added to a linear layer's output, `s B A x`; the layer itself stays as it is.

    Queries, keys and values in one layer are changed each by itself (`parts`): `a`
    `[parts, r, in]`, `b` `[parts, out / parts, r]`.
    """

    is_a_change_of_weights = True

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float = 0.0):
        super().__init__()
        self.scale, self.dropout = scale, dropout
        parts = getattr(linear, "parts", 1)
        most = min(linear.in_features, linear.out_features // parts)
        if rank > most:
            raise UserError(
                f"TUNING.RANK {rank} is more than a matrix of {linear.out_features // parts}×"
                f"{linear.in_features} has; choose {most} or less"
            )
        options = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.a = nn.Parameter(torch.empty(parts, rank, linear.in_features, **options))
        self.b = nn.Parameter(torch.zeros(parts, linear.out_features // parts, rank, **options))
        for a in self.a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        # In a tuple: the layer holds this module.
        self.linear = (linear,)
        linear.low_rank = self
        linear.register_forward_hook(add_low_rank)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` to what is added, `[..., out]`."""
        return self.scale * product(F.dropout(x, self.dropout, self.training), self.a, self.b)

    def weight_change(self) -> Tensor:
        """Return what is added to the weight, `[out, in]`."""
        return self.scale * (self.b @ self.a).flatten(0, 1)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to the layer's weights, and end."""
        (linear,) = self.linear
        linear.weight += self.weight_change()
        del linear.low_rank
        hooks = linear._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is add_low_rank]:
            del hooks[key]


def add_low_rank(linear: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    """The hook of a linear layer that has a `low_rank`."""
    return output + linear.low_rank(*inputs) if linear.low_rank.active else None


def product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `B A x` `[..., parts · o]` of `x` `[..., in]`, `a` `[parts, r, in]`, `b`
    `[parts, o, r]`, part by part."""
    inner = F.linear(x, a.flatten(0, 1)).chunk(len(a), dim=-1)
    return torch.cat([F.linear(each, own) for each, own in zip(inner, b, strict=True)], dim=-1)


class MinorComponents(LowRank):
    """SoMA: the change starts from the weight's smallest singular components.

    `s (B A x − B₀ A₀ x)`, where `B₀ A₀ = U_r S_r V_rᵀ / s` at the start: exactly 0 there. The
    layer's bias is trained too, in a copy of its own.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float, fresh: bool):
        super().__init__(linear, rank, scale)
        if fresh:
            pairs = [minor(part, rank) for part in linear.weight.detach().chunk(len(self.a))]
            for name, factors in zip("ab", zip(*pairs, strict=True), strict=True):
                getattr(self, name).data.copy_(torch.stack(factors) / math.sqrt(scale))
        self.register_buffer("a_start", self.a.detach().clone())
        self.register_buffer("b_start", self.b.detach().clone())
        self.bias = nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` to what is added, `[..., out]`."""
        moved = product(x, self.a, self.b) - product(x, self.a_start, self.b_start)
        (linear,) = self.linear
        bias = (self.bias - linear.bias) * getattr(linear, "bias_mask", 1.0)
        # Autocast would be left behind: what is added must not be wider than what it is added to.
        return self.scale * moved + bias.to(moved.dtype)

    def weight_change(self) -> Tensor:
        """Return what is added to the weight, `[out, in]`."""
        moved = self.b @ self.a - self.b_start @ self.a_start
        return self.scale * moved.flatten(0, 1)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the changes to the layer's weights, and end."""
        (linear,) = self.linear
        linear.bias.copy_(self.bias)
        super().merge()


def minor(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return `√S_r V_rᵀ` `[r, in]` and `U_r √S_r` `[out, r]` of the `rank` smallest singular values
    of a weight `[out, in]`.

    From the eigenvectors of the smaller Gram matrix in float64, a fraction of a decomposition's
    time; the product is the same.
    """
    wide = weight.double()
    tall = wide.shape[0] >= wide.shape[1]
    gram = wide.T @ wide if tall else wide @ wide.T
    vectors = torch.linalg.eigh(gram).eigenvectors[:, :rank]  # ascending
    images = wide @ vectors if tall else wide.T @ vectors  # σ times the other side's vectors
    root = images.norm(dim=0).clamp_min(1e-30).sqrt()
    left, right = (images / root, vectors * root) if tall else (vectors * root, images / root)
    return right.T.to(weight.dtype), left.to(weight.dtype)


def linears(trunk: Trunk, targets: list[str], from_block: int) -> list[nn.Linear]:
    """Return the linear layers that TUNING.TARGETS and FROM_BLOCK name; UserError if there are
    none."""
    endings = tuple(f".{name}" for target in targets for name in TARGETS[target])
    found = []
    for i in range(1, 5):
        for number, block in getattr(trunk, f"layer{i}").named_children():
            if number.isdigit() and int(number) >= from_block:
                found += [
                    module
                    for name, module in block.named_modules()
                    if isinstance(module, nn.Linear) and f".{name}".endswith(endings)
                ]
    if not found:
        raise UserError(
            f"TUNING.FROM_BLOCK {from_block} and TUNING.TARGETS {','.join(targets)} leave nothing "
            f"of this trunk's {len(trunk.block_widths)} blocks to be tuned"
        )
    return found


RANK = Setting(16, "rank of the change of each matrix", minimum=1)
TARGET = Setting(list(TARGETS), "which linear layers of a block", choices=tuple(TARGETS), least=1)


class LoRA(Tuning):
    """Low-rank changes that start at 0."""

    settings: dict[str, Any] = {
        "TUNING": {
            "RANK": RANK,
            "ALPHA": Setting(16.0, "changes are scaled by ALPHA / RANK", minimum=1e-3),
            "DROPOUT": Setting(0.0, "of what enters the change (VFMSeg: 0.1)", maximum=0.99),
            "TARGETS": TARGET,
            "FROM_BLOCK": Setting(0, "blocks before this one, from 0, are not tuned"),
        }
    }
    defaults = {"TRAIN.LR_ENCODER": 1e-4}
    small = {"TUNING.RANK": 2}

    @classmethod
    def apply(cls, trunk: Trunk, cfg: EasyDict, fresh: bool) -> None:
        """Freeze the trunk and add the changes."""
        super().apply(trunk, cfg, fresh)
        options = cfg.TUNING
        for linear in linears(trunk, options.TARGETS, options.FROM_BLOCK):
            LowRank(linear, options.RANK, options.ALPHA / options.RANK, options.DROPOUT)


class SoMA(Tuning):
    """Changes that start from minor singular components, in all but the first third of the blocks,
    with the biases."""

    settings: dict[str, Any] = {
        "TUNING": {
            "RANK": RANK,
            "SCALE": Setting(1.0, "factor of the change", minimum=1e-3),
            "TARGETS": TARGET,
            "FROM_BLOCK": Setting(
                -1, "blocks before this one, from 0, are not tuned; -1: the first third", minimum=-1
            ),
        }
    }
    defaults = {
        "TRAIN.LR_ENCODER": 5e-5,
    }
    small = {"TUNING.RANK": 2}

    @classmethod
    def apply(cls, trunk: Trunk, cfg: EasyDict, fresh: bool) -> None:
        """Freeze the trunk and add the changes; of ViT-L that takes 40 s of one core."""
        super().apply(trunk, cfg, fresh)
        options = cfg.TUNING
        first = options.FROM_BLOCK if options.FROM_BLOCK >= 0 else len(trunk.block_widths) // 3
        for linear in linears(trunk, options.TARGETS, first):
            MinorComponents(linear, options.RANK, options.SCALE, fresh)
