"""Checkpoints of the published SRHA and RobustNet code, recognised by their key names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

# First part of a published key → where it is here. Layer names and numbers below are the same.
PARTS = {f"layer{i}": f"trunk.layer{i}" for i in range(5)}
PARTS |= {part: f"decoder.{part}" for part in ("aspp", "bot_fine", "bot_aspp", "final1", "dsn")}
# The classifier is a sequence of one there.
CLASSIFIER = ("final2.0.", "decoder.classifier.")
# Of IBN-Net, at the ends of layers.
END_NORM = (".instance_norm_layer.", ".norm.")


def is_published(state: Mapping[str, Any]) -> bool:
    """Whether a loaded file holds the weights of the published code."""
    keys = _weights(state)
    return {"layer0", "aspp", "final2"} <= {key.split(".")[0] for key in keys}


def rename_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the weights of a published file to ours; keys without a counterpart stay."""
    converted = {}
    for key, value in _weights(state).items():
        first, _, rest = key.partition(".")
        if key.startswith(CLASSIFIER[0]):
            key = CLASSIFIER[1] + key.removeprefix(CLASSIFIER[0])
        elif first in PARTS:
            key = f"{PARTS[first]}.{rest}".replace(*END_NORM)
        converted[key] = value
    return converted


def _weights(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Unwrap `state_dict` and DDP's `module.`; empty if the file holds no weights by name."""
    weights = state.get("state_dict", state)
    if not isinstance(weights, Mapping):
        return {}
    return {str(key).removeprefix("module."): value for key, value in weights.items()}
