"""From settings to a network: what they declare, the method they describe, and its weights."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from easydict import EasyDict
from torch import Tensor, nn

import config
from datasets import DATASETS, adopt_files, label_space
from datasets import SETTINGS as DATASET_SETTINGS
from datasets.label_spaces import LabelSpace
from network.checkpoint import checkpoint_path, load_checkpoint
from network.decoders import DECODERS
from network.kept import completed, taken_over
from network.methods import METHODS, Method, method_class
from network.trunks import TRUNKS
from network.tuning import TUNINGS
from utils.errors import UserError, memory_for
from utils.registry import find
from utils.settings import convert, flatten, load, merge, walk

# Settings of earlier versions → the value that switched them off.
REMOVED = {"ALIGN.WARMUP": 0, "CONSISTENCY.WARMUP": 0}
ROOTS = ("DATASET.ROOT", *(f"DATASET.{dataset.root_setting}" for dataset in DATASETS.values()))


class Axis(NamedTuple):
    """One of the choices that make a network: its flag, its setting and its registry.

    An experiment's default name has the choice where it `names` experiments, or is not the default.
    """

    flag: str
    key: str
    registry: Mapping[str, str]
    names: bool = True

    def default(self) -> str:
        """Return the choice of the shared settings."""
        return dict(walk(config.SETTINGS))[self.key].default

    def chosen(self, cfg: EasyDict) -> str:
        """Return the choice of resolved settings."""
        return flatten(cfg)[self.key]


TRUNK = Axis("trunk", "TRUNK.NAME", TRUNKS)
TUNING = Axis("tuning", "TRUNK.TUNING", TUNINGS, names=False)
DECODER = Axis("decoder", "DECODER.NAME", DECODERS, names=False)
METHOD = Axis("method", "METHOD", METHODS)
# What a later one declares goes before what earlier ones do.
AXES = (TRUNK, TUNING, DECODER, METHOD)


def declarations(names: Mapping[str, Any]) -> list[Any]:
    """Return the trunk's builder and the classes of tuning, decoder and method, which declare
    `settings` and `defaults`.

    `names` maps keys of axes to names; UserError for an unknown name.
    """
    return [find(axis.flag, names.get(axis.key, axis.default()), axis.registry) for axis in AXES]


def declared(names: Mapping[str, Any]) -> tuple[dict, dict[str, Any]]:
    """Return the settings that datasets and the choices on the axes declare, and the defaults that
    these choices change."""
    chosen = declarations(names)
    defaults: dict[str, Any] = {}
    for each in chosen:
        defaults |= getattr(each, "defaults", {})
    builder, method = chosen[0], chosen[-1]
    if getattr(builder, "columnar", False):
        defaults |= method.columnar_defaults
    trees = [getattr(each, "settings", {}) for each in chosen]
    return merge(config.SETTINGS, DATASET_SETTINGS, *trees), defaults


def resolve(overrides: Mapping[str, Any]) -> EasyDict:
    """Resolve settings; UserError for an unknown one, or one of another choice on the axes."""
    tree, defaults = declared(overrides)
    known = dict(walk(tree))
    for key in overrides:
        owners = [] if key in known else owners_of(key)
        if owners:
            owners = owners if len(owners) < 4 else [*owners[:3], "others"]
            chosen = [f"--{axis.flag} {overrides.get(axis.key, axis.default())}" for axis in AXES]
            raise UserError(
                f"setting {key} belongs to {' and '.join(owners)}; this is {' '.join(chosen)}"
            )
    cfg = load(overrides, tree, defaults=defaults)
    adopt_files(cfg)
    return cfg


def owners_of(key: str) -> list[str]:
    """Name the choices on the axes that declare a setting."""
    found = []
    for axis in AXES:
        for name in axis.registry:
            try:
                settings = getattr(find(axis.flag, name, axis.registry), "settings", {})
            except UserError:
                continue  # it needs a package that is not installed
            if key in dict(walk(settings)):
                found.append(f"--{axis.flag} {name}")
    return found


def resolve_stored(
    stored: Mapping[str, Any], overrides: Mapping[str, Any], origin: Path
) -> EasyDict:
    """Resolve the settings that a checkpoint or results, the file `origin`, hold, then `overrides`.

    Left out are a setting that this version no longer has, where it was switched off, and a root of
    datasets that is not there any more. UserError for other settings that are not known here,
    unless UNKNOWN_SETTINGS says to ignore them.
    """
    kept = {k: v for k, v in stored.items() if k not in REMOVED or v != REMOVED[k]}
    kept = {k: v for k, v in kept.items() if k not in ROOTS or not v or os.path.exists(v)}
    kept["DATASET.FILES"] = [f for f in kept.get("DATASET.FILES", []) if os.path.exists(f)]
    known = dict(walk(declared(kept)[0]))
    strange = [key for key in kept if key not in known]
    key = "UNKNOWN_SETTINGS"
    if (
        strange
        and convert(key, overrides.get(key, stored.get(key, "refuse")), known[key]) == "refuse"
    ):
        raise UserError(
            f"{origin} holds the setting {strange[0]} ({kept[strange[0]]}), which this version "
            f"does not know; take the version it was made with, or give {key} ignore to leave it "
            f"out (network.load: unknown_settings='ignore')"
        )
    return resolve({k: v for k, v in kept.items() if k in known} | overrides)


def open_run(name: Path, overrides: Mapping[str, Any]) -> tuple[EasyDict, dict[str, Any]]:
    """Read the checkpoint that a name means; return its settings, with `overrides`, and what it
    holds. UserError for one of the published code, which knows no settings."""
    path = checkpoint_path(name)
    state = load_checkpoint(path)
    if state.get("published"):
        raise UserError(
            f"{path} is of the published code and knows no settings; `train.py --init` makes a run "
            "of it, whose checkpoints do"
        )
    return resolve_stored(state["settings"], overrides, path), state


@memory_for("the network of these settings", "smaller widths (such as DECODER.CHANNELS) need less")
def build_method(cfg: EasyDict, state: dict[str, Any] | None = None) -> tuple[Method, LabelSpace]:
    """Build the method that the settings describe, and the label space it is trained in.

    With the `state` of a checkpoint its weights are loaded, and no pretrained ones are read. Those
    of training have to fit strictly, others have to fill the inference network.
    """
    stored = (state or {}).get("label_space")
    space = LabelSpace.restored(stored) if stored else label_space(cfg.DATASET.LABEL_SPACE)
    method = method_class(cfg.METHOD)(cfg, len(space), pretrained=state is None).train()
    if state is not None:
        load = load_network if state.get("network_only") else load_weights
        load(method, completed(method, cfg, state))
    return method, space


def initialise(method: Method, cfg: EasyDict) -> list[str]:
    """Fill the parts that INIT_PARTS names with the weights of the checkpoint INIT.

    Returns the names of those that keep their new weights because INIT_CLASSIFIER says so and their
    first axis counts other classes. UserError if it lacks one of their keys, has another shape, or
    if a name is no part.
    """
    known = [name for name, _ in method.named_children()]
    unknown = [part for part in cfg.INIT_PARTS if part not in known]
    if unknown:
        raise UserError(
            f"INIT_PARTS names {unknown[0]}, which is no part of this method "
            f"(parts: {', '.join(known)})"
        )
    try:
        state = load_checkpoint(checkpoint_path(cfg.INIT))
        weights = taken_over(method, cfg, state, cfg.INIT_PARTS)
        new = {
            name: own
            for name, own in method.state_dict().items()
            if cfg.INIT_CLASSIFIER == "new"
            and name.split(".")[0] in cfg.INIT_PARTS
            and name in weights
            and own.shape[:1] != weights[name].shape[:1]
            and own.shape[1:] == weights[name].shape[1:]
            and own.shape[0] - method.num_classes
            in (0, 1)  # mask classification has a class for no object
        }
        load_network(method, weights | new, cfg.INIT_PARTS)
    except UserError as error:
        raise UserError(
            f"--init {cfg.INIT}: {error}; INIT_PARTS says what is loaded, and INIT_CLASSIFIER new "
            "leaves out what has another number of classes"
        ) from error
    return list(new)


def load_network(
    method: Method, weights: dict[str, Tensor], parts: Sequence[str] | None = None
) -> None:
    """Load the named parts of a method, by default those of inference, which have to fit.

    Other parts (teachers, memories) are not touched.
    """
    if parts is None:
        parts = method.inference_parts
    children = dict(method.named_children())
    chosen = nn.ModuleDict({part: children[part] for part in parts})
    others = [part for part in children if part not in parts]
    load_weights(chosen, {k: v for k, v in weights.items() if k.split(".")[0] not in others})


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
