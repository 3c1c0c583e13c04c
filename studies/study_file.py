"""What a study file says: variants and swept settings × seeds, as a list of runs to make.

A study is a JSON object:

    {"title": "…", "about": "what is asked, and where the paper does",
     "settings": {"KEY": value},                      for all runs (may be left out)
     "variants": {"name": {"KEY": value}, …},         named changes (may be left out)
     "grid": {"KEY": [value, …], …}}                  swept settings (may be left out)

Its runs are every variant at every point of the grid, for every seed. A recipe is what studies
share, data, network and budget: {"settings": {…}, "methods": {"srha": {…}, …}}, the latter for runs
of one method alone. `$NAME` in a value is the environment variable of that name.
"""

import hashlib
import itertools
import json
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import config
from datasets import dataset_class
from network.build import resolve
from utils.errors import UserError
from utils.settings import flatten

METHOD = config.SETTINGS["METHOD"].default
PARTS = {"title": str, "about": str, "settings": dict, "variants": dict, "grid": dict}
# In these, two runs may differ and still be one and the same run.
PLACES = re.compile(r"EXPERIMENT|DEVICE|WORKERS|LOG\.DIR|DATASET\.(ROOT|CACHE_DIR|.*_DIR)")


class Recipe(NamedTuple):
    """Settings of all runs, and those of one method's runs."""

    settings: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}

    def of(self, method: str) -> dict[str, Any]:
        """Return the settings of a method's runs."""
        return self.settings | self.methods.get(method, {})


class Cell(NamedTuple):
    """A variant at a point {key: value} of the grid, without seed; `settings` is all that it
    sets."""

    variant: str
    point: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.named(list(self.point))

    def named(self, keys: list[str]) -> str:
        """Name it by its variant and the swept settings `keys`."""
        swept = [f"{key} {pretty(self.point[key])}" for key in keys if key in self.point]
        return ", ".join([*filter(None, [self.variant]), *swept])


class Study(NamedTuple):
    """A study as its file says it; `name` is the file's."""

    name: str
    title: str
    about: str
    grid: dict[str, list[Any]]
    cells: list[Cell]


def read_study(path: Path, recipe: Recipe, overrides: dict[str, Any]) -> Study:
    """Read a study; each cell's settings are the recipe's, the study's, its own, then `overrides`.

    UserError for a file that is none, and for a setting or value that training would refuse.
    """
    content = _read(path)
    for part, value in content.items():
        if part not in PARTS or not isinstance(value, PARTS[part]):
            raise UserError(f"{path}: {part} is no part of a study ({', '.join(PARTS)})")
    variants = content.get("variants") or {"": {}}
    grid = content.get("grid", {})
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: grid {key} has to be a list of values")
    cells = []
    for variant, own in variants.items():
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            settings = content.get("settings", {}) | own | point | overrides
            settings = recipe.of(settings.get("METHOD", METHOD)) | settings
            settings = {key: _expand(value, path) for key, value in settings.items()}
            cell = Cell(variant, point, settings)
            try:
                resolve(settings)
            except UserError as error:
                raise UserError(f"{path}, {cell.name}: {error}") from None
            cells.append(cell)
    title = content.get("title", path.stem)
    return Study(path.stem, title, content.get("about", ""), grid, cells)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; UserError for a file that is none."""
    content = _read(path)
    unknown = content.keys() - {"settings", "methods"}
    if unknown:
        raise UserError(f"{path}: {min(unknown)} is no part of a recipe (settings, methods)")
    return Recipe(content.get("settings", {}), content.get("methods", {}))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror.lower()}") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} has to hold a JSON object")
    return content


def _expand(value: Any, path: Path) -> Any:
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise UserError(f"{path} needs the environment variable in {value}, which is not set")
    return expanded


def run_name(settings: dict[str, Any], seed: int) -> str:
    """Return the experiment's name: method, a hash of all resolved settings but places, the seed.

    Cells of several studies that come to the same settings are one run.
    """
    cfg = flatten(resolve(settings | {"SEED": 0}))
    source = dataset_class(cfg["DATASET.SOURCE"][0])
    cfg["DATASET.LABEL_SPACE"] = cfg["DATASET.LABEL_SPACE"] or source.label_space.name
    own = {key: value for key, value in cfg.items() if not PLACES.fullmatch(key)}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:10]
    return f"{cfg['METHOD']}_{digest}_seed{seed}"


def words(settings: dict[str, Any]) -> list[str]:
    """Return settings as KEY VALUE words of a command line."""
    return [word for key, value in settings.items() for word in (key, shown(value, ","))]


def shown(value: Any, comma: str = ", ") -> str:
    """Show a value of a setting as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return comma.join(shown(item, comma) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def pretty(value: Any) -> str:
    """Show a swept value to readers: small powers of two as such."""
    if isinstance(value, float) and 0 < value < 0.1 and math.log2(value).is_integer():
        exponent = str(round(math.log2(value)))
        return "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}" if isinstance(value, float) else shown(value)
