"""The command lines: RobustNet's familiar flags, and KEY VALUE pairs for every other setting."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import config
from datasets import DATASETS
from network.decoders import DECODERS, decoder_class
from network.methods import METHODS, method_class
from network.trunks.torchvision import TRUNKS
from transforms.protocols import PROTOCOLS
from utils.errors import UserError
from utils.predict.rendering import KINDS

# Flags that stand for a setting.
FLAGS = {
    "dataset": "DATASET.SOURCE",
    "val_dataset": "DATASET.VALIDATION",
    "method": "METHOD",
    "trunk": "TRUNK.NAME",
    "decoder": "DECODER.NAME",
    "exp": "EXPERIMENT",
    "init": "INIT",
    "protocol": "VALID.PROTOCOL",
    "scales": "VALID.SCALES",
    "flip": "VALID.FLIP",
    "sliding": "VALID.SLIDING",
}


def parse_train(arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], str]:
    """Parse train.py's command line; return setting overrides and `resume`: "", "yes", "auto"."""
    parser = _parser("Train a segmentation network on source domains.")
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help=", ".join(DATASETS))
    _add_validation_flag(parser)
    _add_network_flags(parser)
    parser.add_argument("--exp", metavar="NAME", help="name of the experiment folder")
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="start from trunk and decoder of a checkpoint, ours or of the published code",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="yes",
        default="",
        choices=("yes", "auto"),
        help="continue the experiment from its last.pth; auto: or start it if there is none",
    )
    options, pairs = _split(parser, arguments)
    return _overrides(options, pairs), options.resume


class ValidOptions(NamedTuple):
    """valid.py's command line: `network` names what a published checkpoint does not know."""

    snapshots: list[str]
    out: str | None
    network: dict[str, Any]
    overrides: dict[str, Any]


def parse_valid(arguments: Sequence[str] | None = None) -> ValidOptions:
    """Parse valid.py's command line."""
    parser = _parser("Judge checkpoints on any number of domains.")
    parser.add_argument(
        "--snapshot",
        nargs="+",
        required=True,
        metavar="PATH",
        help="checkpoints to judge: files, or experiment folders for their last.pth",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the results, of several checkpoints a folder in it for each (default: "
        "valid, beside the checkpoint)",
    )
    _add_validation_flag(parser)
    parser.add_argument("--protocol", metavar="NAME", help=", ".join(PROTOCOLS))
    _add_prediction_flags(parser)
    published = parser.add_argument_group("only for checkpoints of the published code; others know")
    published.add_argument("--dataset", nargs="+", metavar="NAME", help="what it was trained on")
    _add_network_flags(published)
    options, pairs = _split(parser, arguments)
    network, overrides = _part_network(_overrides(options, pairs))
    return ValidOptions(options.snapshot, options.out, network, overrides)


class PredictOptions(NamedTuple):
    """predict.py's command line; `kinds` is empty where none were named."""

    snapshot: str
    inputs: list[str]
    out: str
    kinds: list[str]
    network: dict[str, Any]
    overrides: dict[str, Any]


def parse_predict(arguments: Sequence[str] | None = None) -> PredictOptions:
    """Parse predict.py's command line."""
    parser = _parser("Segment images, folders of images and videos.")
    parser.add_argument(
        "--snapshot", required=True, metavar="PATH", help="checkpoint, experiment folder or export"
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="images, videos, folders (searched to the bottom) or quoted patterns ('in/**/*.jpg')",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the predictions")
    parser.add_argument(
        "--write",
        nargs="+",
        default=[],
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default: all of them)",
    )
    _add_prediction_flags(parser)
    published = parser.add_argument_group("only for checkpoints of the published code; others know")
    _add_network_flags(published)
    options, pairs = _split(parser, arguments)
    network, overrides = _part_network(_overrides(options, pairs))
    return PredictOptions(
        options.snapshot, options.input, options.out, options.write, network, overrides
    )


class StudyOptions(NamedTuple):
    """studies's command line; `listed`: say what there is to do, and do nothing."""

    studies: list[str]
    recipe: str | None
    seeds: list[int]
    jobs: int
    out: str
    results: str | None
    listed: bool
    overrides: dict[str, Any]


def parse_study(arguments: Sequence[str] | None = None) -> StudyOptions:
    """Parse studies's command line."""
    parser = _parser("Run studies and write their tables and charts.")
    parser.add_argument("studies", nargs="+", metavar="FILE", help="studies (studies/*.json)")
    parser.add_argument("--recipe", metavar="FILE", help="settings of all runs, a JSON object")
    parser.add_argument("--seeds", nargs="+", type=int, default=[304, 305, 306], metavar="N")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", default="logs/studies", metavar="DIR")
    parser.add_argument(
        "--results", metavar="DIR", help="folder of tables and charts (default: that of --out)"
    )
    parser.add_argument("--list", action="store_true", help="only list the runs that are missing")
    options, pairs = _split(parser, arguments)
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least 1")
    return StudyOptions(
        options.studies,
        options.recipe,
        options.seeds,
        options.jobs,
        options.out,
        options.results,
        options.list,
        _overrides(options, pairs),
    )


def _part_network(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part settings that name a published checkpoint's network from the others."""
    keys = [FLAGS[flag] for flag in ("dataset", "method", "trunk", "decoder")]
    network = {key: overrides.pop(key) for key in keys if key in overrides}
    return network, overrides


def _parser(description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description,
        usage="%(prog)s [flags] [KEY VALUE …]",
        epilog="Every setting can be given as KEY VALUE, such as TRAIN.MAX_ITER 40000 or "
        "DATASET.GTAV_DIR path. `python config.py` lists the settings with their defaults.",
        allow_abbrev=False,
    )


def _add_validation_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--val_dataset",
        nargs="+",
        metavar="NAME[:SPLIT]",
        help="domains to judge; split val if none",
    )


def _add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scales", nargs="+", metavar="S", help="such as 0.5 1.0 2.0")
    parser.add_argument("--flip", action="store_const", const="true", help="and the mirror image")
    parser.add_argument("--sliding", nargs=2, metavar=("CROP", "STRIDE"), help="windows, pixels")


def _add_network_flags(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--method", metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--trunk", metavar="NAME", help=", ".join(TRUNKS))
    parser.add_argument("--decoder", metavar="NAME", help=", ".join(DECODERS))


def _split(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Part a command line into flags, which argparse reads, and KEY VALUE pairs.

    A key is a word in capitals that does not stand right behind a flag, so pairs may come anywhere,
    also behind a flag that takes a list (`--dataset gtav TRAIN.MAX_ITER 5`).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags: list[str] = []
    pairs: list[str] = []
    while words:
        word = words.pop(0)
        last = flags[-1] if flags else ""
        after_flag = (
            last.startswith("--")
            and "=" not in last
            and last not in ("--resume", "--flip", "--list")
        )
        if re.fullmatch(r"[A-Z][A-Z0-9_.]*", word) and not after_flag:
            pairs += [word, *words[:1]]
            words = words[1:]
        else:
            flags.append(word)
    options, unknown = parser.parse_known_args(flags)
    if unknown:
        raise UserError(
            f"unknown option {unknown[0]}; settings are KEY VALUE pairs with the key in capitals, "
            "and --help lists the flags"
        )
    return options, pairs


def _overrides(options: argparse.Namespace, pairs: list[str]) -> dict[str, Any]:
    overrides = config.parse_pairs(pairs)
    for flag, key in FLAGS.items():
        value = getattr(options, flag, None)
        if value is not None:
            overrides[key] = value
    return overrides


def print_settings() -> None:
    """Print every setting that a method and a decoder have (`python config.py`)."""
    parser = argparse.ArgumentParser(description="List the settings with defaults and meaning.")
    parser.add_argument("--method", default="srha", help=", ".join(METHODS))
    parser.add_argument("--decoder", default="deeplabv3plus", help=", ".join(DECODERS))
    options = parser.parse_args()
    defaults = decoder_class(options.decoder).defaults | method_class(options.method).defaults
    sections = {
        "Shared": config.SETTINGS,
        f"Method {options.method}": method_class(options.method).settings,
        f"Decoder {options.decoder}": decoder_class(options.decoder).settings,
    }
    for title, settings in sections.items():
        if settings:
            print(f"# {title}\n{config.describe(settings, defaults)}\n")
