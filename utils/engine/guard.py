"""What processes agree on in every step, without waiting for the device.

Between backward and the optimizer's step a small tensor is summed over the processes. It holds
three flags (a loss or gradient is not finite; a process was asked to stop, in two ways) and the
losses. The optimizer reads the first flag on the device and leaves weights and momentum alone if it
is set. The host reads the flags one step later: they have arrived by then, and all processes read
them after the same step.
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

    In every step: `add` after each pass, `agree` before the optimizer's step, `check` after it.
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
        self.indices: list[Tensor] = []

    def add(self, losses: dict[str, Tensor], indices: Tensor) -> None:
        """Note the losses of one pass, as they count in the step, and its images `[B]`."""
        for name, value in losses.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.indices.append(indices)

    @torch.no_grad()
    def agree(self, step: int) -> dict[str, Tensor]:
        """Void the optimizer's step if anything is not finite in any process.

        Returns the losses of the step, means over processes, on the device.
        """
        gradients = {n: p.grad for n, p in self.method.named_parameters() if p.grad is not None}
        # The largest entries: squares of large finite gradients would overflow.
        sizes = torch.stack(torch._foreach_norm(list(gradients.values()), float("inf")))
        losses = torch.stack(list(self.sums.values()))
        own = dict(zip(self.sums, losses.unbind(), strict=True))
        row = losses.new_zeros(FLAGS + len(losses))
        row[NOT_FINITE] = ~(losses.isfinite().all() & sizes.isfinite().all())
        code = self.interruption.code
        row[REQUEUE_ASKED].fill_(code == REQUEUE)
        row[INTERRUPT_ASKED].fill_(code == INTERRUPTED)
        row[FLAGS:] = losses
        sum_over_processes(row)
        self.void.copy_(torch.maximum(self.void, row[NOT_FINITE]))

        self.rows[step % 2].copy_(row[:FLAGS], non_blocking=True)
        arrived = torch.cuda.Event() if self.cuda else None
        if arrived is not None:
            arrived.record()
        record = StepRecord(step, own, sizes, list(gradients), self.indices)
        self.waiting.append((self.views[step % 2], arrived, record))
        self.sums, self.indices = {}, []
        return dict(zip(own, (row[FLAGS:] / self.runtime.world_size).unbind(), strict=True))

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
                paths = self.source.image_paths
                stop_with_report(record, paths, rates, self.runtime, self.folder)
            if flags[INTERRUPT_ASKED]:
                code = INTERRUPTED
            elif flags[REQUEUE_ASKED]:
                code = code or REQUEUE
        return code
