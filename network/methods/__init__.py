"""The registry of methods: name → "module:class". Adding a method is a file and a line here."""

from network.methods.method import Method
from utils.registry import find

METHODS = {
    "baseline": "network.methods.baseline:Baseline",
    "srha": "network.methods.srha:SRHA",
    "spc": "network.methods.spc:SPC",
}


def method_class(name: str) -> type[Method]:
    """Return a method's class by name; UserError for an unknown one."""
    return find("method", name, METHODS)
