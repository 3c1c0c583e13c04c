"""Where the time of a training step goes.

    python -m benchmarks.profile_step [--form srha] [--trunk mobilenet_v2] [--trace FILE] …

Runs steps of `benchmarks.train_step` under torch's profiler. An operation counts for the innermost
part that it runs in, else for its kind, and its gradient as well.
"""

from collections import defaultdict
from pkgutil import resolve_name
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.reporting import CROP, ON_GPU, TRUNK, flags, report
from benchmarks.train_step import DEEPLAB, build_step
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script

LAYERS, LOSS = "transformers.models.mask2former.modeling_mask2former", "loss.mask_classification"
PARTS = {
    "style elimination": ("network.methods.srha", "eliminate_style"),
    "SRM": ("network.methods.srha:SemanticRearrangement", "forward"),
    "teacher": ("network.methods.srha:SRHA", "_targets"),
    "alignment": ("network.methods.srha:HierarchicalAlignment", "forward"),
    "upsampling and losses": ("network.decoders.decoder", "upsampled_losses"),
}
PARTS_OF_MASK2FORMER = {
    "deformable attention": (f"{LAYERS}:Mask2FormerPixelDecoderEncoderLayer", "forward"),
    "transformer decoder": (f"{LAYERS}:Mask2FormerMaskedAttentionDecoder", "forward"),
    "masks of queries": (f"{LAYERS}:Mask2FormerMaskPredictor", "forward"),
    "matching": (f"{LOSS}:MaskClassificationLoss", "match"),
    "mask losses": (f"{LOSS}:MaskClassificationLoss", "mask_losses"),
    "choice of points": (f"{LOSS}:MaskClassificationLoss", "_uncertain_points"),
    "posterior": ("network.decoders.mask2former:MaskOutput", "_scores_of"),
}
KINDS = ("conv", "norm", "upsample", "softmax", "relu", "hardtanh", "threshold", "pool")


def main() -> None:
    """Profile a form of the step and report."""
    sizes = {"trunk": TRUNK, "decoder": DEEPLAB, "crop": CROP, "batch": 4, "classes": 19}
    options = flags(__doc__, form="srha", **sizes, steps=3, trace=None).parse_args()
    keep_freed_memory()
    parts = PARTS | (PARTS_OF_MASK2FORMER if options.decoder == "mask2former" else {})
    for part, (place, name) in parts.items():
        owner = resolve_name(place)
        setattr(owner, name, record_function(part)(getattr(owner, name)))
    size = {name: getattr(options, name) for name in sizes}
    step = build_step(options.form, **size)
    step(0)
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * ON_GPU) as measured:
        for number in range(options.steps):
            step(number)
    if options.trace:
        measured.export_chrome_trace(str(options.trace))
    seconds = {part: t / options.steps for part, t in measure(measured.events(), parts).items()}
    total, ordered = sum(seconds.values()), sorted(seconds, key=seconds.get, reverse=True)
    rows = [[p, f"{1000 * seconds[p]:.1f}", f"{100 * seconds[p] / total:.1f}"] for p in ordered]
    about = f"{', '.join(str(v) for v in (options.form, *size.values()))}: {1000 * total:.0f} ms"
    figures = {"form": options.form, **size, "seconds": seconds}
    report(options, about, ["part of a step", "ms", "%"], rows, figures)


def measure(events: Any, parts: Any) -> dict[str, float]:
    """Return seconds by part, or by kind outside of parts: each operation's own time, once."""
    seconds: dict[str, float] = defaultdict(float)
    found: dict[int, tuple[str | None, bool]] = {}
    # An operation and its gradient have one number, which earlier operations may have seen too.
    forward: dict[int, str | None] = {}
    for event in sorted(events, key=lambda e: (e.time_range.start, -e.time_range.end)):
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, which the operation that launched it counts
        part, backward = found.get(id(event.cpu_parent), (None, False))
        if event.name in parts:
            part = event.name
        elif event.name.startswith("autograd::engine"):
            part, backward = forward.get(event.sequence_nr), True
        elif not backward:
            forward[event.sequence_nr] = part
        found[id(event)] = part, backward
        own = event.self_device_time_total if ON_GPU else event.self_cpu_time_total
        kind = next((kind for kind in KINDS if kind in event.name), "other")
        seconds[part or kind] += own / 1e6
    return seconds


if __name__ == "__main__":
    run_script(main)
