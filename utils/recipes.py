"""Recipes: settings that many runs share, as JSON files."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError


class Recipe(NamedTuple):
    """Settings of all runs, and further ones for the runs of one method."""

    settings: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}

    def of(self, method: str) -> dict[str, Any]:
        """Return the settings of a method's runs."""
        return self.settings | self.methods.get(method, {})


def read_recipe(path: Path) -> Recipe:
    """Read {"settings": {KEY: value}, "methods": {name: {KEY: value}}}; UserError for another
    content."""
    content = read_object(path)
    unknown = content.keys() - {"settings", "methods"}
    if unknown:
        raise UserError(f"{path}: {min(unknown)} is no part of a recipe (settings, methods)")
    return Recipe(content.get("settings", {}), content.get("methods", {}))


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object; UserError for another one."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror.lower()}") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} has to hold a JSON object")
    return content
