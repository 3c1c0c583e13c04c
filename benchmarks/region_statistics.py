"""Statistics, restyling and alignment, against copying the same bytes.

    python -m benchmarks.region_statistics [--batch 4] [--crop 768] [--classes 19 …] [--rounds 5]

Shapes of the ResNet-50 recipe: restyling on layer 0 (64 channels at a quarter of the crop),
alignment on layers 1–4 of two streams, forward and backward. The least that restyling can cost is
to read the features twice and write them once; the regional loss stands beside one mean squared
error, the local loss. Forms take turns over all numbers of classes; medians, on a CPU of its time:
run with OMP_NUM_THREADS=1. On a GPU, bfloat16 beside float32.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.inputs import labels_of
from benchmarks.reporting import ON_GPU, flags, report, time_in_turns
from network.regions.alignment import HierarchicalAlignment
from network.regions.rearrangement import SemanticRearrangement
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script

CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 16)
OFF, ON = (0.0,) * 4, (0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Measure each precision and report."""
    sizes = {"batch": 4, "crop": 768, "classes": [19, 65, 150, 1000]}
    options = flags(__doc__, **sizes, rounds=5).parse_args()
    keep_freed_memory()
    figures, rows = [], []
    for dtype in [torch.float32, torch.bfloat16] if ON_GPU else [torch.float32]:
        seconds = measure(options, dtype)
        first = next(iter(seconds.values()))["all"]
        for classes, own in seconds.items():
            name = str(dtype).removeprefix("torch.")
            figures.append({"classes": classes, "dtype": name, "seconds": own})
            row = [name, str(classes), f"{1000 * own['restyle']:.1f}"]
            row += [f"{own['restyle'] / own['copy']:.1f}", f"{1000 * own['regional']:.1f}"]
            row += [f"{own['regional'] / own['local']:.1f}", f"{1000 * own['all']:.1f}"]
            rows.append([*row, f"{own['all'] / first:.2f}"])
    header = ["dtype", "K", "restyling, ms", "/ copy", "regional loss, ms", "/ one pass of MSE"]
    header += ["SRM and all of alignment, ms", f"/ K = {options.classes[0]}"]
    size = {"batch": options.batch, "crop": options.crop}
    about = f"batch {options.batch}, crop {options.crop}"
    report(options, about, header, rows, size | {"measured": figures})


def measure(options: argparse.Namespace, dtype: torch.dtype) -> dict[int, dict[str, float]]:
    """Return the median seconds of each form by number of classes."""

    def draw(images: int, channels: int, stride: int) -> torch.Tensor:
        side = -(-options.crop // stride)
        device = "cuda" if ON_GPU else "cpu"
        features = torch.randn(images, channels, side, side, dtype=dtype, device=device)
        return features.contiguous(memory_format=torch.channels_last)

    stem, layers = draw(options.batch, 64, 4), list(zip(CHANNELS, STRIDES, strict=True))
    student = {i: draw(2 * options.batch, *layer) for i, layer in enumerate(layers, start=1)}
    teacher = {i: draw(options.batch, *layer) for i, layer in enumerate(layers, start=1)}
    for feature in student.values():
        feature.requires_grad_()
    target = torch.empty_like(stem)

    def forms_of(classes: int) -> dict[str, Callable[[int], None]]:
        labels = labels_of(classes, options.batch, options.crop).to(stem.device)
        srm = SemanticRearrangement(classes)

        def align(*weights: tuple[float, ...]) -> Callable[[int], None]:
            alignment = HierarchicalAlignment(classes, *weights)

            def form(_: int) -> None:
                losses = alignment(student, teacher, labels)
                torch.autograd.grad(sum(losses.values()), list(student.values()))

            return form

        everything = align(ON, ON, ON)
        return {
            "restyle": lambda _: srm(stem, labels),
            "copy": lambda _: (stem.sum(), target.copy_(stem)),
            "regional": align(OFF, ON, OFF),
            "local": align(OFF, OFF, ON),
            "all": lambda i: (srm(stem, labels), everything(i)),
        }

    forms = {(k, name): form for k in options.classes for name, form in forms_of(k).items()}
    seconds = time_in_turns(forms, options.rounds, warm=True)
    return {k: {name: t for (own, name), t in seconds.items() if own == k} for k in options.classes}


if __name__ == "__main__":
    run_script(main)
