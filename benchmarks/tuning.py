"""What a training step of a vision transformer costs, by what is tuned of it.

    python -m benchmarks.tuning [--trunk dinov2_s] [--decoder plain] [--crop 256] [--batch 2]
                                [--rounds 3] [--large dinov2_l] [--large-crop 512] [--large-batch 4]
                                [--no-memory]

Of the small trunk steps are run: forward and backward, CPU time of one thread, and the peak memory
of a process of its own. Of both trunks the bytes are counted: weights, gradients, AdamW's two
moments, and what a forward pass of one image keeps for the backward pass, times the batch. Memory
beside that (losses at the image's size, buffers of libraries) is in the peak alone.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.inputs import batch_of, settings_of
from benchmarks.reporting import (
    ON_GPU,
    flags,
    in_own_process,
    peak_bytes,
    report,
    time_in_turns,
)
from network.methods import Method, method_class
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script

FORMS = {
    "frozen": ("baseline", "frozen"),
    "lora": ("baseline", "lora"),
    "soma": ("baseline", "soma"),
    "rein": ("baseline", "rein"),
    "full": ("baseline", "full"),
    "srha, frozen": ("srha", "frozen"),
    "srha, soma": ("srha", "soma"),
    "srha, full": ("srha", "full"),
}
CLASSES = 19
MIB, GIB = 2**20, 2**30


def main() -> None:
    """Measure the small trunk, compute both, and report."""
    sizes = {"trunk": "dinov2_s", "decoder": "plain", "crop": 256, "batch": 2}
    large = {"large": "dinov2_l", "large_crop": 512, "large_batch": 4}
    forms = list(FORMS)
    options = flags(__doc__, forms=forms, **sizes, **large, rounds=3, no_memory=False).parse_args()
    keep_freed_memory()
    small = {"trunk": options.trunk, "crop": options.crop, "batch": options.batch}
    big = {"trunk": options.large, "crop": options.large_crop, "batch": options.large_batch}
    steps = {form: step_of(form, options.decoder, **small) for form in options.forms}
    seconds = time_in_turns(steps, options.rounds)
    del steps
    measured = []
    for form in options.forms:
        found: dict[str, Any] = {"form": form, "seconds": seconds[form]}
        found["small"] = in_own_process(sizes_of, form, options.decoder, *small.values())
        found["large"] = in_own_process(sizes_of, form, options.decoder, *big.values())
        if not options.no_memory:
            found["peak"] = in_own_process(memory_of, form, options.decoder, small)
        measured.append(found)
    header = ["step", "trained", "time, ms", "over frozen", "kept, MiB", "peak, MiB"]
    header += [f"{options.large}: trained", "states, GiB", "kept, GiB", "sum, GiB"]
    first = measured[0]["seconds"]
    about = f"{options.trunk}, {options.decoder}, crop {options.crop}, batch {options.batch}; "
    about += f"{options.large}: crop {options.large_crop}, batch {options.large_batch}"
    rows = [row_of(own, first) for own in measured]
    report(options, about, header, rows, {"measured": measured})


def row_of(own: dict[str, Any], first: float) -> list[str]:
    """Return a row of the table."""
    small, large = own["small"], own["large"]
    row = [own["form"], f"{small['trained'] / 1e6:.2f} M", f"{1000 * own['seconds']:.0f}"]
    row += [f"{own['seconds'] / first:.2f}", f"{small['kept'] / MIB:.0f}"]
    row += [f"{own['peak'] / MIB:.0f}" if "peak" in own else "-", f"{large['trained'] / 1e6:.2f} M"]
    sizes = (large["states"], large["kept"], large["states"] + large["kept"])
    return [*row, *(f"{size / GIB:.2f}" for size in sizes)]


def build(form: str, decoder: str, trunk: str, device: str) -> Method:
    """Build the method of a form with random weights."""
    method, tuning = FORMS[form]
    chosen = {"METHOD": method, "TRUNK.TUNING": tuning, "DECODER.NAME": decoder}
    cfg = settings_of(trunk, chosen)
    # Without pretrained weights nothing is decomposed: times do not depend on values.
    network = method_class(method)(cfg, CLASSES, pretrained=False)
    layout = torch.channels_last if cfg.CHANNELS_LAST else torch.contiguous_format
    return network.to(device, memory_format=layout).train()


def step_of(form: str, decoder: str, trunk: str, crop: int, batch: int) -> Any:
    """Return a function that runs a forward and a backward pass."""
    device = "cuda" if ON_GPU else "cpu"
    network = build(form, decoder, trunk, device)
    inputs = {name: value.to(device) for name, value in batch_of(CLASSES, batch, crop).items()}

    def step(number: int) -> None:
        torch.manual_seed(number)
        sum(network(inputs).values()).backward()
        network.zero_grad()

    return step


def memory_of(form: str, decoder: str, sizes: dict[str, Any]) -> int:
    """Run two steps and return this process's peak bytes, beyond those that it had before."""
    keep_freed_memory()
    before = 0 if ON_GPU else peak_bytes()
    step = step_of(form, decoder, **sizes)
    step(0)
    step(1)
    return peak_bytes() - before


def sizes_of(form: str, decoder: str, trunk: str, crop: int, batch: int) -> dict[str, int]:
    """Return trained parameters, and bytes: `states` (weights, gradients, moments) and `kept`, what
    trunk and decoder keep of the activations of both streams, `batch` times those of an image."""
    network = build(form, decoder, trunk, "cpu")
    parameters = list(network.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    states = sum(p.nbytes for p in parameters) + 3 * 4 * trained
    states += sum(buffer.nbytes for buffer in network.buffers())
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        image = torch.randn(1, 3, crop, crop)
        output = network.decoder(network.trunk(image, after=network.after), (crop, crop))
    del output
    streams = 2 if network.rearrangement is not None else 1
    return {"trained": trained, "states": states, "kept": streams * batch * sum(storages.values())}


if __name__ == "__main__":
    run_script(main)
