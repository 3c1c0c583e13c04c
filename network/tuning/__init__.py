"""The registry of tunings: what is trained of a trunk; name → "module:class".

Methods know nothing of them. Adding a tuning is a file and a line here."""

from collections.abc import Sequence
from typing import Any

from easydict import EasyDict

from network.trunks import TRUNKS, build_trunk
from network.trunks.trunk import Trunk
from network.tuning.tuning import Tuning
from utils.registry import find
from utils.settings import walk

TUNINGS = {
    "full": "network.tuning.tuning:Full",
    "frozen": "network.tuning.tuning:Frozen",
    "lora": "network.tuning.low_rank:LoRA",
    "soma": "network.tuning.low_rank:SoMA",
    "rein": "network.tuning.rein:Rein",
}


def tuning_class(name: str) -> type[Tuning]:
    """Return a tuning by name; UserError for an unknown one."""
    return find("tuning", name, TUNINGS)


def tuned_trunk(cfg: EasyDict, pretrained: bool) -> Trunk:
    """Build the trunk of the settings, with what is trained of it; without `pretrained` no weights
    are read."""
    trunk = plain_trunk(cfg, cfg.TRUNK.RECOMPUTE, pretrained)
    own = [p for name, p in trunk.named_parameters() if name not in trunk.converted]
    tuning_class(cfg.TRUNK.TUNING).apply(trunk, cfg, fresh=pretrained)
    if trunk.keeps_weights and pretrained and cfg.TRUNK.WEIGHTS != "none":
        trunk.in_file = own
    return trunk.train()


def plain_trunk(
    cfg: EasyDict,
    recompute: Sequence[bool] = (False,) * 4,
    pretrained: bool = True,
    name: str = "",
    weights: str = "",
) -> Trunk:
    """Build the trunk of the settings, or another one, as pretrained; one of another family has its
    own default output stride, if it has any, and options."""
    name, stride = name or cfg.TRUNK.NAME, cfg.TRUNK.OUTPUT_STRIDE
    builder = find("trunk", name, TRUNKS)
    options: dict[str, Any] = {}
    if builder is not find("trunk", cfg.TRUNK.NAME, TRUNKS):
        stride = getattr(builder, "defaults", {}).get("TRUNK.OUTPUT_STRIDE", stride)
    else:
        keys = [key.partition(".")[2] for key, _ in walk(getattr(builder, "settings", {}))]
        options = {key.lower(): cfg.TRUNK[key] for key in keys}
    weights = (weights or cfg.TRUNK.WEIGHTS) if pretrained else "none"
    return build_trunk(name, stride, weights, recompute, **options)
