"""How much memory and arithmetic a step of each recipe takes, computed without running it.

    python -m benchmarks.memory [--scripts train_r50os16_gtav_srha …]
    python -m benchmarks.memory --check

A step runs on tensors that have shapes and no contents (torch's FakeTensorMode), and the bytes of
all storages that live at once are counted: weights, gradients, the optimizer's moments, activations
and what operations need in between. Buffers inside libraries (cuDNN's workspaces), the CUDA context
and fragmentation come on top. Hours are those of all steps on a GPU that keeps up 10¹⁴ operations
a second, without loading and evaluating. Steps that read values (Mask2Former's, self-training's)
are not computed. `--check` runs small steps on this machine's CPU and compares the peak of their
processes, beyond what these had before, with what is computed for them.
"""

import weakref
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.recipes import plan_of, scripts, settings_of_script, step_of
from benchmarks.reporting import flags, in_own_process, peak_bytes, report
from utils import chunks
from utils.engine.allocator import keep_freed_memory
from utils.engine.runtime import Runtime
from utils.errors import run_script, unknown_name

GIB = 2**30
SUSTAINED = 1e14  # operations a second
# Decoders and methods whose steps read values of tensors: costs of matching, draws on the host.
READING = {"mask2former", "dacs", "daformer", "hrda", "mic", "sepico"}
SMALL = {"TRANSFORM.CROP_SIZE": "256,256", "TRAIN.BATCH_SIZE": 4, "TRAIN.BATCH_PER_PROCESS": 4}
CHECKED = ("train_mobile_gtav_srha", "train_mobile_gtav_robustnet_base", "train_shuffle_gtav_srha",
           "train_r50os16_gtav_shade")  # fmt: skip


class Living(TorchDispatchMode):
    """Counts the bytes of storages that live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.storages: dict[int, weakref.ref] = {}

    def note(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.storages:
            return

        def freed(_: Any) -> None:
            self.now -= size
            self.storages.pop(key, None)

        self.storages[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return out


def main() -> None:
    """Compute the memory of recipes, or compare what is computed with what is measured."""
    options = flags(__doc__, scripts=[""], check=False).parse_args()
    chosen = [name for name in options.scripts if name]
    for name in chosen:
        if name not in scripts():
            raise unknown_name("script", name, scripts())
    names = chosen or (CHECKED if options.check else scripts())
    # The figures of all recipes are not written over.
    options.name += "_check" * options.check + "_some" * bool(chosen)
    keep_freed_memory()
    header = ["recipe", "images a pass", "weights and buffers, GiB", "peak computed, GiB"]
    header += ["measured, GiB", "/ computed"] if options.check else ["TFLOP a step", "hours"]
    measured, rows = [], []
    for name in tqdm(names, disable=None):
        cfg = settings_of_script(name, {"DEVICE": "cpu"} | (SMALL if options.check else {}))
        found = {"script": name, "images": plan_of(cfg).images}
        if {cfg.DECODER.NAME, cfg.METHOD} & READING:
            found["not computed"] = "a step reads values of tensors"
            measured.append(found)
            rows.append([name, f"{found['images']}", *["-"] * (len(header) - 2)])
            continue
        found |= computed(cfg)
        row = [name, f"{found['images']}", f"{found['states'] / GIB:.2f}"]
        row.append(f"{found['peak'] / GIB:.2f}")
        if options.check:
            found["measured"] = in_own_process(measured_peak, name)
            row += [f"{found['measured'] / GIB:.2f}", f"{found['measured'] / found['peak']:.2f}"]
        else:
            flop = found["flop"] * plan_of(cfg).passes
            hours = flop * cfg.TRAIN.MAX_ITER / SUSTAINED / 3600
            row += [f"{flop / 1e12:.1f}", f"{hours:.0f}"]
        measured.append(found)
        rows.append(row)
    report(options, "one GPU or process", header, rows, {"measured": measured})


def computed(cfg: EasyDict) -> dict[str, int]:
    """Return bytes of weights and buffers, and of the peak of two steps, and the floating point
    operations of one (convolutions, matrix products, attention) of one pass."""
    runtime = Runtime(torch.device("cpu"), 0, 1, cfg.PRECISION)
    living = Living()
    with ExitStack() as stack:
        # Parts as on a GPU: those of a CPU are thousands, and small.
        own = {"cpu": chunks.ELEMENTS["cuda"]}
        stack.enter_context(patch.dict(chunks.ELEMENTS, own))
        # It reads values.
        stack.enter_context(patch.object(nn.init, "trunc_normal_", lambda tensor, **_: tensor))
        stack.enter_context(FakeTensorMode())
        stack.enter_context(living)
        step, method = step_of(cfg, runtime, contents=False)
        states = sum(t.nbytes for t in (*method.parameters(), *method.buffers()))
        step(0)
        with FlopCounterMode(display=False) as counter:
            step(1)
    return {"states": states, "peak": living.peak, "flop": counter.get_total_flops()}


def measured_peak(script: str) -> int:
    """Run two small steps of a recipe; return the peak of this process beyond what it had."""
    keep_freed_memory()
    cfg = settings_of_script(script, {"DEVICE": "cpu"} | SMALL)
    before = peak_bytes()
    step, _ = step_of(cfg, Runtime(torch.device("cpu"), 0, 1, cfg.PRECISION, cfg.CHANNELS_LAST))
    for number in range(2):
        step(number)
    return peak_bytes() - before


if __name__ == "__main__":
    run_script(main)
