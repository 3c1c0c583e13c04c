"""Statistics, restyling and the regional loss, against loops and against copying the same bytes.

    python -m benchmarks.region_statistics [--batch 4] [--crop 768] [--rounds 5]

Shapes of the ResNet-50 recipe: restyling on layer 0 (64 channels at a quarter of the crop), the
regional loss on layers 1–4 of two streams, forward and backward. K = 19, 65, 150, 1000 classes. The
forms take turns; medians, on a CPU of its time: run with OMP_NUM_THREADS=1. On a GPU, times are
those of events, bfloat16 beside float32.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import loop_form
from benchmarks.reporting import describe_machine, markdown, median_times, save
from benchmarks.scenes import labels_of
from network.alignment import HierarchicalAlignment
from network.rearrangement import SemanticRearrangement
from utils.allocator import keep_freed_memory
from utils.errors import run_script

CLASSES = (19, 65, 150, 1000)
CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 16)
OFF, ON = (0.0,) * 4, (0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Measure each number of classes; print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-loops", action="store_true", help="measure our own form alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    figures, rows = [], []
    for dtype in precisions:
        for classes in CLASSES:
            seconds = measure(options, classes, device, dtype)
            figures.append({"classes": classes, "dtype": str(dtype), "seconds": seconds})
            rows.append([str(dtype).split(".")[1], str(classes), *cells(seconds)])
    header = ["dtype", "K", "restyling, ms", "/ copy", "loop / ours"]
    header += ["regional loss, ms", "/ one pass of MSE", "loop / ours", "loop over all"]
    print(describe_machine())
    print(f"batch {options.batch}, crop {options.crop}, {torch.get_num_threads()} threads\n")
    print(markdown(header, rows))
    settings = {"batch": options.batch, "crop": options.crop, "threads": torch.get_num_threads()}
    save(options.out, "region_statistics", settings | {"measured": figures})


def measure(options: Any, classes: int, device: torch.device, dtype: torch.dtype) -> dict:
    """Return median seconds of each form."""
    batch, crop = options.batch, options.crop
    layout = {"device": device, "dtype": dtype}
    labels = labels_of(classes, batch, crop).to(device)
    last = torch.channels_last
    stem = torch.randn(batch, 64, crop // 4, crop // 4, **layout).contiguous(memory_format=last)
    target = torch.empty_like(stem)
    shapes = [(c, -(-crop // s), -(-crop // s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    student, teacher = {}, {}
    for layer, shape in enumerate(shapes, start=1):
        f = torch.randn(2 * batch, *shape, **layout).contiguous(memory_format=last)
        student[layer] = f.requires_grad_()
        teacher[layer] = torch.randn(batch, *shape, **layout).contiguous(memory_format=last)
    srm = SemanticRearrangement(classes)
    regional = HierarchicalAlignment(classes, OFF, ON, OFF)
    local = HierarchicalAlignment(classes, OFF, OFF, ON)

    def backward(loss: torch.Tensor) -> None:
        torch.autograd.grad(loss, list(student.values()))

    def loops(visited: int | None = None) -> None:
        layers = zip(ON, student.values(), teacher.values(), strict=True)
        backward(sum(w * loop_form.regional_loss(f, g, labels, visited) for w, f, g in layers))

    def copy_twice_read() -> None:
        # The least traffic that statistics and restyling need: two reads, one write.
        stem.sum()
        target.copy_(stem)

    forms = {
        "restyle": lambda: srm(stem, labels),
        "copy": copy_twice_read,
        "regional": lambda: backward(regional(student, teacher, labels)["regional"]),
        "local": lambda: backward(local(student, teacher, labels)["local"]),
    }
    if not options.no_loops:
        forms["restyle loop"] = lambda: loop_form.rearrange(stem, labels)
        forms["regional loop"] = loops
        # Takes minutes with more classes, and says nothing new.
        if classes == CLASSES[0]:
            forms["regional loop over all classes"] = partial(loops, classes)
    return median_times(forms, options.rounds, device)


def cells(seconds: dict[str, float]) -> list[str]:
    """Return the table's figures of one row."""
    texts = []
    for form, floor in (("restyle", "copy"), ("regional", "local")):
        loop = seconds.get(f"{form} loop")
        texts += [f"{1000 * seconds[form]:.1f}", f"{seconds[form] / seconds[floor]:.2f}"]
        texts.append(f"{loop / seconds[form]:.1f}" if loop else "-")
    every = seconds.get("regional loop over all classes")
    return [*texts, f"{every / seconds['regional']:.1f}" if every else "-"]


if __name__ == "__main__":
    run_script(main)
