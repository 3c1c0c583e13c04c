"""Checkpoints: plain tensors and Python values, written atomically, loaded with weights_only."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

import config
from datasets.label_spaces import LABEL_SPACES, LabelSpace
from network.decoders import decoder_class
from network.methods import Method, method_class
from utils.errors import UserError


def save_checkpoint(
    path: Path, method: nn.Module, optimizer: torch.optim.Optimizer, cfg: EasyDict, step: int
) -> None:
    """Write method, optimizer, settings and step to `path` through a temporary file."""
    state = {
        "settings": config.flatten(cfg),
        "step": step,
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
    """Read a checkpoint of `save_checkpoint` to the CPU; UserError if it is none."""
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise UserError(f"{path} is damaged or no checkpoint ({error})") from error
    if not isinstance(state, dict) or "settings" not in state or "method" not in state:
        raise UserError(f"{path} is no checkpoint of this project: it holds no settings")
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

    With the `state` of a checkpoint its weights are loaded strictly, and no pretrained ones are
    read; keys or shapes that differ are a UserError that lists them.
    """
    space = LABEL_SPACES[cfg.DATASET.LABEL_SPACE]
    method = method_class(cfg.METHOD)(cfg, len(space.classes), pretrained=state is None)
    if state is not None:
        own, stored = method.state_dict(), state["method"]
        problems = {
            "missing": sorted(own.keys() - stored.keys()),
            "unknown": sorted(stored.keys() - own.keys()),
            "of another shape": sorted(
                k for k in own.keys() & stored.keys() if own[k].shape != stored[k].shape
            ),
        }
        if any(problems.values()):
            report = "; ".join(
                f"{len(keys)} {what}: {', '.join(keys[:4])}"
                for what, keys in problems.items()
                if keys
            )
            raise UserError(f"the checkpoint does not fit the network of these settings ({report})")
        method.load_state_dict(stored)
    return method, space


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, the first 16 hex digits."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
