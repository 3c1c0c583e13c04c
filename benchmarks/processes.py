"""What a step costs with several processes: how much of it is the exchange of gradients.

    python -m benchmarks.processes [--numbers 1 2] [--trunk mobilenet_v2] [--crop 256] [--batch 4]

Each process trains its own batch, on a GPU of its own where there are that many, else on one CPU
core. A step is forward, backward and optimizer, without data loading; "alone" leaves out the
averaging of gradients. Wall-clock medians of the main process.
"""

import argparse
import os
import socket
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from benchmarks.reporting import report
from benchmarks.scenes import labels_of
from network.build import build_method, resolve
from utils.engine.optimization import build_optimizer
from utils.engine.runtime import runtime
from utils.errors import run_script


def main() -> None:
    """Measure each number of processes; print the table and write the figures."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    numbers = range(1, torch.cuda.device_count() + 1) if on_gpu else [1, 2]
    parser.add_argument("--numbers", type=int, nargs="+", default=list(numbers))
    parser.add_argument("--trunk", default="resnet50" if on_gpu else "mobilenet_v2")
    parser.add_argument("--crop", type=int, default=768 if on_gpu else 256)
    parser.add_argument("--batch", type=int, default=4, help="images of each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    figures, rows = [], []
    for number in options.numbers:
        queue = mp.get_context("spawn").SimpleQueue()
        mp.spawn(work, (number, free_port(), vars(options), queue), nprocs=number)
        own = queue.get() | {"processes": number}
        figures.append(own)
        speed = number * options.batch / own["step"]
        first = figures[0]["processes"] * options.batch / figures[0]["step"]
        share = speed / first / number * figures[0]["processes"]
        exchange = f"{100 * (1 - own['alone'] / own['step']):.0f} %" if number > 1 else "-"
        rows.append([str(number), f"{1000 * own['step']:.0f}", exchange, f"{speed:.2f}"])
        rows[-1].append(f"{100 * share:.0f} %")
    header = ["processes", "ms a step", "of it exchange", "images/s", "of linear"]
    about = f"{options.trunk}, crop {options.crop}, {options.batch} images each"
    size = {name: getattr(options, name) for name in ("trunk", "crop", "batch")}
    report(about, header, rows, options.out, "processes", size | {"measured": figures})


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def work(rank: int, number: int, port: int, options: dict[str, Any], queue: Any) -> None:
    """Train in one process; the main one reports its medians."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    overrides = {"METHOD": "srha", "TRUNK.NAME": options["trunk"], "TRUNK.WEIGHTS": "none"}
    overrides["DATASET.LABEL_SPACE"] = "cityscapes19"
    overrides["PRECISION"] = "bfloat16" if torch.cuda.is_available() else "float32"
    cfg = resolve(overrides)
    with runtime(cfg) as here:
        method, _ = build_method(cfg)
        wrapped = here.wrap(method, sync_batch_norm=True).train()
        optimizer = build_optimizer(method, cfg)
        crop, count = options["crop"], options["batch"]
        batch = {"image": torch.randn(count, 3, crop, crop)}
        batch["label"] = labels_of(method.num_classes, count, crop)
        batch["domain"] = torch.zeros(count, dtype=torch.long)
        batch = here.to_device(batch) | {"step": 0}

        def step(sync: bool) -> float:
            here.barrier()
            begin = time.perf_counter()
            alone = wrapped.no_sync() if number > 1 and not sync else nullcontext()
            with alone:
                with here.autocast():
                    losses = wrapped(batch)
                sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            if here.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - begin

        seconds = [(step(True), step(False)) for _ in range(options["rounds"] + 1)][1:]
        if here.is_main:
            both, alone = (statistics.median(column) for column in zip(*seconds, strict=True))
            queue.put({"step": both, "alone": alone})


if __name__ == "__main__":
    run_script(main)
