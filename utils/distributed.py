"""Device, process group, precision and seeds: the one place where they are set up.

CPU, one GPU, and `torchrun` on many take the same path; NCCL between GPUs, gloo between CPUs.
"""

import os
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from easydict import EasyDict
from torch import nn

from utils.errors import UserError
from utils.seeding import stable_seed

# How long processes wait for one another: class centroids of a large dataset take the main process
# more than the ten minutes that are the default.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Runtime:
    """Where this process computes and which of how many it is."""

    device: torch.device
    rank: int
    world_size: int
    precision: str
    channels_last: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs, checkpoints and progress."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager:
        """Autocast of the forward pass: bfloat16 if PRECISION says so."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch for everything drawn inside one training step of this process."""
        torch.manual_seed(stable_seed("step", seed, step, self.rank))

    def to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move the tensors of a collated batch to the device, images in the memory format."""
        moved = {
            key: value.to(self.device, non_blocking=True) if torch.is_tensor(value) else value
            for key, value in batch.items()
        }
        moved["image"] = moved["image"].contiguous(memory_format=self.memory_format)
        return moved

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images, features and convolution weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def gradient_sync(self, wrapped: nn.Module, last_pass: bool) -> AbstractContextManager:
        """Average gradients over processes only in the last pass of an accumulated batch."""
        if self.world_size == 1 or last_pass:
            return nullcontext()
        return wrapped.no_sync()

    def describe(self) -> str:
        """Say where the run computes, for the log."""
        processes = f"{self.world_size} processes" if self.world_size > 1 else "1 process"
        if self.device.type == "cuda":
            return f"{processes} on {torch.cuda.get_device_name(self.device)}, {self.precision}"
        text = f"{processes} on CPU ({torch.get_num_threads()} threads), {self.precision}"
        if self.world_size > 1:
            text += ", batch norm not synchronised (it is on GPUs only)"
        return text

    def wrap(self, method: nn.Module, sync_batch_norm: bool) -> nn.Module:
        """Move a method to the device; convert batch norms and wrap it in DDP where that applies.

        Buffers are not broadcast: batch statistics are either synchronised or local by choice, and
        the checkpoint holds those of rank 0.
        """
        if sync_batch_norm and self.world_size > 1 and self.device.type == "cuda":
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        method = method.to(self.device, memory_format=self.memory_format)
        if self.world_size == 1:
            return method
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            method, device_ids=device_ids, broadcast_buffers=False
        )


@contextmanager
def runtime(cfg: EasyDict):
    """Set up this process from settings and the environment of torchrun; yields a Runtime."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if cfg.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("DEVICE is cuda but torch sees no GPU; set DEVICE cpu or auto")
    if cfg.DEVICE != "cpu" and torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no GPU of its own "
                f"({torch.cuda.device_count()} visible); start fewer processes or set DEVICE cpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if world_size > 1:
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device, timeout=PATIENCE)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
    torch.manual_seed(cfg.SEED)
    rank = dist.get_rank() if world_size > 1 else 0
    yield Runtime(device, rank, world_size, cfg.PRECISION, cfg.CHANNELS_LAST)
    # Not on errors: with NCCL a process that fails alone would wait here for the others, and its
    # message would never be seen.
    if world_size > 1:
        dist.destroy_process_group()
