"""What processes of one run share, for code that knows no Runtime; one process alone has it all."""

import torch
import torch.distributed as dist


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
