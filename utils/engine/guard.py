"""What processes agree on in every step, without waiting for the device.

One small tensor is summed over the processes between backward and the optimizer's step: whether a
loss or gradient is not finite anywhere, whether a process was asked to stop, and the losses. The
optimizer reads the first on the device and leaves weights and momentum alone if it is set; the
host reads the flags one step later, when they are long there, in all processes after the same step.
"""

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.sampling.source import Sources
from network.methods import Method
from utils.engine.interruption import INTERRUPTED, REQUEUE, Interruption
from utils.engine.runtime import Runtime
from utils.errors import UserError

# The first elements of the tensor; losses follow.
NOT_FINITE, REQUEUE_ASKED, INTERRUPT_ASKED = range(3)
FLAGS = 3
NAMED = 5  # parameters and files that a message names; the report has them all


@dataclass
class _Step:
    """One step whose flags the host has not read, and what a report on it needs."""

    step: int
    flags: np.ndarray
    arrived: torch.cuda.Event | None
    losses: dict[str, Tensor]
    gradient_sizes: Tensor
    parameters: list[str]
    indices: list[Tensor]


class StepGuard:
    """Voids steps that are not finite, and carries requests to stop from process to process.

    In every step: `add` after each pass, `agree` before the optimizer's step, `check` after it.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        source: Sources,
        here: Runtime,
        interruption: Interruption,
        folder: Path,
    ):
        """The optimizer must be a fused one, which reads `found_inf`; reports go to `folder`."""
        self.method, self.optimizer, self.source = method, optimizer, source
        self.here, self.interruption, self.folder = here, interruption, folder
        # Once set it stays: nothing after a bad step reaches the weights before the host stops.
        self.void = torch.zeros((), device=here.device)
        optimizer.found_inf = self.void
        cuda = here.device.type == "cuda"
        # Two rows, because the one of the step before is still to be read; numpy's view of a row
        # is read without asking torch.
        self.rows = [torch.zeros(FLAGS, pin_memory=cuda) for _ in range(2)]
        self.views = [row.numpy() for row in self.rows]
        self.waiting: deque[_Step] = deque()
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
        named = [(n, p.grad) for n, p in self.method.named_parameters() if p.grad is not None]
        gradients = [gradient for _, gradient in named]
        # The largest entries: squares of large finite gradients would overflow.
        sizes = torch.stack(torch._foreach_norm(gradients, float("inf")))
        losses = torch.stack(list(self.sums.values()))
        finite = losses.isfinite().all() & sizes.isfinite().all()
        row = losses.new_zeros(FLAGS + len(losses))
        row[NOT_FINITE] = ~finite
        code = self.interruption.code
        row[REQUEUE_ASKED].fill_(code == REQUEUE)
        row[INTERRUPT_ASKED].fill_(code == INTERRUPTED)
        row[FLAGS:] = losses
        self.here.sum(row)
        self.void.copy_(torch.maximum(self.void, row[NOT_FINITE]))

        self.rows[step % 2].copy_(row[:FLAGS], non_blocking=True)
        arrived = None
        if self.here.device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        self.waiting.append(
            _Step(
                step,
                self.views[step % 2],
                arrived,
                dict(zip(self.sums, losses.unbind(), strict=True)),
                sizes,
                [name for name, _ in named],
                self.indices,
            )
        )
        means = row[FLAGS:] / self.here.world_size
        names, self.sums, self.indices = list(self.sums), {}, []
        return dict(zip(names, means.unbind(), strict=True))

    def check(self, now: bool) -> int:
        """Return the exit code that a process was asked to stop with, or 0.

        Reads the flags of the step before or, with `now`, of this one too, which waits for the
        device; so does being asked to stop. UserError if a step was voided, with a report.
        """
        code = 0
        while self.waiting and (now or code or len(self.waiting) > 1):
            read = self.waiting.popleft()
            if read.arrived is not None:
                read.arrived.synchronize()
            if read.flags[NOT_FINITE]:
                self._report(read)
            if read.flags[INTERRUPT_ASKED]:
                code = INTERRUPTED
            elif read.flags[REQUEUE_ASKED]:
                code = code or REQUEUE
        return code

    def _report(self, bad: _Step) -> None:
        """Write what is known about a voided step to nonfinite.json; raise a UserError."""
        here, losses = self.here, {name: float(value) for name, value in bad.losses.items()}
        finite = bad.gradient_sizes.isfinite().tolist()
        unsound = [n for n, ok in zip(bad.parameters, finite, strict=True) if not ok]
        paths = self.source.image_paths
        own = {
            "process": here.rank,
            "losses": losses,
            "loss_is_finite": bool(np.isfinite(list(losses.values())).all()),
            "images": [str(paths[i]) for i in torch.cat(bad.indices).tolist()],
            "gradients_not_finite": unsound,
        }
        processes = here.gather(own)
        # A gradient is the mean over processes: it is not finite in all of them or in none.
        guilty = [p for p in processes if not p["loss_is_finite"]]
        report = {
            "step": bad.step,
            "what": "loss" if guilty else "gradient",
            "processes": guilty or processes,
            "rates": {g["name"]: g["lr"] for g in self.optimizer.param_groups},
            "precision": here.precision,
        }
        path = self.folder / "nonfinite.json"
        if not here.is_main:
            raise UserError("stopped with the main process, which says why")
        path.write_text(json.dumps(_plain(report), indent=1) + "\n")
        raise UserError(f"{_sentence(report)}; report: {path}")


def _sentence(report: dict[str, Any]) -> str:
    processes = report["processes"]
    shown = "; ".join(
        ", ".join(f"{name} {value:.4g}" for name, value in process["losses"].items())
        + (f" in process {process['process']}" if len(processes) > 1 or process["process"] else "")
        for process in processes
    )
    parameters = processes[0]["gradients_not_finite"]
    images = [image for process in processes for image in process["images"]]
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in report["rates"].items())
    return (
        f"the {report['what']} is not finite in step {report['step']} ({shown}; gradient not "
        f"finite in {len(parameters)} parameters: {_some(parameters)}; images {_some(images)}; "
        f"rates {rates}; {report['precision']}). The weights were not changed by it and nothing "
        "was saved after it; --resume continues from the last checkpoint and meets it again, so "
        "change a rate, the precision or the images"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "") or "none"


def _plain(value: Any) -> Any:
    """JSON has no numbers that are not finite; write them as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
