"""Rein (arXiv 2312.04265): tokens behind every block that features attend to."""

import math
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from network.trunks.trunk import Adapter, Trunk
from network.tuning.tuning import Tuning
from utils.settings import Setting

PATCH = 16  # in the range that tokens are drawn from, whatever the trunk's


class Refinement(Adapter):
    """What all blocks of one width share, and tokens `T_i = A_i B_i` `[m, C]` of each.

    `f += γ W_f(S' W_T(T') + f)`, `S = softmax(f Tᵀ / √C)` over the m tokens; `'` leaves out the
    first one.
    """

    def __init__(self, width: int, blocks: int, tokens: int, rank: int):
        super().__init__()
        self.token_a = nn.Parameter(torch.empty(blocks, tokens, rank))
        self.token_b = nn.Parameter(torch.empty(blocks, rank, width))
        reach = math.sqrt(6 / (3 * PATCH**2 + math.sqrt(width * rank)))
        nn.init.uniform_(self.token_a, -reach, reach)
        nn.init.uniform_(self.token_b, -reach, reach)
        self.to_feature, self.to_delta = nn.Linear(width, width), nn.Linear(width, width)
        for linear in (self.to_feature, self.to_delta):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        self.scale = nn.Parameter(torch.tensor(0.001))

    def tokens(self) -> Tensor:
        """Return the tokens of all blocks `[blocks, m, C]`."""
        return self.token_a @ self.token_b

    def forward(self, number: int, features: Tensor) -> Tensor:
        """Refine what block `number` of these returned, `[B, n, C]`."""
        tokens = self.token_a[number] @ self.token_b[number]
        scores = features @ tokens.T / math.sqrt(features.shape[-1])
        delta = scores.softmax(-1)[..., 1:] @ self.to_feature(tokens[1:])
        return features + self.scale * self.to_delta(delta + features)


class Refinements(Adapter):
    """A Refinement for each run of blocks of one width: of vision transformers there is one.

    After `add_queries` it also makes a decoder's queries from the tokens.
    """

    def __init__(self, widths: list[int], tokens: int, rank: int):
        super().__init__()
        self.number = tokens
        groups = sorted(set(widths))
        self.groups = nn.ModuleList(
            Refinement(width, widths.count(width), tokens, rank) for width in groups
        )
        self.place = [
            (groups.index(width), widths[:i].count(width)) for i, width in enumerate(widths)
        ]
        self.projections: nn.ModuleList | None = None

    def no_weight_decay(self) -> set[str]:
        """Return the names of tokens and factors."""
        spared = ("token_a", "token_b", "scale")
        return {name for name, _ in self.named_parameters() if name.endswith(spared)}

    def forward(self, number: int, features: Tensor) -> Tensor:
        """Refine what block `number` returned, `[B, n, C]`."""
        group, own = self.place[number]
        return self.groups[group](own, features)

    def add_queries(self, width: int) -> None:
        """Make queries of this width, one for each token."""
        self.projections = nn.ModuleList(
            nn.Linear(group.to_delta.in_features, width) for group in self.groups
        )
        self.join = nn.Linear(3 * width, width)

    def queries(self) -> Tensor:
        """Return queries `[m, width]`: of each token's queries over blocks the maximum, mean and
        last one, channel by channel beside one another; those of several widths are added."""
        total = 0.0
        for group, projection in zip(self.groups, self.projections, strict=True):
            own = projection(group.tokens())  # [blocks, m, width]
            parts = torch.stack([own.amax(0), own.mean(0), own[-1]], dim=-1)
            total = total + self.join(parts.flatten(1))
        return total


class Rein(Tuning):
    """Tokens that refine the features of a frozen trunk."""

    settings: dict[str, Any] = {
        "TUNING": {
            "TOKENS": Setting(
                100, "of a block; with Mask2Former they make the queries, so as many", minimum=2
            ),
            "TOKEN_RANK": Setting(16, "rank of the tokens of a block", minimum=1),
        }
    }
    defaults = {"TRAIN.LR_ENCODER": 1e-4}
    small = {"TUNING.TOKENS": 12, "TUNING.TOKEN_RANK": 4}

    @classmethod
    def apply(cls, trunk: Trunk, cfg: EasyDict, fresh: bool) -> None:
        """Freeze the trunk and add the tokens."""
        super().apply(trunk, cfg, fresh)
        trunk.adapter = Refinements(
            list(trunk.block_widths), cfg.TUNING.TOKENS, cfg.TUNING.TOKEN_RANK
        )
