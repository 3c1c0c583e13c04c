"""The mean teacher (arXiv 1703.01780): a moving average of the student, which labels images."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from network.trunks.trunk import Trunk


class EMATeacher(nn.Module):
    """Copies of some parts of a student, whose parameters follow it; they get no gradient.

    `parts` holds them by the student's names. They stay in evaluation mode (no dropout, no dropped
    paths) but for batch norms, which use batch statistics; nothing reads the running ones that
    they collect.
    """

    def __init__(self, student: Mapping[str, nn.Module]):
        super().__init__()
        # Copied together: modules that parts share stay shared. So do weights that tuning keeps.
        trunks = [m for part in student.values() for m in part.modules() if isinstance(m, Trunk)]
        kept = [p for trunk in trunks if trunk.keeps_weights for p in trunk.parameters()]
        memo = {id(p): p for p in kept if not p.requires_grad}
        self.parts = nn.ModuleDict(deepcopy(dict(student.items()), memo)).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "EMATeacher":
        """Keep the mode that the class describes."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        return self

    @torch.no_grad()
    def reset(self, student: Mapping[str, nn.Module]) -> None:
        """Become a copy of the student, parameters and buffers.

        Called before step 0, so that weights which the student got since (INIT) count.
        KeyError for a student that lacks a part.
        """
        for own, other in zip(_tensors(self.parts), _tensors(self._own(student)), strict=True):
            own.copy_(other)

    @torch.no_grad()
    def update(self, student: Mapping[str, nn.Module], step: int, alpha: float) -> None:
        """Move the parameters after optimizer step `step`, counted from 0.

        `θ' ← a θ' + (1 − a) θ` with `a = min(1 − 1/(step + 2), alpha)`, as published for DACS and
        DAFormer: early on, the teacher is the mean of all students. Nothing waits for the device.
        """
        decay = min(1 - 1 / (step + 2), alpha)
        pairs = zip(self.parts.parameters(), self._own(student).parameters(), strict=True)
        own, other = zip(*(pair for pair in pairs if pair[0] is not pair[1]), strict=True)
        get_ema_multi_avg_fn(decay)(own, other, None)

    def _own(self, student: Mapping[str, nn.Module]) -> nn.ModuleDict:
        """Return the student's parts that the teacher has, in its order."""
        return nn.ModuleDict({name: student[name] for name in self.parts})


def _tensors(parts: nn.Module) -> Iterator[Tensor]:
    return chain(parts.parameters(), parts.buffers())
