"""Which networks the tests of the contracts build: what the registries hold, as it declares itself.

A method, a decoder or a trunk is tested everywhere by its line in a registry.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.networks import fits, tuned_networks
from network.build import TRUNK, resolve
from network.decoders import DECODERS
from network.methods import METHODS, method_class
from network.trunks import build_trunk


def losses_of(method: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The losses of a pass; those of several graphs together. Where a method takes sources apart,
    there are two images of each, because decoders normalise over those that they see at once."""
    if method.splits_sources and len(batch["domain"]) == 2:
        batch = dict(batch)
        for name in ("image", "label", "domain"):
            other = batch[name] if name == "domain" else batch[name].flip(-1)
            batch[name] = torch.cat([batch[name], other])
    found = method(batch)
    if isinstance(found, dict):
        return found
    return {name: loss for graph in found for name, loss in graph.items()}


def transformer_file(path: Path) -> Path:
    """Write random weights of "dinov2_mini" as Meta has them, with patches of 14 pixels."""
    torch.manual_seed(5)
    found = {}
    for key, value in build_trunk("dinov2_mini", 16, "none").state_dict().items():
        own = key.partition(".")[2]
        if own.startswith("proj."):
            own = f"patch_embed.{own}"
        elif own[0].isdigit():
            own = f"blocks.{own}"
        found[own] = value
    found["patch_embed.proj.weight"] = found["patch_embed.proj.weight"][..., 1:-1, 1:-1]
    torch.save(found, path)
    return path


def output_stride(trunk: str) -> int:
    """The output stride that a trunk has where none is given."""
    return resolve({TRUNK.key: trunk}).TRUNK.OUTPUT_STRIDE


# Their logits have the trunk's stride, and a crop of tests is no multiple of twice that.
COARSE = ("deeplabv2", "linear")


def _steps() -> list[str]:
    first: dict[type, str] = {}
    for method in METHODS:
        code = next(c for c in method_class(method).__mro__ if "training_losses" in vars(c))
        first.setdefault(code, method)
    return list(first.values())


def _pairs() -> list[tuple[str, str]]:
    pairs = []
    for i, method in enumerate(METHODS):
        own = [(method, decoder) for decoder in DECODERS if fits(method, decoder)]
        if "HRDA.DETAIL" in method_class(method).defaults:
            own = [pair for pair in own if pair[1] not in COARSE]
        pairs += own if method in STEPS else [own[i % len(own)]]
    return pairs


# Methods with a step of their own; others differ from one of these in defaults alone.
STEPS = _steps()
# These have every decoder, others have one.
PAIRS = _pairs()
REFUSED = [(m, d) for m in METHODS for d in DECODERS if not fits(m, d)]


# The second one's step runs all the code of the first one's.
CONTAINED = {
    "ibn": "baseline",
    "irw": "iw",
    "dacs": "mic",
    "daformer": "mic",
    "hrda": "mic",
    "mldg": "pinmem",
}


def _covering() -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    for method, decoder in PAIRS:
        if method not in CONTAINED:
            first.setdefault(method, decoder)
    pairs = list(first.items())
    for i, decoder in enumerate(DECODERS):
        own = [pair for pair in PAIRS if pair[1] == decoder and pair[0] not in CONTAINED]
        if own and decoder not in first.values():
            pairs.append(own[i % len(own)])
    return pairs


# For what takes seconds: each method that is not contained in another with the first decoder that
# fits, each decoder with a method.
COVERING = _covering()


def some_tuned(*chosen: tuple[str, str, str, str]) -> list[Any]:
    """Those `chosen`, and all others for `-m whole`, which takes an hour."""
    others = [network for network in tuned_networks() if network not in chosen]
    return [*chosen, *(pytest.param(*each, marks=pytest.mark.whole) for each in others)]
