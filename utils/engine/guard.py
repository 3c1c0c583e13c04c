"""What processes agree on in every step, without waiting for the device.

Between backward and the optimizer's step a small tensor is summed over the processes. It holds
three flags (a loss or gradient is not finite; a process was asked to stop, in two ways), the losses
and the figures that methods record. The optimizer reads the first flag on the device and leaves
weights and momentum alone if it is set. The host reads the flags one step later: they have arrived
by then, and all processes read them after the same step.
"""

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.sampling.source import Sources
from network.methods import Method
from utils.engine.interruption import INTERRUPTED, REQUEUE, Interruption
from utils.engine.nonfinite import StepRecord, stop_with_report
from utils.engine.runtime import Runtime
from utils.processes import sum_over_processes

# The first elements of the tensor; losses follow.
NOT_FINITE, REQUEUE_ASKED, INTERRUPT_ASKED = range(3)
FLAGS = 3


class StepGuard:
    """Voids steps that are not finite, and carries requests to stop from process to process.

    In every step: `add` after each graph, `saw` after each pass, `agree` before the optimizer's
    step, `check` after it.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        source: Sources,
        runtime: Runtime,
        interruption: Interruption,
        folder: Path,
    ):
        """The optimizer must be a fused one, which reads `found_inf`; reports go to `folder`."""
        self.method, self.optimizer, self.source = method, optimizer, source
        self.runtime, self.interruption, self.folder = runtime, interruption, folder
        # Once set it stays: nothing after a bad step reaches the weights before the host stops.
        self.void = torch.zeros((), device=runtime.device)
        optimizer.found_inf = self.void
        self.cuda = runtime.device.type == "cuda"
        # Two rows: that of the step before is still to be read, by numpy, which asks torch nothing.
        self.rows = [torch.zeros(FLAGS, pin_memory=self.cuda) for _ in range(2)]
        self.views = [row.numpy() for row in self.rows]
        # Steps whose flags the host has not read, and when those are there.
        self.waiting: deque[tuple[np.ndarray, torch.cuda.Event | None, StepRecord]] = deque()
        self.sums: dict[str, Tensor] = {}
        self.figures: dict[str, Tensor] = {}
        self.indices: list[dict[str, Tensor]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Note the losses of one graph, as they count in the step."""
        _add(self.sums, losses)

    def saw(self, indices: dict[str, Tensor], figures: dict[str, Tensor]) -> None:
        """Note the images of a pass by stream, `[B]` each, and the figures that it recorded, as
        they count in the step's means."""
        self.indices.append(indices)
        _add(self.figures, figures)

    @torch.no_grad()
    def agree(self, step: int) -> dict[str, Tensor]:
        """Void the optimizer's step if anything is not finite in any process.

        Returns the losses of the step as "loss/NAME", and recorded figures: means over processes,
        on the device.
        """
        gradients = {n: p.grad for n, p in self.method.named_parameters() if p.grad is not None}
        # The largest entries: squares of large finite gradients would overflow.
        sizes = torch.stack(torch._foreach_norm(list(gradients.values()), float("inf")))
        losses = torch.stack(list(self.sums.values()))
        own = dict(zip(self.sums, losses.unbind(), strict=True))
        noted = [*self.sums.values(), *self.figures.values()]
        row = losses.new_zeros(FLAGS + len(noted))
        row[NOT_FINITE] = ~(losses.isfinite().all() & sizes.isfinite().all())
        code = self.interruption.code
        row[REQUEUE_ASKED].fill_(code == REQUEUE)
        row[INTERRUPT_ASKED].fill_(code == INTERRUPTED)
        row[FLAGS:] = torch.stack([value.to(losses) for value in noted])
        sum_over_processes(row)
        self.void.copy_(torch.maximum(self.void, row[NOT_FINITE]))

        self.rows[step % 2].copy_(row[:FLAGS], non_blocking=True)
        arrived = torch.cuda.Event() if self.cuda else None
        if arrived is not None:
            arrived.record()
        record = StepRecord(step, own, sizes, list(gradients), self.indices)
        self.waiting.append((self.views[step % 2], arrived, record))
        names = [*(f"loss/{name}" for name in self.sums), *self.figures]
        self.sums, self.figures, self.indices = {}, {}, []
        return dict(zip(names, (row[FLAGS:] / self.runtime.world_size).unbind(), strict=True))

    def check(self, now: bool) -> int:
        """Return the exit code that a process was asked to stop with, or 0.

        Reads the flags of the step before or, with `now`, of this one too, which waits for the
        device; so does being asked to stop. UserError if a step was voided, with a report.
        """
        code = 0
        while self.waiting and (now or code or len(self.waiting) > 1):
            flags, arrived, record = self.waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            if flags[NOT_FINITE]:
                rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
                stop_with_report(record, self.source, rates, self.runtime, self.folder)
            if flags[INTERRUPT_ASKED]:
                code = INTERRUPTED
            elif flags[REQUEUE_ASKED]:
                code = code or REQUEUE
        return code


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        value = value.detach()
        sums[name] = sums[name] + value if name in sums else value
