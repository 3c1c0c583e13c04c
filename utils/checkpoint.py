"""Checkpoints: plain tensors and Python values, written atomically, loaded with weights_only."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

import config
from datasets.label_spaces import LabelSpace, label_space
from network.decoders import decoder_class
from network.methods import Method, method_class
from network.published import convert, is_published
from utils.errors import UserError
from utils.files import read_weights


def save_checkpoint(
    path: Path,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    cfg: EasyDict,
    step: int,
    samples: int,
) -> None:
    """Write method, optimizer, settings, steps done and source samples drawn to `path`, through a
    temporary file."""
    state = {
        "settings": config.flatten(cfg),
        "step": step,
        "samples": samples,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU: one of `save_checkpoint`, or the published code's.

    Returns `settings`, `step`, `method` (weights by name) and, of our own, `optimizer`. A published
    file knows no settings and holds the inference network alone. UserError if it is neither.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    state = dict(read_weights(path))
    if is_published(state):
        return {"settings": {}, "step": 0, "method": convert(state), "published": True}
    if not {"settings", "method"} <= state.keys():
        raise UserError(
            f"{path} is no checkpoint of this project, and not of the published SRHA or RobustNet "
            "code: it holds neither settings nor their key names"
        )
    return state


def resolve(overrides: dict[str, Any]) -> EasyDict:
    """Resolve settings with those that the chosen method and decoder declare."""
    chosen = config.load({k: v for k, v in overrides.items() if k in ("METHOD", "DECODER.NAME")})
    return config.load(
        overrides,
        method_class(chosen.METHOD).settings,
        decoder_class(chosen.DECODER.NAME).settings,
    )


def build_method(cfg: EasyDict, state: dict[str, Any] | None = None) -> tuple[Method, LabelSpace]:
    """Build the method that the settings describe, and the label space it is trained in.

    With the `state` of a checkpoint its weights are loaded, and no pretrained ones are read. Our
    own have to fit strictly, a published file has to fill the inference network.
    """
    space = label_space(cfg.DATASET.LABEL_SPACE)
    method = method_class(cfg.METHOD)(cfg, len(space), pretrained=state is None)
    if state is not None:
        load = load_network if state.get("published") else load_weights
        load(method, state["method"])
    return method, space


def load_network(method: Method, weights: dict[str, Tensor]) -> None:
    """Load trunk and decoder, which have to fit; nothing else (teachers, memories) is touched."""
    network = nn.ModuleDict({"trunk": method.trunk, "decoder": method.decoder})
    others = [name for name, _ in method.named_children() if name not in network]
    load_weights(network, {k: v for k, v in weights.items() if k.split(".")[0] not in others})


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights strictly; keys or shapes that differ are a UserError that lists them."""
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{k} {list(weights[k].shape)} instead of {list(own[k].shape)}"
            for k in sorted(own.keys() & weights.keys())
            if own[k].shape != weights[k].shape
        ],
    }
    if any(problems.values()):
        report = "; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
            for what, keys in problems.items()
            if keys
        )
        raise UserError(f"the checkpoint does not fit the network of these settings ({report})")
    module.load_state_dict(weights)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, the first 16 hex digits."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
