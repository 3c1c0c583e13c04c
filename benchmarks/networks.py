"""Small networks of everything that the registries hold, as it declares itself.

For the check of a GPU and for tests: a method, decoder, trunk or tuning is in both by its line in a
registry.
"""

from collections.abc import Mapping
from typing import Any

import torch
from easydict import EasyDict

from network.build import DECODER, METHOD, TUNING
from network.decoders import DECODERS, decoder_class
from network.decoders.decoder import LogitDecoder
from network.methods import METHODS, method_class
from network.trunks import TRUNKS
from network.tuning import TUNINGS, tuning_class

# Random weights.
SMALL = {"TRUNK.NAME": "resnet_mini", "TRUNK.WEIGHTS": "none", "VALID.PROTOCOL": "native"}
SOURCES = ["gtav", "synthia", "cityscapes"]
# One trunk of each builder: its others differ in size.
FAMILIES = list({builder: name for name, builder in reversed(TRUNKS.items())}.values())
MINIS = ("dinov2_mini", "convnext_mini")


def small(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the small settings that the choices on the axes in `names` declare, a trunk that the
    method works with, and as many sources as it needs, if it needs several."""
    method = method_class(names.get(METHOD.key, METHOD.default()))
    decoder = decoder_class(names.get(DECODER.key, DECODER.default()))
    tuning = tuning_class(names.get(TUNING.key, TUNING.default()))
    found = SMALL | decoder.small | method.small | tuning.small
    if method.trunks and SMALL["TRUNK.NAME"] not in method.trunks:
        found["TRUNK.NAME"] = method.trunks[0]
    if method.least_sources > 1:
        found["DATASET.SOURCE"] = SOURCES[: method.least_sources]
    return found


def fits(method: str, decoder: str) -> bool:
    """Whether a method finds in a decoder what it needs."""
    own, other = method_class(method), decoder_class(decoder)
    has = not own.needs or hasattr(other, own.needs)
    return has and (issubclass(other, LogitDecoder) or "HRDA.DETAIL" not in own.defaults)


def takes(method: str, trunk: str) -> bool:
    """Whether a method works with a trunk."""
    return trunk in (method_class(method).trunks or (trunk,))


def tuned_networks() -> list[tuple[str, str, str, str]]:
    """Every method that works with the mini transformer and ConvNeXt, with every tuning: method,
    decoder, trunk, tuning. The baseline has Mask2Former, which takes Rein's queries."""
    found = []
    for trunk in MINIS:
        for method in METHODS:
            if takes(method, trunk):
                decoder = next(d for d in ("plain", "deeplabv3plus") if fits(method, d))
                decoder = "mask2former" if method == "baseline" else decoder
                found += [(method, decoder, trunk, tuning) for tuning in TUNINGS]
    return found


def networks() -> list[tuple[str, str, str, str]]:
    """Every method with a trunk of each family that it works with, every decoder once, and all
    `tuned_networks`: method, decoder, trunk, tuning."""
    found = [("baseline", decoder, "resnet_mini", "full") for decoder in DECODERS]
    for trunk in FAMILIES:
        for method in METHODS:
            if takes(method, trunk):
                found.append((method, "deeplabv3plus", trunk, "full"))
    return list(dict.fromkeys(found + tuned_networks()))


def batch_for(cfg: EasyDict, side: int = 64) -> dict[str, Any]:
    """Return a batch of four random images of `side` pixels of the sources in turn, with five
    classes and some void, and of as many images without labels."""
    number = len(cfg.DATASET.SOURCE)
    labels = torch.randint(0, 5, (4, side // 8, side // 8))
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :8, :8] = 255
    return {"image": torch.randn(4, 3, side, side), "label": labels, "index": torch.arange(4),
            "domain": torch.arange(4) % number, "step": 0,
            "rate": dict.fromkeys(("trunk", "decoder", "other"), 0.01),
            **{name: {"image": torch.randn(4, 3, side, side), "index": torch.arange(4)}
               for name in ("target", "wild")}}  # fmt: skip
