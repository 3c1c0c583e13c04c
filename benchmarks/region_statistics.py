"""Statistics, restyling and the regional loss, against loops and against copying the same bytes.

    python -m benchmarks.region_statistics [--batch 4] [--crop 768] [--rounds 5]

Shapes of the ResNet-50 recipe: restyling on layer 0 (64 channels at a quarter of the crop), the
regional loss on layers 1–4 of two streams, forward and backward. K = 19, 65, 150, 1000 classes. The
forms take turns; medians, on a CPU of its time: run with OMP_NUM_THREADS=1. On a GPU, times are
those of events, bfloat16 beside float32.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import loop_form
from benchmarks.reporting import describe_machine, markdown, median_times, save
from benchmarks.scenes import labels_of
from network.regions.alignment import HierarchicalAlignment
from network.regions.rearrangement import SemanticRearrangement
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script

CLASSES = (19, 65, 150, 1000)
CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 16)
MOST_FOR_PRODUCTS = 150
OFF, ON = (0.0,) * 4, (0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Measure each number of classes; print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=768)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-loops", action="store_true", help="measure our own form alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    figures, rows = [], []
    shares = {}
    for dtype in precisions:
        name, tensors = str(dtype).split(".")[1], features_of(options, device, dtype)
        for classes in options.classes:
            seconds = measure(options, classes, tensors)
            figures.append({"classes": classes, "dtype": name, "seconds": seconds})
            rows.append([name, str(classes), *cells(seconds)])
        shares[name] = own_share(options, tensors)
    header = ["dtype", "K", "restyling, ms", "/ copy", "loop / ours"]
    header += ["regional loss, ms", "/ one pass of MSE", "product / ours", "loop / ours"]
    header += ["loop over all classes / ours"]
    print(describe_machine())
    print(f"batch {options.batch}, crop {options.crop}, {torch.get_num_threads()} threads\n")
    print(markdown(header, rows))
    first = str(options.classes[0])
    shared = [
        [name, k, f"{1000 * t:.1f}", f"{t / own[first]:.2f}"]
        for name, own in shares.items()
        for k, t in own.items()
    ]
    print("\n" + markdown(["dtype", "K", "SRM and all of alignment, ms", f"/ K = {first}"], shared))
    settings = {"batch": options.batch, "crop": options.crop, "threads": torch.get_num_threads()}
    save(options.out, "region_statistics", settings | {"measured": figures, "own share": shares})


class Features(NamedTuple):
    """What enters layer 1 of B images, and layers 1–4 of two streams and of the teacher."""

    stem: torch.Tensor
    student: dict[int, torch.Tensor]
    teacher: dict[int, torch.Tensor]

    def backward(self, loss: torch.Tensor) -> None:
        """Take the gradients of a loss in the student's features."""
        torch.autograd.grad(loss, list(self.student.values()))


def features_of(options: Any, device: torch.device, dtype: torch.dtype) -> Features:
    """Draw features in the shapes of the recipe, channels-last."""
    batch, crop = options.batch, options.crop

    def draw(*shape: int) -> torch.Tensor:
        features = torch.randn(shape, device=device, dtype=dtype)
        return features.contiguous(memory_format=torch.channels_last)

    shapes = [(c, -(-crop // s), -(-crop // s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    student = {i: draw(2 * batch, *shape) for i, shape in enumerate(shapes, start=1)}
    teacher = {i: draw(batch, *shape) for i, shape in enumerate(shapes, start=1)}
    for feature in student.values():
        feature.requires_grad_()
    return Features(draw(batch, 64, crop // 4, crop // 4), student, teacher)


def own_share(options: Any, features: Features) -> dict[str, float]:
    """Return median seconds of SRM and of all three terms of alignment, by number of classes."""
    stem, student, teacher = features
    forms = {}
    for classes in options.classes:
        labels = labels_of(classes, options.batch, options.crop).to(stem.device)
        srm, alignment = SemanticRearrangement(classes), HierarchicalAlignment(classes, ON, ON, ON)

        def form(srm=srm, alignment=alignment, labels=labels) -> None:
            srm(stem, labels)
            features.backward(sum(alignment(student, teacher, labels).values()))

        forms[str(classes)] = form
    return median_times(forms, 2 * options.rounds, stem.device, warm=True)


def measure(options: Any, classes: int, features: Features) -> dict[str, float]:
    """Return median seconds of each form."""
    stem, student, teacher = features
    backward, device = features.backward, stem.device
    labels = labels_of(classes, options.batch, options.crop).to(device)
    target = torch.empty_like(stem)
    srm = SemanticRearrangement(classes)
    regional = HierarchicalAlignment(classes, OFF, ON, OFF)
    local = HierarchicalAlignment(classes, OFF, OFF, ON)

    def layers(form: Callable[..., torch.Tensor], *arguments: int) -> None:
        parts = zip(ON, student.values(), teacher.values(), strict=True)
        backward(sum(w * form(f, g, labels, *arguments) for w, f, g in parts))

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
    if classes <= MOST_FOR_PRODUCTS:
        forms["regional product"] = partial(layers, loop_form.regional_loss_by_product, classes)
    # What is in the images does not depend on K, and so neither do the loops over it.
    if classes == options.classes[0] and not options.no_loops:
        forms["restyle loop"] = lambda: loop_form.rearrange(stem, labels)
        forms["regional loop"] = partial(layers, loop_form.regional_loss)
        forms["regional loop over all"] = partial(layers, loop_form.regional_loss, classes)
    return median_times(forms, options.rounds, device, warm=True)


def cells(seconds: dict[str, float]) -> list[str]:
    """Return the table's figures of one row."""

    def ratio(form: str, to: str) -> str:
        return f"{seconds[form] / seconds[to]:.1f}" if form in seconds else "-"

    restyling = [f"{1000 * seconds['restyle']:.1f}", ratio("restyle", "copy")]
    regional = [f"{1000 * seconds['regional']:.1f}", ratio("regional", "local")]
    others = ("product", "loop", "loop over all")
    regional += [ratio(f"regional {other}", "regional") for other in others]
    return [*restyling, ratio("restyle loop", "restyle"), *regional]


if __name__ == "__main__":
    run_script(main)
