"""The command line of studies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from utils.engine.command_line import command_parser, read_settings
from utils.errors import UserError


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
    parser = command_parser("Run studies and write their tables and charts.")
    parser.add_argument("studies", nargs="+", metavar="FILE", help="studies (studies/*.json)")
    parser.add_argument("--recipe", metavar="FILE", help="settings of all runs, a JSON object")
    parser.add_argument("--seeds", nargs="+", type=int, default=[304, 305, 306], metavar="N")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", default="logs/studies", metavar="DIR")
    parser.add_argument(
        "--results", metavar="DIR", help="folder of tables and charts (default: that of --out)"
    )
    parser.add_argument("--list", action="store_true", help="only list the runs that are missing")
    options, settings = read_settings(parser, arguments)
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
        settings,
    )
