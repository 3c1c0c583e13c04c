"""What a training step costs: methods and their parts, against the floor of their convolutions.

    python -m benchmarks.train_step [--trunk mobilenet_v2 resnet18] [--crop 256] [--batch 4]
                                    [--classes 19] [--forms NAME …] [--rounds 5] [--no-memory]
                                    [--decoder mask2former]
    python -m benchmarks.train_step --options …     # precision, layout, memory, compilation

A step is forward and backward without data loading and optimizer. The floor is an SRHA step's
convolutions, upsampling and cross entropies composed by hand without any SRHA code: layer 0 on B
images, the student's layers 1–4, decoder and losses on 2B, the teacher's layers 1–4 on 2B without
gradient. Its cross entropy is taken on rows of channels-last logits; "floor, torch's cross entropy"
calls `F.cross_entropy` on `[B, K, H, W]` as usual, which costs more where K is large. Floors are
DeepLabV3+'s; forms with another decoder are compared with one another. Forms take turns; medians,
on a CPU of its time (run with OMP_NUM_THREADS=1), and peak memory, on a CPU of a process of its
own. On a GPU, bfloat16 and channels-last, and a check that a step does not wait for the device.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.loop_form import LoopAlignment, LoopRearrangement
from benchmarks.reporting import describe_machine, markdown, median_times, peak_resident_bytes, save
from benchmarks.scenes import labels_of
from loss.cross_entropy import cross_entropy
from network.build import resolve
from network.decoders import DECODERS
from network.methods import Method, method_class
from network.regions.statistics import downsample_labels
from utils.engine.allocator import keep_freed_memory
from utils.engine.optimization import clip_gradients
from utils.errors import UserError, run_script
from utils.labels import VOID

Entropy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OFF = "0,0,0,0"
# Forms of a step: the settings that make them. Floors and "loops" change the step itself.
FORMS: dict[str, dict[str, str]] = {
    "floor": {},
    "floor, torch's cross entropy": {},
    "srha": {},
    "loops": {},
    "baseline": {"METHOD": "baseline"},
    "without SRM": {"SRM.ENABLED": "off"},
    "without global": {"ALIGN.GLOBAL": OFF},
    "without regional": {"ALIGN.REGIONAL": OFF},
    "without local": {"ALIGN.LOCAL": OFF},
    "without alignment": {"ALIGN.GLOBAL": OFF, "ALIGN.REGIONAL": OFF, "ALIGN.LOCAL": OFF},
    "without consistency": {"CONSISTENCY.WEIGHT": "0"},
    "without style elimination": {"STYLE_ELIMINATION": "off"},
    "teacher on originals": {"TEACHER.STREAMS": "original"},
    "recomputed layers": {"TRUNK.RECOMPUTE": "on,on,on,on"},
    "float32": {"PRECISION": "float32"},
    "bfloat16": {"PRECISION": "bfloat16"},
    "contiguous layout": {"CHANNELS_LAST": "off"},
    "clipped gradients": {"TRAIN.CLIP_NORM": "1"},
    "compiled": {},
}
# What takes the cross entropies of a floor.
FLOORS = {
    "floor": cross_entropy,
    "floor, torch's cross entropy": partial(F.cross_entropy, ignore_index=VOID),
}
# Options beside the method, which `--options` measures.
OPTIONS = ["srha", "float32", "bfloat16", "contiguous layout", "recomputed layers"]
OPTIONS += ["clipped gradients", "compiled"]
USUAL = [name for name in FORMS if name not in OPTIONS[1:]]


def main() -> None:
    """Measure the forms on each trunk; print the tables and write the figures."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    trunks = ["resnet50"] if on_gpu else ["mobilenet_v2", "resnet18"]
    parser.add_argument("--trunk", nargs="+", default=trunks)
    parser.add_argument("--decoder", default="deeplabv3plus", help=", ".join(DECODERS))
    parser.add_argument("--crop", type=int, default=768 if on_gpu else 256)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8] if on_gpu else [4])
    parser.add_argument("--classes", type=int, nargs="+", default=[19])
    parser.add_argument("--forms", nargs="+", help=", ".join(FORMS))
    parser.add_argument("--options", action="store_true", help="measure options, not parts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--name", default="train_step", help="name of the JSON file")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only-memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    if options.only_memory_of:
        print(peak_memory(options.only_memory_of, *_first(options)))
        return
    if options.options:
        options.forms = OPTIONS
    known = [f for f in FORMS if f not in FLOORS or options.decoder == "deeplabv3plus"]
    options.forms = options.forms or [form for form in USUAL if form in known]
    unknown = [form for form in options.forms if form not in known]
    if unknown:
        raise UserError(f"unknown form {unknown[0]!r}; there are: {', '.join(known)}")
    print(f"{describe_machine()}, {torch.get_num_threads()} threads")
    measured = []
    for trunk in options.trunk:
        for batch in options.batch:
            for classes in options.classes:
                measured.append(measure(options, trunk, batch, classes))
                show(measured[-1])
    save(options.out, options.name, {"threads": torch.get_num_threads(), "measured": measured})


def _first(options: argparse.Namespace) -> tuple[str, str, int, int, int]:
    shape = options.crop, options.batch[0], options.classes[0]
    return options.trunk[0], options.decoder, *shape


def measure(options: argparse.Namespace, trunk: str, batch: int, classes: int) -> dict[str, Any]:
    """Return median seconds and bytes of each form."""
    size = (trunk, options.decoder, options.crop, batch, classes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = {name: build_step(name, *size) for name in options.forms}
    result = dict(zip(("trunk", "decoder", "crop", "batch", "classes"), size, strict=True))
    result["seconds"] = median_times(steps, options.rounds, device)
    result["bytes"] = {}
    if device.type == "cuda":
        for name, step in steps.items():
            torch.cuda.reset_peak_memory_stats()
            step()
            result["bytes"][name] = torch.cuda.max_memory_allocated()
        result["waits for the device"] = count_waits(steps)
    elif not options.no_memory:
        result["bytes"] = {name: memory_in_own_process(name, size) for name in options.forms}
    return result


def build_step(
    name: str, trunk: str, decoder: str, crop: int, batch: int, classes: int
) -> Callable[[], Any]:
    """Return a function that runs one step of a form; its gradients are dropped."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    overrides = {"PRECISION": "bfloat16" if device.type == "cuda" else "float32"} | FORMS[name]
    overrides |= {"TRUNK.NAME": trunk, "TRUNK.WEIGHTS": "none", "DECODER.NAME": decoder}
    overrides["DATASET.LABEL_SPACE"] = "cityscapes19"
    cfg = resolve({"METHOD": "srha"} | overrides)
    method = _with_classes(cfg, classes)
    layout = torch.channels_last if cfg.CHANNELS_LAST else torch.contiguous_format
    method.to(device, memory_format=layout).train()
    if name == "loops":
        method.rearrangement = LoopRearrangement()
        method.alignment = LoopAlignment(cfg.ALIGN.GLOBAL)
    if name == "compiled":
        method.compile_network()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, crop, crop, generator=generator).to(device)
    images = images.contiguous(memory_format=layout)
    labels = labels_of(classes, batch, crop).to(device)
    losses = partial(floor_losses, FLOORS[name]) if name in FLOORS else method_losses

    def step() -> None:
        enabled = cfg.PRECISION == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            loss = losses(method, images, labels)
        loss.backward()
        clip_gradients(method, cfg.TRAIN.CLIP_NORM)
        method.zero_grad()

    return step


def _with_classes(cfg: Any, classes: int) -> Method:
    """Build a method for any number of classes; label spaces have their own."""
    torch.manual_seed(0)
    return method_class(cfg.METHOD)(cfg, classes, pretrained=True)


def method_losses(method: Method, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of a method's losses."""
    return sum(method({"image": images, "label": labels, "step": 0}).values())


def floor_losses(
    entropy: Entropy, method: Method, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return the cross entropies of what no SRHA step can do without, as `entropy` takes them."""
    with torch.no_grad():
        stem = method.trunk.layer0(images)
        streams = torch.cat([stem, stem])
        target = streams
        for i in range(1, 5):
            target = getattr(method.teacher.trunk, f"layer{i}")(target)
    x, features = streams, {}
    for i in range(1, 5):
        x = features[i] = getattr(method.trunk, f"layer{i}")(x)
    labels = torch.cat([labels, labels])
    output = method.decoder(features, images.shape[-2:])
    small = downsample_labels(labels, output.auxiliary.shape[-2:])
    return entropy(output.logits, labels) + 0.4 * entropy(output.auxiliary, small)


def memory_in_own_process(name: str, size: tuple[str, str, int, int, int]) -> int:
    """Return the peak resident bytes of a process that runs two steps of a form."""
    trunk, decoder, *numbers = size
    command = [sys.executable, "-m", "benchmarks.train_step", "--only-memory-of", name]
    command += ["--trunk", trunk, "--decoder", decoder]
    for flag, number in zip(("--crop", "--batch", "--classes"), numbers, strict=True):
        command += [flag, str(number)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(name: str, *size: Any) -> int:
    """Run two steps of a form and return this process's peak resident bytes."""
    step = build_step(name, *size)
    step()
    step()
    return peak_resident_bytes()


def count_waits(steps: dict[str, Callable[[], Any]]) -> dict[str, bool]:
    """Say for each form whether a step waits for the GPU, by torch's synchronisation debug mode."""
    found = {}
    for name, step in steps.items():
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
            found[name] = False
        except RuntimeError:
            found[name] = True
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table of one trunk."""
    text = "\n{trunk}, {decoder}, crop {crop}, batch {batch}, {classes} classes\n"
    print(text.format(**result))
    first = next(iter(result["seconds"]))
    floor, least = result["seconds"][first], result["bytes"].get(first)
    rows = []
    for name, seconds in result["seconds"].items():
        size = result["bytes"].get(name)
        rows.append(
            [
                name,
                f"{1000 * seconds:.0f}",
                f"{seconds / floor:.2f}",
                f"{result['batch'] / seconds:.2f}",
                f"{size / 2**20:.0f}" if size else "-",
                f"{size / least:.2f}" if size and least else "-",
            ]
        )
    header = ["step", "ms", f"/ {first}", "images/s", "peak MiB", f"/ {first}"]
    print(markdown(header, rows))
    waits = [name for name, waited in result.get("waits for the device", {}).items() if waited]
    if "waits for the device" in result:
        print(f"\nsteps that wait for the device: {', '.join(waits) or 'none'}")


if __name__ == "__main__":
    run_script(main)
