"""Plain vision transformers, as DINOv2 (arXiv 2304.07193) and DINOv3 (arXiv 2508.10104) have them.

Layer 0 is the patch projection alone. Layers 1–4 are groups of blocks: class token and registers
pass them beside the map, which is all that is returned. Positions are added on the way into layer 1
(DINOv2), or turn queries and keys in every block (DINOv3). The final norm is left out, as in the
published segmentation networks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.trunks.trunk import Trunk
from utils.errors import UserError

PERIOD = 100.0  # the longest of a rotary position


class Shape(NamedTuple):
    """What tells vision transformers apart.

    `ends` are the blocks, counted from 1, that layers 1–4 end with; `table` is the side of the
    grid of learned positions, 0 for rotary ones.
    """

    width: int
    heads: int
    ends: tuple[int, int, int, int]
    patch: int = 16
    registers: int = 0
    table: int = 0
    eps: float = 1e-6


class QueryKeyValue(nn.Linear):
    """The three projections of attention side by side; with rotary positions keys have no bias."""

    parts = 3

    def __init__(self, width: int, key_bias: bool):
        super().__init__(width, 3 * width)
        mask = torch.ones(3, width)
        mask[1] = float(key_bias)
        self.register_buffer("bias_mask", mask.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to `[..., 3 C]`."""
        return F.linear(x, self.weight, self.bias * self.bias_mask)


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.qkv = QueryKeyValue(shape.width, key_bias=shape.table > 0)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, rotary: Tensor | None) -> Tensor:
        """`[B, N, C]` to the same shape; `rotary` as in `rotary_table`."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            query, key = (turned(each, rotary).to(value.dtype) for each in (query, key))
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two linear layers, four times as wide in between."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to the same shape."""
        return x * self.gamma


class Block(nn.Module):
    """`x += g₁ · attention(norm x)`, `x += g₂ · perceptron(norm x)`."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, shape.eps)
        self.attn = Attention(shape)
        self.ls1 = LayerScale(shape.width)
        self.norm2 = nn.LayerNorm(shape.width, shape.eps)
        self.mlp = Perceptron(shape.width)
        self.ls2 = LayerScale(shape.width)

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        """`[B, N, C]` to the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x), rotary))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Blocks(nn.Sequential):
    """Layers 2–4; blocks are called by their number in the network."""

    def __init__(self, shape: Shape, first: int, end: int):
        super().__init__()
        for number in range(first, end):
            self.add_module(str(number), Block(shape))

    def forward(
        self,
        tokens: Tensor,
        rotary: Tensor | None,
        after_block: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """`[B, N, C]` to the same shape; `after_block` takes number and tokens of each block."""
        for number, block in self.named_children():
            tokens = block(tokens, rotary)
            if after_block is not None:
                tokens = after_block(int(number), tokens)
        return tokens


class FirstBlocks(Blocks):
    """Layer 1: positions, class token and registers, then blocks."""

    def __init__(self, shape: Shape):
        super().__init__(shape, 0, shape.ends[0])
        self.table, self.antialias = shape.table, shape.registers > 0
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        if shape.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, shape.registers, shape.width))
        if shape.table:
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.table**2, shape.width))

    def tokens(self, patches: Tensor) -> Tensor:
        """Turn patches `[B, C, h, w]` into tokens `[B, N, C]`: class, registers, patches."""
        x, first = patches.flatten(2).transpose(1, 2), self.cls_token
        if self.table:
            first = first + self.pos_embed[:, :1]
            x = x + self.positions(patches.shape[-2:]).to(x.dtype)
        prefix = [first, self.register_tokens] if hasattr(self, "register_tokens") else [first]
        return torch.cat([*(p.to(x.dtype).expand(x.shape[0], -1, -1) for p in prefix), x], dim=1)

    def positions(self, size: Sequence[int]) -> Tensor:
        """Return learned positions `[1, h w, C]` of a grid of `size` (h, w), bicubic, by size.

        Of networks with registers they are antialiased, as transformers does it.
        """
        own = self.pos_embed[:, 1:]
        # An exported network has one way for all sizes.
        if not torch.compiler.is_exporting() and tuple(size) == (self.table, self.table):
            return own
        grid = own.transpose(1, 2).unflatten(2, (self.table, self.table))
        grid = grid.to(torch.promote_types(own.dtype, torch.float32))
        options = {"mode": "bicubic", "align_corners": False, "antialias": self.antialias}
        return F.interpolate(grid, tuple(size), **options).flatten(2).transpose(1, 2)


class VisionTransformer(Trunk):
    """All layers have the stride of the patch; `start` is 0 or 1."""

    tunings = ("full", "frozen", "lora", "soma", "rein")

    def __init__(self, shape: Shape, recompute: Sequence[bool]):
        projection = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)
        layers = [nn.Sequential(), FirstBlocks(shape)]
        layers[0].add_module("proj", projection)
        pairs = zip(shape.ends, shape.ends[1:], strict=False)
        layers += [Blocks(shape, first, end) for first, end in pairs]
        super().__init__(layers, [shape.width] * 5, [shape.patch] * 5, (False, *recompute))
        self.block_widths = [shape.width] * shape.ends[-1]
        self.ends = shape.ends[:-1]
        self.multiple = shape.patch
        self.prefix = 1 + shape.registers
        self.turn = 0 if shape.table else shape.width // shape.heads
        draw_weights(self)

    def layer_of(self, number: int) -> str:
        """Return the name of the layer that holds block `number`, the last one's for none."""
        return f"layer{1 + sum(number >= end for end in self.ends)}"

    def no_weight_decay(self) -> set[str]:
        """Return the names of tokens, positions and layer scales."""
        spared = ("_token", "_tokens", "pos_embed", "gamma")
        return {name for name, _ in self.named_parameters() if name.endswith(spared)}

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        stop: int = 4,
        after: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[int, Tensor]:
        """As of every trunk; UserError for a `start` beyond 1, where tokens are missing."""
        if start > 1:
            raise UserError(
                f"a vision transformer is entered at layer 0 or 1, not {start}: what passes its "
                "blocks beside the map is made there"
            )
        after = after or {}
        features: dict[int, Tensor] = {}
        if start == 0:
            x = features[0] = self._run(0, x)
        if 0 in after and stop > 0:
            x = after[0](x)
        size = x.shape[-2:]
        rotary = rotary_table(size, self.turn, x) if self.turn else None
        tokens = self.layer1.tokens(x) if stop > 0 else x
        for i in range(1, stop + 1):
            if i > 1 and i - 1 in after:
                patches = after[i - 1](features[i - 1]).flatten(2).transpose(1, 2)
                tokens = torch.cat([tokens[:, : self.prefix], patches], dim=1)
            tokens = self._run(i, tokens, rotary)
            features[i] = tokens[:, self.prefix :].unflatten(1, size).permute(0, 3, 1, 2)
        return features

    def adapt(self, number: int, tokens: Tensor) -> Tensor:
        """Let the adapter act on the patches among tokens `[B, N, C]`."""
        patches = self.adapter(number, tokens[:, self.prefix :])
        return torch.cat([tokens[:, : self.prefix], patches], dim=1)


def rotary_table(size: Sequence[int], width: int, like: Tensor) -> Tensor:
    """Return cosines and sines `[2, h w, width]` of places on a grid (DINOv3), float32 at least.

    A place's coordinates are those of its centre in [−1, 1], y then x; the angles are 2π times
    these over the periods `100^(4k / width)`, twice behind one another.
    """
    places = [2 * ((torch.arange(n, device=like.device) + 0.5) / n) - 1 for n in size]
    grid = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1).flatten(0, 1)
    frequencies = 1 / PERIOD ** torch.arange(0, 1, 4 / width, device=like.device)
    wide = torch.promote_types(like.dtype, torch.float32)
    angles = 2 * math.pi * grid[..., None] * frequencies.to(wide)
    angles = angles.flatten(1).tile(2)
    return torch.stack([angles.cos(), angles.sin()])


def turned(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn the patches among tokens `[B, heads, N, d]`, which stand behind all others."""
    cosine, sine = rotary
    others = x.shape[-2] - cosine.shape[0]
    patches = x[..., others:, :]
    low, high = patches.chunk(2, dim=-1)
    patches = patches * cosine + torch.cat([-high, low], dim=-1) * sine
    return torch.cat([x[..., :others, :].to(patches.dtype), patches], dim=-2)


@torch.no_grad()
def draw_weights(trunk: nn.Module) -> None:
    """Draw weights as DINOv2's release does: deviation 0.02, class and registers next to nothing;
    the projection keeps torch's own initialisation."""
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    for name, parameter in trunk.layer1.named_parameters(recurse=False):
        nn.init.trunc_normal_(parameter, std=0.02 if name == "pos_embed" else 1e-6)
