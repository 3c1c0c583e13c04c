"""The command lines: RobustNet's familiar flags, and KEY VALUE pairs for every other setting."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import config
import datasets
from network.build import AXES, declarations, declared
from utils.errors import UserError, unknown_name
from utils.recipes import read_recipe
from utils.settings import convert, describe, split, walk

# Flags that stand for a setting, beside those of the axes.
FLAGS = {
    "dataset": "DATASET.SOURCE",
    "val_dataset": "DATASET.VALIDATION",
    "exp": "EXPERIMENT",
    "init": "INIT",
    "protocol": "VALID.PROTOCOL",
    "scales": "VALID.SCALES",
    "flip": "VALID.FLIP",
    "sliding": "VALID.SLIDING",
    **{axis.flag: axis.key for axis in AXES},
}
# What a checkpoint of the published code does not know.
NETWORK = ("DATASET.SOURCE", *(axis.key for axis in AXES))


def command_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose help says that settings can be given too."""
    return argparse.ArgumentParser(
        description=description,
        usage="%(prog)s [flags] [KEY VALUE …]",
        epilog="Every setting can be given as KEY VALUE, such as TRAIN.MAX_ITER 40000 or "
        "DATASET.GTAV_DIR path. `python config.py` lists the settings with their defaults.",
        allow_abbrev=False,
    )


def read_settings(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parse a command line; return its flags, and settings by key: flags, pairs and recipe.

    UserError for a flag and a pair that disagree, and for names that no registry knows.
    """
    options, settings = split(parser, arguments)
    shared = dict(walk(config.SETTINGS))
    for flag, key in FLAGS.items():
        value = getattr(options, flag, None)
        if value is None:
            continue
        own = settings.setdefault(key, value)
        if convert(key, own, shared[key]) != convert(key, value, shared[key]):
            words = " ".join(value) if isinstance(value, list) else value
            raise UserError(f"--{flag} {words} and {key} {own} disagree; give one of them")
    if getattr(options, "recipe", None) is not None:
        recipe = read_recipe(Path(options.recipe))
        method = (recipe.settings | settings).get("METHOD", config.SETTINGS["METHOD"].default)
        settings = recipe.of(method, settings)
    for axis in AXES:
        if settings.get(axis.key, axis.default()) not in axis.registry:
            raise unknown_name(axis.flag, settings[axis.key], axis.registry)
    return options, settings


def part_network(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part settings into those that name a published checkpoint's network and the others."""
    network = {key: value for key, value in settings.items() if key in NETWORK}
    return network, {key: value for key, value in settings.items() if key not in NETWORK}


def parse_train(arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], str]:
    """Parse train.py's command line; return settings by key and `resume`: "", "yes", "auto"."""
    parser = command_parser("Train a segmentation network on source domains.")
    names = f"{', '.join(datasets.DATASETS)}, or a JSON file that describes one (docs/datasets.md)"
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help=names)
    add_validation_flag(parser)
    add_network_flags(parser)
    parser.add_argument("--exp", metavar="NAME", help="name of the experiment folder")
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        help="settings as JSON: of studies/recipes, or a run's settings.json",
    )
    parser.add_argument(
        "--init",
        metavar="PATH",
        help="start from trunk and decoder of an experiment folder or checkpoint, ours or one "
        "of the published code",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="yes",
        default="",
        choices=("yes", "auto"),
        help="continue the experiment from its last.pth; auto: or start it if there is none",
    )
    options, settings = read_settings(parser, arguments)
    return settings, options.resume


def add_validation_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the domains to evaluate."""
    parser.add_argument(
        "--val_dataset",
        nargs="+",
        metavar="NAME[:SPLIT]",
        help="domains to evaluate, names or JSON files; split val if none",
    )


def add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how predictions are made."""
    parser.add_argument("--scales", nargs="+", metavar="S", help="such as 0.5 1.0 2.0")
    parser.add_argument("--flip", action="store_const", const="true", help="and the mirror image")
    parser.add_argument("--sliding", nargs=2, metavar=("CROP", "STRIDE"), help="windows, pixels")


def add_network_flags(parser: argparse._ActionsContainer) -> None:
    """Add a flag for each axis."""
    for axis in AXES:
        parser.add_argument(f"--{axis.flag}", metavar="NAME", help=", ".join(axis.registry))


def add_published_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add a flag for each axis, for checkpoints that do not know their network."""
    group = parser.add_argument_group("only for checkpoints of the published code; others know")
    add_network_flags(group)
    return group


def print_settings() -> None:
    """Print every setting that datasets, a method and a decoder have (`python config.py`)."""
    parser = argparse.ArgumentParser(description="List the settings with defaults and meaning.")
    add_network_flags(parser)
    options = parser.parse_args()
    given = {axis.key: getattr(options, axis.flag) for axis in AXES}
    given = {key: name for key, name in given.items() if name is not None}
    chosen = declarations(given)
    defaults = declared(given)[1] | given
    sections = {"Shared": config.SETTINGS, "Datasets": datasets.SETTINGS}
    sections |= {each.__name__: getattr(each, "settings", {}) for each in chosen}
    for title, settings in sections.items():
        if settings:
            print(f"# {title}\n{describe(settings, defaults)}\n")
