"""The registry of methods: name → "module:class". Adding a method is a file and a line here."""

from network.methods.method import Method
from utils.registry import find

METHODS = {
    "baseline": "network.methods.baseline:Baseline",
    "srha": "network.methods.srha:SRHA",
    "spc": "network.methods.spc:SPC",
    "dacs": "network.methods.self_training:DACS",
    "daformer": "network.methods.self_training:DAFormer",
    "hrda": "network.methods.self_training:HRDA",
    "mic": "network.methods.self_training:MIC",
    "sepico": "network.methods.self_training:SePiCo",
    "ibn": "network.methods.ibn:IBN",
    "iw": "network.methods.whitening:IW",
    "irw": "network.methods.whitening:IRW",
    "isw": "network.methods.whitening:ISW",
    "shade": "network.methods.shade:SHADE",
    "mldg": "network.methods.mldg:MLDG",
    "wildnet": "network.methods.wildnet:WildNet",
    "san_saw": "network.methods.san_saw:SANSAW",
    "pinmem": "network.methods.pinmem:PinTheMem",
}


def method_class(name: str) -> type[Method]:
    """Return a method's class by name; UserError for an unknown one."""
    return find("method", name, METHODS)
