"""Whether everything runs on a GPU: a step of every small network, against the CPU in float64."""

import copy
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction

from benchmarks.networks import FAMILIES, batch_for, networks, small
from benchmarks.on_gpu.checks import Check, DoesNotApply, Figures, Sizes
from network.build import DECODER, METHOD, TRUNK, TUNING, build_method, resolve
from network.decoders import decoder_class
from network.methods import Method, method_class
from network.regions.rearrangement import SemanticRearrangement
from utils.engine.optimization import build_optimizer
from utils.engine.runtime import Runtime, choose_algorithms, varying_sizes

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPACE = {"DATASET.LABEL_SPACE": "cityscapes19"}
# Of losses and gradients: rounding in float64, and in float32, which random weights amplify.
MOST_IN_FLOAT64, MOST_IN_FLOAT32 = 1e-8, 0.05
# The costs of matching are read once a pass.
WAITING = ("mask2former",)


def checks(sizes: Sizes) -> Iterator[Check]:
    """A step of each network in both precisions, without a wait."""
    every = widely(networks())
    for method, decoder, trunk, tuning in [*every[:3], *every[3 :: sizes.every]]:
        chosen = {METHOD.key: method, DECODER.key: decoder, TRUNK.key: trunk, TUNING.key: tuning}
        name = ", ".join((method, decoder, trunk, tuning))
        yield Check(name, lambda left, chosen=chosen: steps(chosen))


def widely(every: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return networks so ordered that each next one has the most choices, then pairs of choices,
    that none before it had: where time runs out, every method, decoder, trunk and tuning has been
    there."""
    left, found, had = list(every), [], set()

    def kinds(names: tuple[str, ...]) -> list[list[tuple]]:
        places = list(enumerate(names))
        return [places, list(itertools.combinations(places, 2))]

    def brings(names: tuple[str, ...]) -> list[int]:
        return [sum(own not in had for own in kind) for kind in kinds(names)]

    while left:
        found.append(max(left, key=brings))
        left.remove(found[-1])
        had.update(*kinds(found[-1]))
    return found


@varying_sizes()
def steps(chosen: dict[str, str]) -> Figures:
    """Take two steps in float32 and two in bfloat16; the second may not wait for the device."""
    own = small(chosen) | chosen | SPACE
    if "HRDA.DETAIL" in method_class(chosen[METHOD.key]).defaults:
        own["HRDA.DETAIL"] = "32,32"  # fits trunks of stride 32 too
    cfg = resolve(own)
    found: Figures = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        runtime = Runtime(DEVICE, 0, 1, precision, cfg.CHANNELS_LAST)
        method, _ = build_method(cfg)
        method = runtime.wrap(method, False)
        optimizer = build_optimizer(method, cfg)
        batch = runtime.to_device(batch_for(cfg))
        for number in range(2):
            if DEVICE.type == "cuda" and number and cfg.DECODER.NAME not in WAITING:
                torch.cuda.set_sync_debug_mode("error")
            total = one_step(method, optimizer, runtime, batch | {"step": number})
        if DEVICE.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        bad = [n for n, p in method.named_parameters() if not torch.isfinite(p).all()]
        if bad or not torch.isfinite(total):
            raise ArithmeticError(f"{precision}: not finite: {', '.join(bad[:3]) or 'the loss'}")
        found[f"loss, {precision}"] = round(float(total), 4)
    return found


def one_step(
    method: Method, optimizer: torch.optim.Optimizer, runtime: Runtime, batch: dict[str, Any]
) -> Tensor:
    """Take a step of training; return the sum of its losses."""
    total = torch.zeros((), device=runtime.device)
    for graph in runtime.graphs(method, batch):
        loss = sum(graph.values())
        loss.backward()
        total += loss.detach()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.after_step(batch["step"])
    return total


def parity_checks(sizes: Sizes) -> Iterator[Check]:
    """Losses and gradients against the CPU in float64, and what needs a GPU to be tried at all."""
    pairs = [("srha", "resnet_mini"), *(("baseline", trunk) for trunk in FAMILIES)]
    pairs += [("srha", "dinov2_mini"), ("spc", "resnet_mini"), ("iw", "resnet_mini")]
    for method, trunk in pairs[:: sizes.every]:
        yield Check(f"{method}, {trunk}", lambda left, pair=(method, trunk): parity(*pair))
    yield Check("SyncBatchNorm in a world of one", lambda left: synchronised())
    for method in ("srha", "dacs", "pinmem"):
        yield Check(f"deterministic: {method}", lambda left, method=method: repeated(method))


@varying_sizes()
def parity(method: str, trunk: str) -> Figures:
    """Compare losses and gradients of this device, in float64 and float32, with the CPU's."""
    chosen = {METHOD.key: method, TRUNK.key: trunk}
    cfg = resolve(small(chosen) | chosen | SPACE)
    torch.manual_seed(0)
    network, _ = build_method(cfg)
    quiet(network)
    batch = batch_for(cfg)
    expected = gradients(network.double(), batch, torch.device("cpu"), torch.float64)
    figures: Figures = {}
    for dtype, most in ((torch.float64, MOST_IN_FLOAT64), (torch.float32, MOST_IN_FLOAT32)):
        found = gradients(network, batch, DEVICE, dtype)
        name = str(dtype).removeprefix("torch.")
        for what, own, other in zip(("losses", "gradients"), found, expected, strict=True):
            error = float((own - other).norm() / other.norm())
            figures[f"{what}, {name}"] = f"{error:.1e}"
            if not error <= most:
                raise ArithmeticError(f"{what} in {name} differ by {error:.1e} of their size")
    return figures


def quiet(network: Method) -> None:
    """Take out what is drawn: devices draw other numbers."""
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    if isinstance(network.rearrangement, SemanticRearrangement):
        network.rearrangement.draw = evenly


def evenly(lending: Tensor) -> Tensor:
    """Return equal weights of the regions that lend, `[B, R, R]` of `[B, R]`."""
    weights = lending.float() / lending.sum(1, keepdim=True).clamp_min(1)
    return weights[:, None].expand(-1, lending.shape[1], -1)


def gradients(
    network: Method, batch: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return losses and gradients, flat, in float64 on the CPU, of a copy of the network."""
    own = copy.deepcopy(network).to(device, dtype).train()
    # TF32 in convolutions would hide what is looked for.
    torch.backends.cudnn.allow_tf32 = False
    moved = Runtime(device, 0, 1, "float32").to_device(batch)
    losses = own(moved | {"image": moved["image"].to(dtype)})
    sum(losses.values()).backward()
    torch.backends.cudnn.allow_tf32 = True
    grads = [p.grad.flatten() for p in own.parameters() if p.grad is not None]
    values = torch.stack([losses[name].detach() for name in sorted(losses)])
    return values.double().cpu(), torch.cat(grads).double().cpu()


def synchronised() -> Figures:
    """Compare the synchronised batch norm, in a world of one, with the plain one. The module would
    take the plain one there, so its operation is called."""
    if DEVICE.type != "cuda":
        raise DoesNotApply("SyncBatchNorm needs a GPU")
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        x = torch.randn(4, 24, 16, 20, device=DEVICE).contiguous(memory_format=torch.channels_last)
        norm = nn.BatchNorm2d(24, device=DEVICE)
        found = []
        for synchronise in (True, False):
            own = x.clone().requires_grad_()
            mean, variance = torch.zeros(24, device=DEVICE), torch.ones(24, device=DEVICE)
            scale = (norm.weight, norm.bias, mean, variance)
            if synchronise:
                group = dist.group.WORLD
                y = SyncBatchNormFunction.apply(own, *scale, norm.eps, 0.1, group, 1)
            else:
                y = F.batch_norm(own, mean, variance, *scale[:2], True, 0.1, norm.eps)
            (gradient,) = torch.autograd.grad(y.square().mul(own.detach()).sum(), own)
            found.append((y.detach(), gradient, mean, variance))
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True)]
        if not max(errors) < 1e-4:
            raise ArithmeticError(f"they differ by {max(errors):.1e}")
        return {"largest difference": f"{max(errors):.1e}"}
    finally:
        dist.destroy_process_group()


def repeated(method: str) -> Figures:
    """Take two steps twice with deterministic algorithms: weights are equal to the last bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    chosen = {METHOD.key: method, DECODER.key: "deeplabv3plus"}
    cfg = resolve(small(chosen) | chosen | SPACE | decoder_class("deeplabv3plus").without_dropout)
    choose_algorithms(deterministic=True)
    try:
        states = []
        for _ in range(2):
            torch.manual_seed(0)
            runtime = Runtime(DEVICE, 0, 1, "float32", cfg.CHANNELS_LAST)
            network = runtime.wrap(build_method(cfg)[0], False)
            optimizer, batch = build_optimizer(network, cfg), runtime.to_device(batch_for(cfg))
            for number in range(2):
                runtime.seed_step(cfg.SEED, number)
                one_step(network, optimizer, runtime, batch | {"step": number})
            states.append(network.state_dict())
        unequal = [k for k in states[0] if not torch.equal(states[0][k], states[1][k])]
        if unequal:
            raise ArithmeticError(f"{len(unequal)} tensors differ, such as {unequal[0]}")
        return {"tensors": len(states[0])}
    finally:
        choose_algorithms(deterministic=False)
