"""Where the time of a training step goes.

    python -m benchmarks.profile_step [--form srha] [--trunk mobilenet_v2] [--decoder NAME]
                                      [--crop 256]

Runs steps of `benchmarks.train_step` under torch's profiler and sums the time of each operation
under what it is part of: convolutions of student and teacher, normalisation, upsampling, losses,
SRM, the parts of Mask2Former; gradients belong to what they are those of. Prints a table, writes
JSON and, with --trace FILE, a trace for Perfetto or chrome://tracing.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.reporting import describe_machine, markdown, save
from benchmarks.train_step import FORMS, build_step
from network.decoders import DECODERS
from network.methods import srha
from utils.engine.allocator import keep_freed_memory
from utils.errors import UserError, run_script

# The innermost scope or parent operation names the part; else the operation itself does.
SCOPES = {
    "SRM": "SRM",
    "style elimination": "style elimination",
    "teacher": "teacher",
    "_Align": "alignment",
    "_AlignBackward": "alignment",
    "_JensenShannon": "consistency",
    "_JensenShannonBackward": "consistency",
    "_UpsampledLosses": "upsampling, cross entropy and consistency",
    "_UpsampledLossesBackward": "upsampling, cross entropy and consistency",
    "deformable attention": "deformable attention",
    "transformer decoder": "transformer decoder",
    "masks of queries": "masks of queries",
    "matching": "matching",
    "assignment": "matching: assignment on the CPU",
    "class loss": "class loss",
    "mask losses": "mask losses",
    "points": "mask losses: choice of points",
    "posterior": "posterior",
}
BACKWARD = "autograd::engine::evaluate_function"
OPERATIONS = (
    ("convolution", "convolutions"),
    ("conv2d", "convolutions"),
    ("batch_norm", "batch norm"),
    ("group_norm", "group norm"),
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
    parser.add_argument("--decoder", default="deeplabv3plus", help=", ".join(DECODERS))
    parser.add_argument("--crop", type=int, default=768 if on_gpu else 256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--name", default="profile_step", help="name of the JSON file")
    parser.add_argument("--trace", type=Path, help="write a trace of the steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.form not in FORMS:
        raise UserError(f"unknown form {options.form!r}; there are: {', '.join(FORMS)}")
    keep_freed_memory()
    name_scopes(options.decoder)
    size = (options.trunk, options.decoder, options.crop, options.batch, options.classes)
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
    what = f"{options.form}, {options.trunk}, {options.decoder}, crop {options.crop}, "
    what += f"batch {options.batch}"
    print(f"{describe_machine()}\n{what}: {1000 * total:.0f} ms a step\n")
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    rows = [[part, f"{1000 * s:.1f}", f"{100 * s / total:.1f}"] for part, s in ordered]
    print(markdown(["part", "ms", "%"], rows))
    keys = ("trunk", "decoder", "crop", "batch", "classes")
    figures = {"form": options.form, **dict(zip(keys, size, strict=True)), "seconds": seconds}
    save(options.out, options.name, figures)


def scoped(name: str, function: Any) -> Any:
    """Return the function, with its time under this name."""

    def run(*arguments: Any, **named: Any) -> Any:
        with record_function(name):
            return function(*arguments, **named)

    return run


def name_scopes(decoder: str) -> None:
    """Mark what the profiler has no name for."""
    srha.eliminate_style = scoped("style elimination", srha.eliminate_style)
    srha.SemanticRearrangement.forward = scoped("SRM", srha.SemanticRearrangement.forward)
    srha.SRHA._targets = scoped("teacher", srha.SRHA._targets)
    if decoder == "mask2former":
        name_scopes_of_mask2former()


def name_scopes_of_mask2former() -> None:
    """Mark its parts, transformers' and ours."""
    from transformers.models.mask2former import modeling_mask2former as layers

    from loss import mask_classification
    from network.decoders.mask2former import MaskOutput

    for owner, attribute, name in (
        (layers.Mask2FormerPixelDecoderEncoderLayer, "forward", "deformable attention"),
        (layers.Mask2FormerMaskedAttentionDecoder, "forward", "transformer decoder"),
        (layers.Mask2FormerMaskPredictor, "forward", "masks of queries"),
        (mask_classification.MaskClassificationLoss, "match", "matching"),
        (mask_classification, "linear_sum_assignment", "assignment"),
        (mask_classification.MaskClassificationLoss, "class_loss", "class loss"),
        (mask_classification.MaskClassificationLoss, "mask_losses", "mask losses"),
        (mask_classification.MaskClassificationLoss, "_uncertain_points", "points"),
    ):
        setattr(owner, attribute, scoped(name, getattr(owner, attribute)))
    for made in (MaskOutput.scores, MaskOutput.logits):
        made.func = scoped("posterior", made.func)


def shares(events: Any, on_gpu: bool, steps: int) -> dict[str, float]:
    """Return seconds a step by part: every operation's own time, once."""
    seconds: dict[str, float] = defaultdict(float)
    forward = forward_scopes(events)
    for event in events:
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        seconds[part_of(event, forward)] += own / 1e6 / steps
    return {part: value for part, value in seconds.items() if value > 0}


def forward_scopes(events: Any) -> dict[int, str | None]:
    """Return the innermost scope of each operation that autograd recorded, by the number that its
    gradient's event has too.

    Several operations may see a number before the one that takes it, the last.
    """
    found = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0 and not any(e.name.startswith(BACKWARD) for e in lineage(event)):
            found[event.sequence_nr] = scope_of(event, {})
    return found


def lineage(event: Any) -> Iterator[Any]:
    """Yield an operation and those that it is part of, from the inside."""
    while event is not None:
        yield event
        event = event.cpu_parent


def scope_of(event: Any, forward: dict[int, str | None]) -> str | None:
    """Return the innermost scope of an operation; of a gradient, that of its operation."""
    for each in lineage(event):
        if each.name in SCOPES:
            return SCOPES[each.name]
        if each.name.startswith(BACKWARD) and each.sequence_nr in forward:
            return forward[each.sequence_nr]
    return None


def part_of(event: Any, forward: dict[int, str | None]) -> str:
    """Name the part that an operation belongs to."""
    scope = scope_of(event, forward)
    own = next((part for text, part in OPERATIONS if text in event.name), None)
    if scope == "teacher" and own:
        return f"teacher: {own}"
    return scope or own or "other"


if __name__ == "__main__":
    run_script(main)
