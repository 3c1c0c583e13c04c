"""Recipes: settings that runs share, and those of one method's runs, as a JSON file.

    {"settings": {"KEY": value, …}, "methods": {"srha": {"KEY": value, …}, …}}

A file without these parts holds the settings themselves, as the settings.json of a run does.
`$NAME` in a value is the environment variable of that name. A value `null` takes the setting of
what stands below it away.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError


class Recipe(NamedTuple):
    """Settings of all runs, and those of one method's runs."""

    settings: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}

    def of(self, method: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the settings {dotted key: value} of a method's runs, with `overrides` above them.

        UserError for an environment variable that is not set.
        """
        settings = self.settings | self.methods.get(method, {}) | (overrides or {})
        return {key: _expand(key, value) for key, value in settings.items() if value is not None}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; UserError for a file that is none."""
    content = read_object(path)
    if not content.keys() & set(Recipe._fields):
        content = {"settings": content}
    for part, value in content.items():
        if part not in Recipe._fields:
            raise UserError(f"{path}: {part} is no part of a recipe (settings, methods)")
        sections = [value, *value.values()] if part == "methods" else [value]
        if not all(isinstance(section, dict) for section in sections):
            raise UserError(f"{path}: {part} has to hold objects of settings")
    return Recipe(**content)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; UserError for another one."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror.lower()}") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} has to hold a JSON object")
    return content


def _expand(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise UserError(
            f"{key} is {value}, an environment variable that is not set; set it, or give {key}"
        )
    return expanded
