"""A frozen trunk with the weights it was pretrained with, whose features training keeps to."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from network.trunks.trunk import Trunk


class NeutralTrunk(nn.Module):
    """Layers `first` to `last` of a trunk, frozen.

    With batch statistics, its batch norms lose their running ones and stay in training mode: that
    way they synchronise over GPUs as the student's (SyncBatchNorm in eval mode never does).
    """

    def __init__(self, trunk: Trunk, first: int, last: int, batch_statistics: bool):
        super().__init__()
        self.first, self.last = first, last
        self.batch_statistics = batch_statistics
        for i in range(5):
            if not first <= i <= last:
                setattr(trunk, f"layer{i}", nn.Identity())
        self.trunk = trunk.requires_grad_(False)
        if batch_statistics:
            for norm in self._batch_norms():
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]

    def train(self, mode: bool = True) -> "NeutralTrunk":
        """Stay in evaluation mode, but for batch norms that use batch statistics."""
        super().train(False)
        if self.batch_statistics:
            for norm in self._batch_norms():
                norm.train()
        return self

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Features of layers `first` to `last` for what enters `first`."""
        return self.trunk(x, start=self.first, stop=self.last)


class UntunedTrunk(nn.Module):
    """Layers `first` to `last` of the student's own trunk without what tuning added: a neutral
    network that has no weights of its own. For trunks that can be neutral."""

    def __init__(self, trunk: Trunk, first: int, last: int):
        super().__init__()
        self.first, self.last = first, last
        # In a tuple: it is a part of the student.
        self.student = (trunk,)

    @property
    def trunk(self) -> Trunk:
        """The student's trunk."""
        return self.student[0]

    @torch.no_grad()
    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Features of layers `first` to `last` for what enters `first`."""
        with self.trunk.untuned():
            return self.trunk(x, start=self.first, stop=self.last)
