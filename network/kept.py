"""Frozen weights, which checkpoints leave to the file they came from.

A checkpoint of a tuned trunk holds what is trained, all buffers, and a note: which parameters it
leaves out, because tuning keeps them and the file has them as they are, and their SHA-256.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from easydict import EasyDict
from torch import Tensor, nn

from network.trunks.trunk import Trunk
from network.tuning import plain_trunk
from utils.errors import UserError
from utils.network_file import digest


class Note(NamedTuple):
    """What a checkpoint says of the weights that it leaves out: the value of TRUNK.WEIGHTS, their
    names in the trunk, and their SHA-256."""

    weights: str
    names: tuple[str, ...]
    sha256: str


def stored_weights(method: nn.Module, cfg: EasyDict) -> dict[str, Any]:
    """Return what a checkpoint holds: `method`, weights by name, and `frozen`, its note as plain
    values (None: nothing is left out)."""
    names = left_to_file(method.trunk)
    state = method.state_dict()
    if not names:
        return {"method": state, "frozen": None}
    left_out = keys_of(method, names)
    note = {"weights": cfg.TRUNK.WEIGHTS, "names": names, "sha256": method.trunk.file_hash(names)}
    return {"method": {k: v for k, v in state.items() if k not in left_out}, "frozen": note}


def left_to_file(trunk: Trunk) -> list[str]:
    """Return the names of a trunk's parameters that are still those of the file."""
    kept = {id(parameter) for parameter in trunk.in_file}
    return [name for name, p in trunk.named_parameters() if id(p) in kept]


def keys_of(method: nn.Module, names: Collection[str]) -> set[str]:
    """Return a method's keys of parameters of its trunk, also where other parts share them."""
    own = dict(method.trunk.named_parameters())
    kept = {id(own[name]) for name in names}
    return {key for key, value in method.state_dict(keep_vars=True).items() if id(value) in kept}


@torch.no_grad()
def completed(method: nn.Module, cfg: EasyDict, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for a method that was built without pretrained ones, with
    those that it leaves to the file TRUNK.WEIGHTS.

    UserError if there is no such file, or if it holds others.
    """
    if not state.get("frozen"):
        return state["method"]
    note = Note(**state["frozen"])
    own = dict(method.trunk.named_parameters())
    weights = weights_of_file(note, cfg)
    for name, value in weights.items():
        own[name].copy_(value)
    method.trunk.in_file = [own[name] for name in note.names]
    return with_own(method, state["method"], note.names)


def weights_of_file(note: Note, cfg: EasyDict) -> dict[str, Tensor]:
    """Read what a checkpoint left out, by its names in the trunk; UserError if the file that
    TRUNK.WEIGHTS names is missing or another one."""
    told = (
        f"the checkpoint leaves frozen weights to the file {note.weights} (SHA-256 "
        f"{note.sha256[:16]}…)"
    )
    try:
        trunk = plain_trunk(cfg)
    except UserError as error:
        raise UserError(f"{told}; give its path as TRUNK.WEIGHTS ({error})") from error
    own = dict(trunk.named_parameters())
    if strange := [name for name in note.names if name not in own]:
        raise UserError(f"{told}, and --trunk {cfg.TRUNK.NAME} has no {strange[0]}")
    found = {name: own[name].detach() for name in note.names}
    if digest(found, {}) != note.sha256:
        raise UserError(
            f"{told}, and TRUNK.WEIGHTS {cfg.TRUNK.WEIGHTS} holds others; give the path of that "
            "file as TRUNK.WEIGHTS"
        )
    return found


def with_own(
    method: nn.Module, weights: dict[str, Tensor], names: Collection[str]
) -> dict[str, Tensor]:
    """Add a method's own parameters of its trunk to weights that lack them."""
    own = method.state_dict()
    return weights | {key: own[key] for key in keys_of(method, names)}


def taken_over(
    method: nn.Module, cfg: EasyDict, state: Mapping[str, Any], parts: Collection[str]
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint that parts of another method are to be filled with, whole.

    Where they are not those of the method's own file, its checkpoints will hold all weights. The
    frozen ones that a checkpoint left out are read from the method's file.
    """
    weights = state["method"]
    if state.get("frozen") and "trunk" in parts:
        found = weights_of_file(Note(**state["frozen"]), cfg)
        weights = weights | {f"trunk.{name}": value for name, value in found.items()}
    own = method.state_dict()
    keys = [key for key in keys_of(method, left_to_file(method.trunk)) if key in weights]
    if any(key.split(".")[0] in parts and not torch.equal(own[key], weights[key]) for key in keys):
        method.trunk.in_file = []
        said = "frozen weights are those of INIT; so is the network that features are kept near"
        method.trunk.remarks = (*method.trunk.remarks, said)
    return weights
