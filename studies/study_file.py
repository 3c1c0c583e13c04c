"""What a study file says: variants and a grid of settings × seeds, as a list of runs to make.

A study is a JSON object; all parts may be left out:

    {"title": "…", "about": "what is asked, and where the paper does",
     "settings": {"KEY": value},                     for all runs
     "start": {"KEY": value},                        a run for each seed that all others begin from
     "variants": {"name": {"KEY": value}, …},        named changes
     "grid": {"KEY": [value, …],                     a swept setting
              "axis": {"name": {"KEY": value}, …}},  named changes; each name has a table of its own
     "curves": ["row", …],                           rows that have learning curves; all by default
     "mean": ["domain", …],                          unseen domains that the mean is over, whatever
                                                     classes they count; by default those in the
                                                     network's own
     "costs": true}                                  columns of speed, memory, size at inference

Its runs are every variant at every point of the grid, for every seed. A recipe (utils/recipes.py)
is what studies share: data, network and budget.
"""

import hashlib
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from easydict import EasyDict

import config
from datasets import dataset_class
from network.build import resolve
from utils.compare.runs import plain_name
from utils.errors import UserError, unknown_name
from utils.recipes import Recipe, read_object
from utils.settings import flatten

METHOD = config.SETTINGS["METHOD"].default
PARTS = {"title": str, "about": str, "settings": dict, "start": dict, "variants": dict,
         "grid": dict, "curves": list, "mean": list, "costs": bool}  # fmt: skip
# In these, two runs may differ and still be one and the same run.
PLACES = re.compile(
    r"UNKNOWN_SETTINGS|EXPERIMENT|DEVICE|WORKERS|LOG\.DIR|DATASET\.(ROOT|CACHE_DIR|.*_DIR)"
)
# Settings of later versions → the value that runs of earlier ones had.
LATER = {"MATMUL_PRECISION": "highest", "STYLE_SHARE": 1.0, "SRM.AFTER_ELIMINATION": False}
LATER |= {"ALIGN.NORMALISED": False, "MASK.STATISTICS": True}


class Condition(NamedTuple):
    """A variant at a point {axis: value} of the grid, without seed, and all that it sets.

    `start` is what the run sets whose weights it begins from, if there is one; INIT then stands for
    the folder of that run, which has a seed.
    """

    variant: str
    point: dict[str, Any]
    settings: dict[str, Any]
    start: dict[str, Any] | None = None

    def named(self, axes: list[str]) -> str:
        """Name it by its variant and its place on `axes` of the grid."""
        places = [f"{axis} {pretty(self.point[axis])}" for axis in axes]
        return ", ".join([*filter(None, [self.variant]), *places])


class Study(NamedTuple):
    """A study as its file says it; `name` is the file's. `axes` are those of the grid, `tables`
    those among them whose points have tables of their own."""

    name: str
    title: str
    about: str
    axes: list[str]
    tables: list[str]
    curves: list[str]
    mean: list[str]
    costs: bool
    conditions: list[Condition]


def read_study(path: Path, recipe: Recipe, overrides: dict[str, Any]) -> Study:
    """Read a study; a condition's settings are the recipe's, the study's, its own, `overrides`.

    UserError for a file that is none, and for a setting or value that training would refuse.
    """
    content = read_object(path)
    for part, value in content.items():
        if part not in PARTS or not isinstance(value, PARTS[part]):
            raise UserError(f"{path}: {part} is no part of a study ({', '.join(PARTS)})")
    grid = content.get("grid", {})
    for axis, values in grid.items():
        if not isinstance(values, (list, dict)) or not values:
            raise UserError(f"{path}: grid {axis} has to be a list of values, or named settings")
    start = None
    if "start" in content:
        start, _ = _resolved(recipe, content["start"] | overrides, f"{path}, start")
    conditions = []
    for variant, changes in content.get("variants", {"": {}}).items():
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            own = content.get("settings", {}) | changes
            for axis, value in point.items():
                own |= grid[axis][value] if isinstance(grid[axis], dict) else {axis: value}
            own |= overrides
            condition = Condition(variant, point, own, start)
            where = f"{path}, {condition.named(list(grid))}"
            settings, cfg = _resolved(recipe, own, where)
            _check_mean(content.get("mean", []), cfg, where)
            if start is not None:
                settings["INIT"] = run_name(start, 0)
            conditions.append(condition._replace(settings=settings))
    return Study(
        path.stem,
        content.get("title", path.stem),
        content.get("about", ""),
        list(grid),
        [axis for axis, values in grid.items() if isinstance(values, dict)],
        content.get("curves", []),
        [plain_name(domain) for domain in content.get("mean", [])],
        content.get("costs", False),
        conditions,
    )


def _check_mean(domains: list[str], cfg: EasyDict, where: str) -> None:
    """Refuse a mean over what a condition is not evaluated on."""
    evaluated = [plain_name(domain) for domain in cfg.DATASET.VALIDATION]
    for domain in domains:
        if plain_name(domain) not in evaluated:
            raise UserError(f"{where}: mean: {unknown_name('evaluated domain', domain, evaluated)}")


def _resolved(recipe: Recipe, own: dict[str, Any], where: str) -> tuple[dict[str, Any], EasyDict]:
    """Return what a run sets, with the recipe, and all settings that it comes to; UserError that
    says `where` for what is refused."""
    method = own.get("METHOD", recipe.settings.get("METHOD", METHOD))
    try:
        settings = recipe.of(method, own)
        return settings, resolve(settings)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def run_name(settings: dict[str, Any], seed: int) -> str:
    """Return the experiment's name: method, a hash of all resolved settings but places, the seed.

    Conditions of several studies that come to the same settings are one run.
    """
    cfg = flatten(resolve(settings | {"SEED": 0}))
    source = dataset_class(cfg["DATASET.SOURCE"][0])
    cfg["DATASET.LABEL_SPACE"] = cfg["DATASET.LABEL_SPACE"] or source.label_space.name
    # What describes a dataset counts, not where it is.
    cfg["DATASET.FILES"] = [digest_of(Path(file).read_bytes()) for file in cfg["DATASET.FILES"]]
    own = {key: value for key, value in cfg.items() if not PLACES.fullmatch(key)}
    own = {key: value for key, value in own.items() if LATER.get(key) != value}
    digest = digest_of(json.dumps(own, sort_keys=True).encode())
    return f"{cfg['METHOD']}_{digest}_seed{seed}"


def digest_of(content: bytes) -> str:
    """Return the first ten digits of content's SHA-256."""
    return hashlib.sha256(content).hexdigest()[:10]


def words(settings: dict[str, Any]) -> list[str]:
    """Return settings as KEY VALUE words of a command line."""
    return [word for key, value in settings.items() for word in (key, shown(value))]


def shown(value: Any) -> str:
    """Show a value of a setting as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(shown, value)) if isinstance(value, list) else str(value)


def pretty(value: Any) -> str:
    """Show a swept value to readers: small powers of two as such."""
    if isinstance(value, float) and 0 < value < 0.1 and math.log2(value).is_integer():
        exponent = str(round(math.log2(value)))
        return "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}" if isinstance(value, float) else shown(value)
