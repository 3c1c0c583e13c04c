"""The registry of methods: name → "module:class". Adding a method is a file and a line here."""

from importlib import import_module

from network.methods.method import Method
from utils.errors import unknown_name

METHODS = {
    "baseline": "network.methods.baseline:Baseline",
    "srha": "network.methods.srha:SRHA",
    "spc": "network.methods.spc:SPC",
}


def method_class(name: str) -> type[Method]:
    """Return a method's class by name; UserError for an unknown one."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    module, attribute = METHODS[name].split(":")
    return getattr(import_module(module), attribute)
