"""Where the time of a training step goes.

    python -m benchmarks.profile_step [--form srha] [--trunk mobilenet_v2] [--crop 256]

Runs steps of `benchmarks.train_step` under torch's profiler and sums the time of each operation
under what it is part of: convolutions of student and teacher, normalisation, upsampling, losses,
SRM. Prints a table, writes JSON and, with --trace FILE, a trace for Perfetto or chrome://tracing.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.reporting import describe_machine, markdown, save
from benchmarks.train_step import FORMS, build_step
from network.methods import srha
from utils.allocator import keep_freed_memory
from utils.errors import UserError, run_script

# A parent operation or scope names the part; else the operation itself does.
SCOPES = {
    "SRM": "SRM",
    "style elimination": "style elimination",
    "teacher": "teacher",
    "_Align": "alignment",
    "_AlignBackward": "alignment",
    "_JensenShannon": "consistency",
    "_JensenShannonBackward": "consistency",
}
OPERATIONS = (
    ("convolution", "convolutions"),
    ("conv2d", "convolutions"),
    ("batch_norm", "batch norm"),
    ("upsample", "upsampling"),
    ("softmax", "cross entropy"),
    ("nll", "cross entropy"),
    ("relu", "activations"),
    ("hardtanh", "activations"),
    ("threshold", "activations"),
    ("max_pool", "pooling"),
    ("mean", "pooling"),
)


def main() -> None:
    """Profile a form of the step; print and write the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--form", default="srha", help=", ".join(FORMS))
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--trunk", default="resnet50" if on_gpu else "mobilenet_v2")
    parser.add_argument("--crop", type=int, default=768 if on_gpu else 256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--trace", type=Path, help="write a trace of the steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.form not in FORMS:
        raise UserError(f"unknown form {options.form!r}; there are: {', '.join(FORMS)}")
    keep_freed_memory()
    name_scopes()
    size = (options.trunk, options.crop, options.batch, options.classes)
    step = build_step(options.form, *size)
    step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as measured:
        for _ in range(options.steps):
            step()
        if on_gpu:
            torch.cuda.synchronize()
    if options.trace:
        measured.export_chrome_trace(str(options.trace))
    seconds = shares(measured.events(), on_gpu, options.steps)
    total = sum(seconds.values())
    what = f"{options.form}, {options.trunk}, crop {options.crop}, batch {options.batch}"
    print(f"{describe_machine()}\n{what}: {1000 * total:.0f} ms a step\n")
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    rows = [[part, f"{1000 * s:.1f}", f"{100 * s / total:.1f}"] for part, s in ordered]
    print(markdown(["part", "ms", "%"], rows))
    keys = ("trunk", "crop", "batch", "classes")
    figures = {"form": options.form, **dict(zip(keys, size, strict=True)), "seconds": seconds}
    save(options.out, "profile_step", figures)


def name_scopes() -> None:
    """Mark what the profiler has no name for."""

    def scoped(name: str, function: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            with record_function(name):
                return function(*arguments, **named)

        return run

    srha.eliminate_style = scoped("style elimination", srha.eliminate_style)
    srha.SemanticRearrangement.forward = scoped("SRM", srha.SemanticRearrangement.forward)
    srha.SRHA._targets = scoped("teacher", srha.SRHA._targets)


def shares(events: Any, on_gpu: bool, steps: int) -> dict[str, float]:
    """Return seconds a step by part: every operation's own time, once."""
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        seconds[part_of(event)] += own / 1e6 / steps
    return {part: value for part, value in seconds.items() if value > 0}


def part_of(event: Any) -> str:
    """Name the part that an operation belongs to."""
    scope, ancestor = None, event
    while ancestor is not None:
        scope = SCOPES.get(ancestor.name, scope)
        ancestor = ancestor.cpu_parent
    own = next((part for text, part in OPERATIONS if text in event.name), None)
    if scope == "teacher" and own:
        return f"teacher: {own}"
    return scope or own or "other"


if __name__ == "__main__":
    run_script(main)
