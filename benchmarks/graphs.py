"""What a step of several graphs costs, against its passes alone and against its largest graph.

    python -m benchmarks.graphs [--methods dacs …] [--trunk mit_b0 resnet18] [--crop 256]
                                [--batch 2] [--rounds 5] [--no-memory]

A step is what a method of the self-training family computes, each graph differentiated before the
next is asked for; without data loading and optimizer. Its passes are the student's views of as many
images with their losses, forward and backward, and the forward passes of teacher and reference, on
images and labels that are there already. What the step adds is pseudo-labels, mixing, augmentation,
masks, cells of features and figures. Memory is the peak of a process of its own, of a step and of
its first graph or its second, the larger one. Times as in benchmarks/train_step.py; MiT has
DAFormer's head, others DeepLabV3+.
"""

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from benchmarks.inputs import batch_of, settings_of
from benchmarks.reporting import (
    ON_GPU,
    flags,
    in_own_process,
    peak_bytes,
    report,
    time_in_turns,
)
from network.methods import method_class
from network.methods.self_training import SelfTraining
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script

METHODS = ["dacs", "daformer", "hrda", "mic", "sepico"]
CLASSES = 19
Step = Callable[[int], None]


def main() -> None:
    """Measure each method on each network, and report."""
    sizes = {"methods": METHODS, "trunk": ["mit_b0", "resnet18"], "crop": 256, "batch": 2}
    options = flags(__doc__, **sizes, rounds=5, no_memory=False).parse_args()
    keep_freed_memory()
    measured = [measure(options, *names) for names in product(options.trunk, options.methods)]
    header = ["network", "method", "step, ms", "passes, ms", "ratio", "update, ms"]
    header += ["step, MiB", "largest graph, MiB", "ratio"]
    about = f"crop {options.crop}, {options.batch} source and target images"
    report(options, about, header, list(map(row_of, measured)), {"measured": measured})


def row_of(own: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    step, passes, update = (own["seconds"][name] for name in ("step", "passes", "update"))
    row = [own["trunk"], own["method"], f"{1000 * step:.0f}", f"{1000 * passes:.0f}"]
    row += [f"{step / passes:.2f}", f"{1000 * update:.0f}"]
    if not own["bytes"]:
        return [*row, "-", "-", "-"]
    whole = own["bytes"]["step"]
    largest = max(size for name, size in own["bytes"].items() if name != "step")
    return [*row, f"{whole / 2**20:.0f}", f"{largest / 2**20:.0f}", f"{whole / largest:.2f}"]


def measure(options: argparse.Namespace, trunk: str, method: str) -> dict[str, Any]:
    """Return median seconds of a step, its passes and the teacher's update, and peak bytes."""
    network = {"trunk": trunk, "method": method, "crop": options.crop, "batch": options.batch}
    steps = build_steps(**network)
    timed = {name: steps[name] for name in ("step", "passes", "update")}
    found = network | {"seconds": time_in_turns(timed, options.rounds), "bytes": {}}
    if not options.no_memory:
        forms = ("step", "source", "mixed")
        found["bytes"] = {form: in_own_process(memory_of, form, network) for form in forms}
    return found


def build_steps(trunk: str, method: str, crop: int, batch: int) -> dict[str, Step]:
    """Return functions that run a step, its passes, the teacher's update, and single graphs."""
    device = "cuda" if ON_GPU else "cpu"
    overrides = {"METHOD": method, "DECODER.NAME": "deeplabv3plus", "CONTRAST.START": 0}
    if trunk.startswith("mit"):
        overrides |= {"DECODER.NAME": "daformer", "CONTRAST.LAYERS": "1,2,3,4"}
        overrides |= {"CONTRAST.HIDDEN": 256}
    if method in ("hrda", "mic"):
        overrides["HRDA.DETAIL"] = f"{crop // 2},{crop // 2}"
    cfg = settings_of(trunk, overrides)
    torch.manual_seed(0)
    network = method_class(method)(cfg, CLASSES)
    assert isinstance(network, SelfTraining)
    layout = torch.channels_last if cfg.CHANNELS_LAST else torch.contiguous_format
    network.to(device, memory_format=layout).train()
    inputs = {name: value.to(device) for name, value in batch_of(CLASSES, batch, crop).items()}
    image = inputs["image"] = inputs["image"].contiguous(memory_format=layout)
    target = {"image": image.flip(0).contiguous(memory_format=layout)}
    inputs |= {"target": target, "step": 1}
    student, view, label = network._student(), network.view, inputs["label"]
    weight = torch.rand_like(image[:, 0])

    def graphs(number: int) -> None:
        torch.manual_seed(number)
        for losses in network(inputs):
            sum(losses.values()).backward()
        network.zero_grad()

    def one_pass() -> None:
        seen = view.train(student, image)
        losses = view.losses(student, seen, label, weight)
        sum(losses.values()).backward()

    def source_pass() -> None:
        """With what is taken of the source's features."""
        seen = view.train(student, image)
        losses = view.losses(student, seen, label, weight)
        if network.reference is not None:
            with torch.no_grad():
                network.reference(seen.images)
            losses["near"] = seen.features[4].mean()
        if cfg.CONTRAST.WEIGHT:
            with torch.no_grad():
                network.teacher.parts["projector"](view.features(network.teacher.parts, image))
            losses["own"] = network.projector(seen.features).mean()
            losses["other"] = network.projector(view.features(student, image)).mean()
        sum(losses.values()).backward()

    def passes(number: int) -> None:
        torch.manual_seed(number)
        with torch.no_grad():
            view.predict(network.teacher.parts, target["image"])
        source_pass()
        for _ in range(2 if cfg.MASK.WEIGHT else 1):
            one_pass()
        network.zero_grad()

    return {
        "step": graphs,
        "passes": passes,
        "update": network.after_step,
        "source": lambda number: source_pass(),
        "mixed": lambda number: one_pass(),
    }


def memory_of(form: str, network: dict[str, Any]) -> int:
    """Run two steps of a form and return this process's peak bytes."""
    keep_freed_memory()
    step = build_steps(**network)[form]
    step(0)
    step(1)
    return peak_bytes()


if __name__ == "__main__":
    run_script(main)
