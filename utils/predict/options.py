"""The command line of predict.py."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from utils.engine.command_line import (
    add_prediction_flags,
    add_published_flags,
    command_parser,
    part_network,
    read_settings,
)
from utils.predict.rendering import KINDS


class PredictOptions(NamedTuple):
    """`kinds` is empty where none were named; `network` names what a published checkpoint does not
    know."""

    snapshot: str
    inputs: list[str]
    out: str
    kinds: list[str]
    network: dict[str, Any]
    settings: dict[str, Any]


def parse_predict(arguments: Sequence[str] | None = None) -> PredictOptions:
    """Parse predict.py's command line."""
    parser = command_parser("Segment images, folders of images and videos.")
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
    add_prediction_flags(parser)
    add_published_flags(parser)
    options, settings = read_settings(parser, arguments)
    chosen = (options.snapshot, options.input, options.out, options.write)
    return PredictOptions(*chosen, *part_network(settings))
