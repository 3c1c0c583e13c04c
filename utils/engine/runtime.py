"""Device, process group, precision and seeds: the one place where they are set up.

CPU, one GPU, and `torchrun` on many take the same path; NCCL between GPUs, gloo between CPUs.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from easydict import EasyDict
from torch import Tensor, nn

from utils.engine.allocator import keep_freed_memory
from utils.engine.failures import explain
from utils.errors import Stopped, UserError
from utils.processes import average_over_processes
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

    def largest(self, number: int) -> int:
        """Return the largest of the processes' numbers, in all of them."""
        if self.world_size == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: Any) -> list[Any]:
        """Return the plain values of all processes in order of rank, in all of them."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch for everything drawn inside one training step of this process."""
        torch.manual_seed(stable_seed("step", seed, step, self.rank))

    def to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move images, in the memory format, labels, as int64, and source domains of a batch, and
        of the streams in it, to the device.

        What else is in the batch stays where it is.
        """
        moved = dict(batch)
        for key, value in batch.items():
            if isinstance(value, dict):
                moved[key] = self.to_device(value)
            elif key in ("image", "label", "domain"):
                moved[key] = value.to(self.device, non_blocking=True)
        if "image" in moved:
            moved["image"] = moved["image"].contiguous(memory_format=self.memory_format)
        if "label" in moved:
            moved["label"] = moved["label"].long()
        return moved

    def graphs(self, wrapped: nn.Module, batch: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        """Yield the losses of each graph of a pass; one is to be differentiated, and thereby freed,
        before the next is asked for."""
        with self.autocast():
            losses = wrapped(batch)
        if isinstance(losses, dict):
            yield losses
            return
        while True:
            with self.autocast():
                graph = next(losses, None)
            if graph is None:
                return
            yield graph

    def average_gradients(self, method: nn.Module) -> None:
        """Average gradients over processes where DistributedDataParallel does not: of methods with
        several graphs. They have to be of the same parameters everywhere."""
        if method.several_graphs:
            average_over_processes(p.grad for p in method.parameters() if p.grad is not None)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images, features and convolution weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def gradient_sync(self, wrapped: nn.Module, last_pass: bool) -> AbstractContextManager:
        """Average gradients over processes only in the last pass of an accumulated batch."""
        if last_pass or not hasattr(wrapped, "no_sync"):
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
        """Move a method to the device; convert batch norms and wrap it in DDP where that applies:
        not for several graphs, see `average_gradients`.

        Buffers are not broadcast: batch statistics are either synchronised or local by choice, and
        the checkpoint holds those of rank 0.
        """
        if sync_batch_norm and self.world_size > 1 and self.device.type == "cuda":
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        method = method.to(self.device, memory_format=self.memory_format)
        if self.world_size == 1:
            return method
        if method.several_graphs:
            for tensor in method.state_dict().values():
                dist.broadcast(tensor, src=0)
            return method
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        # With this option DDP keeps its buckets. Without it, it sorts them anew after the first
        # backward pass, and a sum over three processes or more then rounds differently: a resumed
        # run would not repeat. torch warns that every parameter has a gradient, which is no fault.
        return nn.parallel.DistributedDataParallel(
            method, device_ids=device_ids, broadcast_buffers=False, find_unused_parameters=True
        )


def choose_algorithms(deterministic: bool, matmul_precision: str = "highest") -> None:
    """Choose between operations that repeat to the last bit and the fastest ones, and how float32
    matrices are multiplied.

    Deterministic, an operation without such a form on the device raises a RuntimeError.
    """
    torch.set_float32_matmul_precision(matmul_precision)
    torch.use_deterministic_algorithms(deterministic)
    # Filling fresh memory finds reads of what was never written, which is not what this is for.
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Crops have one size, so trying out convolution algorithms pays; it may choose another one
    # next time.
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def varying_sizes() -> Iterator[None]:
    """Within it no convolution algorithms are tried out, which each new size of images would pay
    for."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def open_runtime(cfg: EasyDict):
    """Set up this process from settings and the environment of torchrun; yields a Runtime.

    What fails around the computation (a full disk, a process that died) is raised as UserError.
    """
    keep_freed_memory()
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
    choose_algorithms(cfg.DETERMINISTIC, cfg.MATMUL_PRECISION)
    rank = dist.get_rank() if world_size > 1 else 0
    runtime = Runtime(device, rank, world_size, cfg.PRECISION, cfg.CHANNELS_LAST)
    # The process group is not left on errors: with NCCL a process that fails alone would wait here
    # for the others, and its message would never be seen.
    try:
        yield runtime
    except Stopped as stop:
        if stop.agreed and world_size > 1:
            dist.destroy_process_group()
        raise
    except (RuntimeError, OSError, EOFError) as error:
        reason = explain(error)
        if reason is None:
            raise
        raise UserError(reason) from error
    if world_size > 1:
        dist.destroy_process_group()
