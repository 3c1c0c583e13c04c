"""Frozen weights, which checkpoints leave to the file they came from.

A checkpoint of a tuned trunk holds what is trained, all buffers, and the SHA-256 of the parameters
that it leaves out: those that tuning keeps and the file has as they are.
"""

from collections.abc import Collection
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from network.tuning import plain_trunk
from utils.errors import UserError


def stored_weights(method: nn.Module, cfg: EasyDict) -> dict[str, Any]:
    """Return what a checkpoint holds: `method`, weights by name, and `frozen`, which says what was
    left out (None: nothing)."""
    left_out = left_to_file(method)
    state = method.state_dict()
    if not left_out:
        return {"method": state, "frozen": None}
    note = {"weights": cfg.TRUNK.WEIGHTS, "sha256": method.trunk.file_hash()}
    return {"method": {k: v for k, v in state.items() if k not in left_out}, "frozen": note}


def left_to_file(method: nn.Module) -> set[str]:
    """Return the keys of a method's parameters that are its trunk's and in the file, also under the
    names of other parts that share them."""
    trunk = method.trunk
    kept = {id(p) for name, p in trunk.named_parameters() if name in trunk.in_file}
    return {key for key, value in method.state_dict(keep_vars=True).items() if id(value) in kept}


@torch.no_grad()
def completed(method: nn.Module, cfg: EasyDict, state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for a method that was built without pretrained ones, with
    those that it leaves to the file TRUNK.WEIGHTS.

    UserError if there is no such file, or if it holds others.
    """
    if not (note := state.get("frozen")):
        return state["method"]
    file = plain_trunk(cfg)
    weights, own = dict(file.named_parameters()), dict(method.trunk.named_parameters())
    method.trunk.in_file = frozenset(weights.keys() - file.converted)
    for name in method.trunk.in_file:
        own[name].copy_(weights[name])
    refuse_other_weights(method, cfg, note)
    return with_own(method, state["method"])


def refuse_other_weights(method: nn.Module, cfg: EasyDict, note: dict[str, str]) -> None:
    """Raise UserError where a method's frozen weights are others than a checkpoint's note names."""
    if method.trunk.file_hash() != note["sha256"]:
        raise UserError(
            f"the checkpoint leaves out frozen weights, which were those of {note['weights']} "
            f"(SHA-256 {note['sha256'][:16]}…), and TRUNK.WEIGHTS {cfg.TRUNK.WEIGHTS} with "
            f"TRUNK.TUNING {cfg.TRUNK.TUNING} keeps others; give that file as TRUNK.WEIGHTS, or "
            "a whole network (python -m utils.export)"
        )


def with_own(method: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a method's own frozen weights to those of a checkpoint that leaves them out."""
    own = method.state_dict()
    return weights | {key: own[key] for key in left_to_file(method)}


def keep_or_store(method: nn.Module, weights: dict[str, Tensor], parts: Collection[str]) -> None:
    """Have checkpoints hold all weights where those that parts of a method are filled with are not
    those of the file."""
    own = method.state_dict()
    keys = [key for key in left_to_file(method) if key.split(".")[0] in parts]
    if any(key in weights and not torch.equal(own[key].cpu(), weights[key]) for key in keys):
        method.trunk.in_file = frozenset()
