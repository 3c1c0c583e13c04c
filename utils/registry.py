"""Registries: a name → "module:attribute", imported when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from utils.errors import unknown_name


def find(kind: str, name: str, registry: Mapping[str, str]) -> Any:
    """Return what `registry` holds under `name`; UserError, naming the `kind`, for another name."""
    if name not in registry:
        raise unknown_name(kind, name, registry)
    module, attribute = registry[name].split(":")
    return getattr(import_module(module), attribute)
