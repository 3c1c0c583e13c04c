"""The moving average of the trained weights, which is evaluated and deployed in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from easydict import EasyDict
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from network.methods import Method


class Average:
    """The exponential moving average of what is trained in a method's inference parts.

    It begins after TRAIN.EMA_START optimizer steps as a copy of the weights. Each later step moves
    it: `a ← d a + (1 − d) w` with d = TRAIN.EMA (0: there is never one). Buffers, such as running
    statistics, have no average. Processes with equal weights have equal averages.

    `weights` is the average by names of parameters: empty before it begins. It belongs in the
    checkpoint; network/checkpoint.py puts it in the place of the weights for all but training.
    """

    def __init__(
        self, method: Method, cfg: EasyDict, step: int, saved: Mapping[str, Tensor] | None = None
    ):
        """`method` is on its device, after `step` optimizer steps; `saved` is the average in its
        checkpoint, where there is one."""
        self.decay, self.start = cfg.TRAIN.EMA, cfg.TRAIN.EMA_START
        self.trained = {
            name: parameter
            for name, parameter in method.named_parameters()
            if parameter.requires_grad and name.split(".")[0] in method.inference_parts
        }
        self.weights: dict[str, Tensor] = {}
        if self.decay and saved:
            self._copy(saved)
        else:
            self.update(step)

    def update(self, step: int) -> None:
        """Follow the weights, which have made `step` optimizer steps; without waiting for the
        device."""
        if self.weights:
            own, other = list(self.weights.values()), list(self.trained.values())
            get_ema_multi_avg_fn(self.decay)(own, other, None)
        elif self.decay and step >= self.start:
            self._copy(self.trained)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average, if there is one, in the place of the weights for a while.

        Storage changes hands, so that no bit of either does.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        self.weights = {n: torch.empty_like(p).copy_(source[n]) for n, p in self.trained.items()}

    def _exchange(self) -> None:
        for name, own in self.weights.items():
            parameter = self.trained[name]
            parameter.data, self.weights[name] = own, parameter.data
