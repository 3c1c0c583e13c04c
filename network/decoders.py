"""The registry of decoders: name → "module:class" (imported when asked for; some need extras)."""

from importlib import import_module

from torch import nn

from utils.errors import unknown_name

DECODERS = {
    "deeplabv3plus": "network.deeplabv3plus:DeepLabV3Plus",
    "mask2former": "network.mask2former:Mask2Former",
}


def decoder_class(name: str) -> type[nn.Module]:
    """Return a decoder's class by name; UserError for an unknown one."""
    if name not in DECODERS:
        raise unknown_name("decoder", name, DECODERS)
    module, attribute = DECODERS[name].split(":")
    return getattr(import_module(module), attribute)
