"""The registry of decoders: name → "module:class" (imported when asked for; some need extras).

Adding a decoder is a file and a line here."""

from network.decoders.decoder import Decoder
from utils.registry import find

DECODERS = {
    "deeplabv3plus": "network.decoders.deeplabv3plus:DeepLabV3Plus",
    "deeplabv2": "network.decoders.deeplabv2:DeepLabV2",
    "daformer": "network.decoders.daformer:DAFormer",
    "plain": "network.decoders.plain:Plain",
    "linear": "network.decoders.plain:Linear",
    "mask2former": "network.decoders.mask2former:Mask2Former",
}


def decoder_class(name: str) -> type[Decoder]:
    """Return a decoder's class by name; UserError for an unknown one."""
    return find("decoder", name, DECODERS)
