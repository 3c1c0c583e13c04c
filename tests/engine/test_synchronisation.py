"""Between log entries the training loop never waits for the device.

Counted on the CPU: reading a tensor's value into Python, writing a number of the host to one place,
and operations whose result's size depends on values, which all wait on a GPU.
"""

from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from network.decoders import decoder_class
from network.methods import method_class
from network.self_training import boxes
from tests.networks import COVERING
from transforms import geometric, strong

OPERATIONS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim",
              "unique_consecutive", "equal", "is_nonzero"}  # fmt: skip
METHODS = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__",
           "__array__", "__iter__"}  # fmt: skip


def sets_one_element(tensor, index, value):
    """Whether `tensor[index] = value` copies a number of the host to one place, which waits; to
    several places it is filled in on the device."""
    index = index if isinstance(index, tuple) else (index,)
    numbers = all(isinstance(own, int) for own in index) and len(index) == tensor.dim()
    return numbers and not isinstance(value, torch.Tensor)


class CountCalls(TorchFunctionMode):
    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in METHODS and isinstance(args[0], torch.Tensor):
            self.counts[name] += 1
        if name == "__setitem__" and sets_one_element(*args):
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


class CountOperations(TorchDispatchMode):
    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        boolean = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in OPERATIONS or boolean:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def leave_out_draws_of_the_host(monkeypatch, counts):
    """Count no reading of what `uniform` draws on the CPU, since the device has no part in it."""

    def uniform(low, high):
        before = counts.copy()
        number = geometric.uniform(low, high)
        counts.clear()
        counts.update(before)
        return number

    for module in (strong, boxes):
        monkeypatch.setattr(module, "uniform", uniform)


TUNED = ("--trunk", "dinov2_mini", "--tuning", "soma")


@pytest.mark.parametrize(
    ("method", "decoder", "trunk"), [*((*pair, ()) for pair in COVERING), ("srha", "plain", TUNED)]
)
def test_only_steps_that_record_wait(run, monkeypatch, method, decoder, trunk):
    counts, at_step = Counter(), {}
    leave_out_draws_of_the_host(monkeypatch, counts)
    after_step, losses = method_class(method).after_step, decoder_class(decoder).losses

    def note(method, step):
        after_step(method, step)
        at_step[step] = Counter(counts)

    def compute(*arguments):
        # What a decoder reads in each pass or graph comes as a numpy array.
        for name in ("cpu", "numpy"):
            counts[name] -= decoder_class(decoder).waits
        return losses(*arguments)

    monkeypatch.setattr(method_class(method), "after_step", note)
    monkeypatch.setattr(decoder_class(decoder), "losses", compute)
    images = 4 if method_class(method).splits_sources else 2
    with CountCalls(counts), CountOperations(counts):
        run("--method", method, "--decoder", decoder, *trunk, "WORKERS", 1, "TRAIN.MAX_ITER", 5,
            "LOG.EVERY", 4, "TRAIN.BATCH_PER_PROCESS", images, "--val_dataset", "gtav")  # fmt: skip
    # From the middle of step 1 to that of step 3: two whole steps.
    assert at_step[3] == at_step[1]
    recorded = at_step[4] - at_step[3]
    assert recorded, "the entry after step 4 is not counted: counting is broken"


def test_what_counts_as_waiting():
    counts = Counter()
    with CountCalls(counts), CountOperations(counts):
        x = torch.arange(3.0)
        x.sum().item(), x.tolist(), bool(x[0]), float(x[1]), x[x > 1], x.nonzero(), x.cpu()
        x[2] = 1
        x[2:] = 1
    assert counts["item"] == counts["tolist"] == counts["__bool__"] == counts["__float__"] == 1
    assert counts["index"] == counts["cpu"] == counts["__setitem__"] == 1 and counts["nonzero"] >= 1
