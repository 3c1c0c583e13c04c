"""Optimizer, schedule, and how an effective batch is split over processes and passes."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from easydict import EasyDict
from torch import nn

from network.decoders import decoder_class
from network.methods import Method
from utils.engine.runtime import Runtime
from utils.errors import UserError

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)  # of several dimensions too
WARMUP_START = 1e-6  # of the rates, at step 0
MATRICES = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)


class BatchPlan(NamedTuple):
    """`images` in one forward pass of one process, `passes` of them in one optimizer step."""

    images: int
    passes: int

    def describe(self, world_size: int) -> str:
        """Say how a step is made up, and what accumulation does to batch norm, for the log."""
        text = f"{self.images * self.passes * world_size} images a step"
        if world_size > 1:
            text += f", {world_size} processes"
        if self.passes > 1:
            text += (
                f", accumulated over {self.passes} passes (batch norm sees {self.images} images "
                "a pass and process, or those of all processes where it is synchronised)"
            )
        return text


def plan_batch(batch_size: int, per_process: int, world_size: int, parts: int = 1) -> BatchPlan:
    """Split `batch_size` images over processes, at most `per_process` in one pass.

    The largest number that divides the share of a process is taken, the rest is accumulated. Each
    pass has `parts` equal parts, one for each source domain that is mixed equally. Raises UserError
    when the batch cannot be split evenly, naming what works.
    """
    if batch_size < 1 or per_process < 1:
        raise UserError("TRAIN.BATCH_SIZE and TRAIN.BATCH_PER_PROCESS must be at least 1")
    if batch_size % parts:
        above = -(-batch_size // parts) * parts
        raise UserError(
            f"TRAIN.BATCH_SIZE {batch_size} holds no equal parts of {parts} source domains; set a "
            f"multiple of {parts} such as {above}, or DATASET.MIXING proportional"
        )
    if batch_size % (world_size * parts):
        works = [str(n) for n in range(1, batch_size + 1) if batch_size % (n * parts) == 0]
        equally = f" with equal parts of {parts} source domains" if parts > 1 else ""
        raise UserError(
            f"TRAIN.BATCH_SIZE {batch_size} cannot be split over {world_size} processes{equally}; "
            f"start {', '.join(works)}, or change TRAIN.BATCH_SIZE"
        )
    if per_process < parts:
        raise UserError(
            f"TRAIN.BATCH_PER_PROCESS {per_process} has no room for an image of each of {parts} "
            f"source domains; set it to {parts} or more, or DATASET.MIXING to proportional"
        )
    share = batch_size // world_size
    most = min(share, per_process)
    images = max(n for n in range(parts, most + 1, parts) if share % n == 0)
    return BatchPlan(images, share // images)


def refuse_passes(plan: BatchPlan, method: type[Method], cfg: EasyDict) -> None:
    """Raise UserError for a step of several passes with a method that does in a pass what is meant
    for a step."""
    key = method.one_pass(cfg)
    if plan.passes > 1 and key:
        raise UserError(
            f"--method {cfg.METHOD} takes a step of its own in each pass, and TRAIN.BATCH_SIZE "
            f"{cfg.TRAIN.BATCH_SIZE} makes {plan.passes} passes of {plan.images} images; set "
            f"TRAIN.BATCH_PER_PROCESS to {plan.images * plan.passes}, start more processes, or "
            f"take {key} on, which is another algorithm"
        )


def refuse_single_images(
    plan: BatchPlan, method: type[Method], cfg: EasyDict, runtime: Runtime
) -> None:
    """Raise UserError for fewer images than the decoder has to see at once, because it normalises
    over them; norms that are synchronised see those of all processes."""
    least = decoder_class(cfg.DECODER.NAME).least_images
    if cfg.TRAIN.SYNC_BATCH_NORM and runtime.world_size > 1 and runtime.device.type == "cuda":
        least = 1
    parts = len(cfg.DATASET.SOURCE) if method.splits_sources else 1
    if plan.images < least * parts:
        each = " of each source" if parts > 1 else ""
        raise UserError(
            f"the decoder {cfg.DECODER.NAME} normalises over the images that it sees at once and "
            f"cannot train on one{each}; choose TRAIN.BATCH_SIZE and TRAIN.BATCH_PER_PROCESS so "
            f"that the share of a process splits into passes of {least * parts} or more (an even "
            "share does)"
        )


def refuse_more_than_memory(plan: BatchPlan, crop: Sequence[int], device: torch.device) -> None:
    """Raise UserError where the crops of one pass alone are more than the machine's or the GPU's
    memory: a system that promises memory it does not have ends the process without a word."""
    needed = plan.images * 3 * crop[0] * crop[1] * 4
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(
            f"the {plan.images} crops of {crop[0]}×{crop[1]} pixels of one pass take "
            f"{needed / 1e9:.0f} GB, before any feature, and there are {memory / 1e9:.0f} GB of "
            "memory; set a smaller TRANSFORM.CROP_SIZE or TRAIN.BATCH_PER_PROCESS"
        )


def build_optimizer(method: Method, cfg: EasyDict) -> torch.optim.Optimizer:
    """SGD or AdamW, with the encoder's rate for the trunk and the decoder's for everything else.

    It is fused because fused optimizers leave out a step on the device's word (guard.py).
    """
    exempt = without_decay(method, cfg.TRAIN.NO_DECAY)
    groups = []
    for name, parameters in method.parameter_groups().items():
        for spared in (False, True):
            members = [p for p in parameters if (id(p) in exempt) == spared]
            options = {"name": name, "spared": spared}
            groups += [{"params": members, **options}] if members else []
    if cfg.TRAIN.OPTIMIZER == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, momentum=cfg.TRAIN.MOMENTUM, fused=True)
    set_rates(optimizer, rates_at(0, cfg), decay_at(0, cfg))
    return optimizer


def without_decay(method: nn.Module, kinds: Sequence[str]) -> set[int]:
    """Return the ids of a method's parameters that are of one of the `kinds` (those of norms, of
    embeddings, and biases) or that a module's `no_weight_decay()`, as timm has it too, names.

    The latter's are spared by each kind; the kind "named" spares nothing else.
    """
    exempt = set()
    for module in method.modules() if kinds else ():
        own = dict(module.named_parameters(recurse=False))
        whole = "norms" in kinds and _is_norm(module, own)
        whole |= "embeddings" in kinds and isinstance(module, nn.Embedding)
        for name, parameter in own.items():
            if whole or ("biases" in kinds and name.endswith("bias")):
                exempt.add(id(parameter))
        named = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
        exempt |= {id(p) for name, p in module.named_parameters() if name in named}
    return exempt


def _is_norm(module: nn.Module, own: Mapping[str, nn.Parameter]) -> bool:
    """Whether a module with its `own` parameters is a norm: it scales and shifts channels.

    Libraries have norms of their own classes: nothing but vectors, also as `[1, 1, 1, C]`, makes
    one. Convolutions and linear layers of a single channel are none.
    """
    if isinstance(module, NORMS) or isinstance(module, MATRICES):
        return isinstance(module, NORMS)
    return all(p.numel() == max(p.shape, default=1) for p in own.values())


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load a checkpoint's momentum into an optimizer that keeps the rates it was built with, so
    that rates changed on resuming count.

    UserError if it belongs to other parameters.
    """
    kinds = ["momentum" in groups[0] for groups in (optimizer.param_groups, state["param_groups"])]
    if kinds[0] != kinds[1]:
        raise UserError(
            "the checkpoint's optimizer is another one than TRAIN.OPTIMIZER; resume with that of "
            "the run, or start a new run with --init"
        )
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    saved = [len(group["params"]) for group in state["param_groups"]]
    if sizes != saved:
        raise UserError(
            f"the checkpoint's optimizer has {saved} parameters in its groups, these settings "
            f"train {sizes}; resume with the settings of the run, or start a new one with --init"
        )
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if not torch.is_tensor(value) or value.dim() == 0:
                continue
            if value.shape != parameter.shape:
                raise UserError(
                    f"the checkpoint's optimizer holds a {name} of {list(value.shape)} for a "
                    f"parameter of {list(parameter.shape)}"
                )
            # Fused optimizers take memory as it lies: with another CHANNELS_LAST than the saved
            # one they would add up the wrong elements.
            values[name] = torch.empty_like(parameter).copy_(value)


def clip_gradients(method: Method, norm: float) -> None:
    """Scale the gradients down to a total L2 norm of `norm`; 0 leaves them as they are.

    Nothing is read back from the device. A norm that is not finite is left to the guard.
    """
    if norm:
        torch.nn.utils.clip_grad_norm_(method.parameters(), norm, foreach=True)


def rates_at(step: int, cfg: EasyDict) -> dict[str, float]:
    """Return the learning rates of a step by part of the network: trunk, decoder, other.

    LR_ENCODER, of the trunk, and LR_DECODER, of everything else, are multiplied by
    `(1 − step / MAX_ITER) ** POLY_POWER` or, with SCHEDULE exp, by `exp(−EXP_RATE · step /
    EXP_SPAN)`, and for the first WARMUP steps by `1 − (1 − step / WARMUP)(1 − 1e-6)` too.
    """
    options = cfg.TRAIN
    if options.SCHEDULE == "exp":
        factor = math.exp(-options.EXP_RATE * step / options.EXP_SPAN)
    else:
        factor = (1 - step / options.MAX_ITER) ** options.POLY_POWER
    if step < options.WARMUP:
        factor *= 1 - (1 - step / options.WARMUP) * (1 - WARMUP_START)
    others = options.LR_DECODER * factor
    return {"trunk": options.LR_ENCODER * factor, "decoder": others, "other": others}


def decay_at(step: int, cfg: EasyDict) -> float:
    """Return the weight decay of a step.

    It goes from WEIGHT_DECAY to WEIGHT_DECAY_END: `end + (start − end)(1 + cos(π step / MAX_ITER))
    / 2`. With an end of −1 it stays; UserError for another negative end.
    """
    options = cfg.TRAIN
    start, end = options.WEIGHT_DECAY, options.WEIGHT_DECAY_END
    if end == -1:
        return start
    if end < 0:
        raise UserError(
            f"TRAIN.WEIGHT_DECAY_END is {end:g}; set 0 or more, or -1 for a decay that stays"
        )
    return end + (start - end) * (1 + math.cos(math.pi * step / options.MAX_ITER)) / 2


def set_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float], decay: float) -> None:
    """Set the rates of the optimizer's groups, and the weight decay of those not spared it."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]
        group["weight_decay"] = 0.0 if group["spared"] else decay
