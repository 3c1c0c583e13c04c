"""What processes of one run share, for code that knows no Runtime; one process alone has it all."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

BUCKET = 2**25  # bytes that are averaged at once


def world_size() -> int:
    """Return how many processes take part in this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0; process 0 is the main one."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place; one process alone has the sum already.

    For methods, which know no Runtime: what they update from sums stays the same in all processes.
    """
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def share_statistics(module: nn.Module) -> None:
    """Give all processes the running statistics of the main one's batch norms, which are those of
    the checkpoint, so that together they have one network."""
    if world_size() == 1:
        return
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    statistics = [buffer for norm in norms for buffer in norm.buffers()]
    for dtype in dict.fromkeys(buffer.dtype for buffer in statistics):
        own = [buffer for buffer in statistics if buffer.dtype == dtype]
        flat = torch.cat([buffer.flatten() for buffer in own])
        dist.broadcast(flat, src=0)
        for buffer, part in zip(own, flat.split([b.numel() for b in own]), strict=True):
            buffer.copy_(part.view_as(buffer))


def average_over_processes(tensors: Iterable[torch.Tensor]) -> None:
    """Average tensors over all processes, in place, several at once. All have to name the same ones
    in the same order."""
    if world_size() == 1:
        return
    bucket: list[torch.Tensor] = []
    for tensor in [*tensors, None]:
        if bucket and (tensor is None or sum(t.nbytes for t in bucket) > BUCKET):
            flat = torch.cat([t.flatten() for t in bucket]) / world_size()
            dist.all_reduce(flat)
            for own, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                own.copy_(part.view_as(own))
            bucket = []
        bucket.append(tensor)


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensors of all processes, of one shape, behind one another in their order."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes, which a gradient passes through.

    What each process makes of the sum counts in the gradient, so that the mean of the processes'
    gradients is that of the mean of their losses.
    """
    return _Sum.apply(tensor) if world_size() > 1 else tensor


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(tensor.clone())

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(upstream.clone())
