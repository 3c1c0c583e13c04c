"""The registry of decoders: name → "module:class" (imported when asked for; some need extras)."""

from torch import nn

from utils.errors import UserError
from utils.registry import find

DECODERS = {
    "deeplabv3plus": "network.decoders.deeplabv3plus:DeepLabV3Plus",
    "mask2former": "network.decoders.mask2former:Mask2Former",
}


def decoder_class(name: str) -> type[nn.Module]:
    """Return a decoder's class by name; UserError for an unknown one."""
    return find("decoder", name, DECODERS)


def require_embedding(decoder: nn.Module, name: str, why: str) -> None:
    """Raise UserError if a decoder has no pixel embedding to work with, saying `why` it is needed.

    One that has gives it as `embed(features)` `[B, D, h, w]`, which ends in the replaceable module
    `projection`, scores it by the replaceable module `classifier`, a convolution with D inputs, and
    returns it in training as the `embedding` of its output.
    """
    missing = [part for part in ("embed", "projection", "classifier") if not hasattr(decoder, part)]
    if missing:
        raise UserError(
            f"{why}, and the decoder {name} has no {missing[0]}; choose --decoder deeplabv3plus"
        )
