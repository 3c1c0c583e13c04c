"""What a step costs with several processes: how much of it is the exchange of gradients.

    python -m benchmarks.processes [--numbers 1 2] [--trunk mobilenet_v2] [--crop 256] [--batch 4]

Each process trains its own batch, on a GPU of its own where there are that many, else on one CPU
core. A step is forward, backward and optimizer, without data loading; "alone" leaves out the
averaging of gradients. Wall-clock medians of the main process.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks.inputs import batch_of, settings_of
from benchmarks.reporting import CROP, ON_GPU, TRUNK, flags, report
from network.build import build_method
from utils.engine.optimization import build_optimizer
from utils.engine.runtime import open_runtime
from utils.errors import run_script
from utils.processes import barrier


def main() -> None:
    """Measure each number of processes and report."""
    numbers = list(range(1, torch.cuda.device_count() + 1)) if ON_GPU else [1, 2]
    sizes = {"numbers": numbers, "trunk": TRUNK, "crop": CROP, "batch": 4}
    options = flags(__doc__, **sizes, rounds=5).parse_args()
    figures, rows = [], []
    for number in options.numbers:
        local = {"run_id": "0", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
        launch = elastic_launch(LaunchConfig(1, 1, number, max_restarts=0, **local), measure)
        figures.append(launch(number, options)[0] | {"processes": number})
        step, alone = figures[-1]["step"], figures[-1]["alone"]
        row = [str(number), f"{1000 * step:.0f}"]
        row += [f"{100 * (1 - alone / step):.0f} %" if number > 1 else "-"]
        row += [f"{number * options.batch / step:.2f}", f"{100 * figures[0]['step'] / step:.0f} %"]
        rows.append(row)
    header = ["processes", "ms a step", "of it exchange", "images/s", "of linear"]
    about = f"{options.trunk}, crop {options.crop}, {options.batch} images each"
    report(options, about, header, rows, {"size": about, "measured": figures})


def measure(number: int, options: argparse.Namespace) -> dict[str, float]:
    """Train in one of `number` processes; return its median seconds of a step, whole and alone."""
    torch.set_num_threads(1)
    cfg = settings_of(options.trunk, {"PRECISION": "bfloat16" if ON_GPU else "float32"})
    with open_runtime(cfg) as runtime:
        method, _ = build_method(cfg)
        wrapped = runtime.wrap(method, sync_batch_norm=True).train()
        optimizer = build_optimizer(method, cfg)
        batch = runtime.to_device(batch_of(method.num_classes, options.batch, options.crop))

        def step(sync: bool) -> float:
            barrier()
            begin = time.perf_counter()
            with nullcontext() if sync or number == 1 else wrapped.no_sync():
                with runtime.autocast():
                    losses = wrapped(batch | {"step": 0})
                sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            if ON_GPU:
                torch.cuda.synchronize()
            return time.perf_counter() - begin

        seconds = [(step(True), step(False)) for _ in range(options.rounds + 1)][1:]
    whole, alone = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {"step": whole, "alone": alone}


if __name__ == "__main__":
    run_script(main)
