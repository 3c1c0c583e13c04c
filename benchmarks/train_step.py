"""What a training step costs: methods and their parts, against the floor of their convolutions.

    python -m benchmarks.train_step [--trunk mobilenet_v2 resnet18] [--crop 256] [--batch 4]
                                    [--classes 19] [--forms NAME …] [--rounds 5] [--no-memory]
                                    [--decoder mask2former]
    python -m benchmarks.train_step --options …     # precision, layout, recomputation, compilation
    python -m benchmarks.train_step --forms baseline ibn iw irw shade …
    python -m benchmarks.train_step --forms halves mldg "halves and looks" pinmem

A step is forward and backward without data loading and optimizer. The floor is an SRHA step's
convolutions, upsampling and cross entropies composed by hand without any SRHA code: layer 0 on B
images, the student's layers 1–4, decoder and losses on 2B, the teacher's layers 1–4 on 2B without
gradient. Its cross entropy is taken on rows of channels-last logits, its cheapest form. The floor
is DeepLabV3+'s; forms with another decoder are compared with one another. That of MLDG are the
baseline's passes on each half of the batch ("halves"), that of PinTheMem also ASPP's feature of a
half twice, without gradient, in training and in evaluation mode ("halves and looks"). Forms take
turns; medians, on a CPU of its time (run with OMP_NUM_THREADS=1). Memory is the peak of a process
of its own. On a GPU: bfloat16, channels-last, and whether a step waits for the device.
"""

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.inputs import batch_of, settings_of
from benchmarks.reporting import (
    CROP,
    ON_GPU,
    TRUNK,
    flags,
    in_own_process,
    peak_bytes,
    report,
    time_in_turns,
)
from loss.cross_entropy import cross_entropy
from network.methods import Method, method_class
from network.regions.statistics import downsample_labels
from utils.engine.allocator import keep_freed_memory
from utils.engine.optimization import clip_gradients, rates_at
from utils.errors import run_script, unknown_name

DEEPLAB, OFF = "deeplabv3plus", "0,0,0,0"
# Forms of a step: the settings that make them. The floor changes the step itself.
FORMS: dict[str, dict[str, str]] = {
    "floor": {},
    "srha": {},
    "baseline": {"METHOD": "baseline"},
    "without SRM": {"SRM.ENABLED": "off"},
    "without global": {"ALIGN.GLOBAL": OFF},
    "without regional": {"ALIGN.REGIONAL": OFF},
    "without local": {"ALIGN.LOCAL": OFF},
    "without alignment": {"ALIGN.GLOBAL": OFF, "ALIGN.REGIONAL": OFF, "ALIGN.LOCAL": OFF},
    "without consistency": {"CONSISTENCY.WEIGHT": "0"},
    "without style elimination": {"STYLE_ELIMINATION": "off"},
    "teacher on originals": {"TEACHER.STREAMS": "original"},
}
# Other methods, by name, and what those with a step within the step cannot do without.
OTHERS = {name: {"METHOD": name} for name in ("ibn", "iw", "irw", "shade")}
TWO = {"DATASET.SOURCE": "gtav,synthia"}
OTHERS |= {name: TWO | {"METHOD": name} for name in ("mldg", "pinmem")}
HALVES, LOOKS = "halves", "halves and looks"
OTHERS |= {form: TWO | {"METHOD": "baseline"} for form in (HALVES, LOOKS)}
OPTIONS: dict[str, dict[str, str]] = {
    "srha": {},
    "float32": {"PRECISION": "float32"},
    "bfloat16": {"PRECISION": "bfloat16"},
    "contiguous layout": {"CHANNELS_LAST": "off"},
    "recomputed layers": {"TRUNK.RECOMPUTE": "on,on,on,on"},
    "clipped gradients": {"TRAIN.CLIP_NORM": "1"},
    "compiled": {},
}


def main() -> None:
    """Measure the forms on each network and size, and report."""
    trunks = [TRUNK] if ON_GPU else [TRUNK, "resnet18"]
    sizes = {"trunk": trunks, "decoder": DEEPLAB, "crop": CROP, "batch": [4, 8] if ON_GPU else [4]}
    options = flags(
        __doc__, **sizes, classes=[19], forms=[], options=False, rounds=5, no_memory=False
    ).parse_args()
    usual = OPTIONS if options.options else FORMS
    has_floor = options.decoder == DEEPLAB
    options.forms = options.forms or [form for form in usual if form != "floor" or has_floor]
    keep_freed_memory()
    sizes = product(options.trunk, options.batch, options.classes)
    measured = [measure(options, *size) for size in sizes]
    header = ["network", "batch", "K", "step", "ms", f"/ {options.forms[0]}", "images/s"]
    header += ["peak MiB", f"/ {options.forms[0]}", "waits for the device"]
    rows, about = sum(map(rows_of, measured), []), f"{options.decoder}, crop {options.crop}"
    report(options, about, header, rows, {"measured": measured})


def rows_of(own: dict[str, Any]) -> list[list[str]]:
    """Return the table's rows of one network; ratios are to the first form."""
    rows, first = [], next(iter(own["seconds"]))
    for form, seconds in own["seconds"].items():
        row = [own["trunk"], str(own["batch"]), str(own["classes"]), form, f"{1000 * seconds:.0f}"]
        row += [f"{seconds / own['seconds'][first]:.2f}", f"{own['batch'] / seconds:.2f}"]
        size, least = own["bytes"].get(form), own["bytes"].get(first)
        row += [f"{size / 2**20:.0f}", f"{size / least:.2f}"] if size else ["-", "-"]
        rows.append([*row, own["waits for the device"].get(form, "-")])
    return rows


def measure(options: argparse.Namespace, trunk: str, batch: int, classes: int) -> dict[str, Any]:
    """Return median seconds and peak bytes of each form, and whether it waits for a GPU."""
    network = {"trunk": trunk, "decoder": options.decoder, "crop": options.crop}
    network |= {"batch": batch, "classes": classes}
    steps = {form: build_step(form, **network) for form in options.forms}
    found = network | {"seconds": time_in_turns(steps, options.rounds), "bytes": {}}
    found["waits for the device"] = {f: waits(step) for f, step in steps.items()} if ON_GPU else {}
    if not options.no_memory:
        found["bytes"] = {f: in_own_process(memory_of, f, network) for f in options.forms}
    return found


def build_step(
    form: str,
    trunk: str,
    decoder: str,
    crop: int,
    batch: int,
    classes: int,
    changed: Callable[[Method], None] | None = None,
) -> Callable[[int], None]:
    """Return a function that runs one step of a form, of the method as `changed` leaves it; its
    gradients are dropped.

    UserError for an unknown form.
    """
    known = [name for name in FORMS | OTHERS | OPTIONS if name != "floor" or decoder == DEEPLAB]
    if form not in known:
        raise unknown_name("form", form, known)
    device = "cuda" if ON_GPU else "cpu"
    overrides = {"PRECISION": "bfloat16" if ON_GPU else "float32", "DECODER.NAME": decoder}
    cfg = settings_of(trunk, overrides | (FORMS | OTHERS | OPTIONS)[form])
    torch.manual_seed(0)
    # Label spaces have their own number of classes; here there may be any.
    method = method_class(cfg.METHOD)(cfg, classes, pretrained=True)
    layout = torch.channels_last if cfg.CHANNELS_LAST else torch.contiguous_format
    method.to(device, memory_format=layout).train()
    if form == "compiled":
        method.compile_network()
    if changed is not None:
        changed(method)
    inputs = {name: value.to(device) for name, value in batch_of(classes, batch, crop).items()}
    inputs["image"] = inputs["image"].contiguous(memory_format=layout)
    inputs["domain"] = torch.arange(batch, device=device) % len(cfg.DATASET.SOURCE)

    def step(number: int) -> None:
        enabled = cfg.PRECISION == "bfloat16"
        with torch.autocast(device, dtype=torch.bfloat16, enabled=enabled):
            if form == "floor":
                loss = floor_loss(method, inputs["image"], inputs["label"])
            elif form in (HALVES, LOOKS):
                loss = second_half(method, inputs, form == LOOKS)
            else:
                loss = sum(method(inputs | {"step": 1, "rate": rates_at(1, cfg)}).values())
        loss.backward()
        clip_gradients(method, cfg.TRAIN.CLIP_NORM)
        method.after_step(1)
        method.zero_grad()

    return step


def second_half(method: Method, inputs: dict[str, Tensor], looks: bool) -> Tensor:
    """Return the baseline's loss of a half of the batch, after that of the other half was
    differentiated."""
    halves = [{name: value[part::2] for name, value in inputs.items()} for part in (0, 1)]
    sum(method(halves[0]).values()).backward()
    for mode in (True, False) if looks else ():
        method.train(mode)
        with torch.no_grad():
            method.decoder.deep(method.features(halves[0]["image"]))
    method.train()
    return sum(method(halves[1]).values())


def floor_loss(method: Method, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropies that no SRHA step can do without."""
    with torch.no_grad():
        stem = method.trunk.layer0(images)
        x = target = torch.cat([stem, stem])
        for i in range(1, 5):
            target = getattr(method.teacher.trunk, f"layer{i}")(target)
    features = {}
    for i in range(1, 5):
        x = features[i] = getattr(method.trunk, f"layer{i}")(x)
    labels = torch.cat([labels, labels])
    output = method.decoder(features, images.shape[-2:])
    small = downsample_labels(labels, output.auxiliary.shape[-2:])
    return cross_entropy(output.logits, labels) + 0.4 * cross_entropy(output.auxiliary, small)


def memory_of(form: str, network: dict[str, Any]) -> int:
    """Run two steps of a form and return this process's peak bytes."""
    keep_freed_memory()
    step = build_step(form, **network)
    step(0)
    step(1)
    return peak_bytes()


def waits(step: Callable[[int], None]) -> str:
    """Say whether a step waits for the GPU, by torch's synchronisation debug mode."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(0)
    except RuntimeError:
        return "yes"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


if __name__ == "__main__":
    run_script(main)
