"""What valid.py has to do: checkpoints, each with its settings, domains and folder for results."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from easydict import EasyDict

from datasets.dataset import SegmentationDataset
from network.build import AXES, build_method, resolve_stored
from network.checkpoint import BEST, checkpoint_path, file_hash, load_checkpoint
from transforms.protocols import PROTOCOLS
from utils.engine.command_line import (
    add_prediction_flags,
    add_published_flags,
    add_validation_flag,
    command_parser,
    part_network,
    read_settings,
)
from utils.engine.selection import Best
from utils.errors import UserError
from utils.evaluate.evaluation import describe_protocol, open_domain


class ValidOptions(NamedTuple):
    """valid.py's command line; `network` names what a published checkpoint does not know."""

    snapshots: list[str]
    out: str | None
    network: dict[str, Any]
    settings: dict[str, Any]


def parse_valid(arguments: Sequence[str] | None = None) -> ValidOptions:
    """Parse valid.py's command line."""
    parser = command_parser("Evaluate checkpoints on any number of domains.")
    parser.add_argument(
        "--snapshot",
        nargs="+",
        required=True,
        metavar="PATH",
        help="checkpoints to evaluate: files, or experiment folders for their last.pth",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the results, of several checkpoints a folder in it for each (default: "
        "valid, beside the checkpoint)",
    )
    add_validation_flag(parser)
    parser.add_argument("--protocol", metavar="NAME", help=", ".join(PROTOCOLS))
    add_prediction_flags(parser)
    published = add_published_flags(parser)
    published.add_argument("--dataset", nargs="+", metavar="NAME", help="what it was trained on")
    options, settings = read_settings(parser, arguments)
    return ValidOptions(options.snapshot, options.out, *part_network(settings))


class Job(NamedTuple):
    """A checkpoint to evaluate. `stamp` tells the results which file they are of."""

    path: Path
    cfg: EasyDict
    domains: dict[str, SegmentationDataset]
    folder: Path
    stamp: dict[str, Any]


def open_jobs(options: ValidOptions) -> list[Job]:
    """Read every checkpoint once, to be sure that all can be evaluated, and open their domains.

    UserError for one that is missing, damaged or does not fit its settings, one that is given
    twice, one without domains, and for several that would be evaluated in different ways.
    """
    paths = [checkpoint_path(name) for name in options.snapshots]
    repeated = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if repeated:
        raise UserError(f"--snapshot names {repeated[0]} twice")
    jobs = [_open(path, options) for path in paths]
    for job in jobs[1:]:
        _refuse_incomparable(jobs[0], job)
    folders = _folders(jobs, options.out)
    return [job._replace(folder=folder) for job, folder in zip(jobs, folders, strict=True)]


def open_checkpoint(path: Path, network: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint; one of the published code, which knows no settings, gets those that name
    its `network`."""
    state = load_checkpoint(path)
    if state.get("published"):
        unknown = {"DATASET.LABEL_SPACE": "cityscapes19", "DATASET.SOURCE": []}
        state["settings"] = unknown | network
        return state
    for axis in AXES:
        given = network.get(axis.key)
        if given not in (None, state["settings"].get(axis.key, axis.default())):
            print(
                f"note: --{axis.flag} {given} is not used; {path} knows its network, which has "
                f"{state['settings'].get(axis.key, axis.default())}",
                file=sys.stderr,
            )
    return state


def _open(path: Path, options: ValidOptions) -> Job:
    state = open_checkpoint(path, options.network)
    cfg = resolve_stored(state["settings"], options.settings, path)
    if not cfg.DATASET.VALIDATION:
        raise UserError("no domain to evaluate on; name some with --val_dataset")
    try:
        _, space = build_method(cfg, state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    domains = {name: open_domain(name, cfg, space) for name in cfg.DATASET.VALIDATION}
    stamp: dict[str, Any] = {"checkpoint": path.name, "checkpoint_sha256": file_hash(path)}
    if path.name == BEST and not state.get("published"):
        asked = {k: v for k, v in options.settings.items() if k == "UNKNOWN_SETTINGS"}
        choice = Best(resolve_stored(state["settings"], asked, path))
        stamp["chosen_by"] = {"domain": choice.domain, "oracle": choice.oracle}
    return Job(path, cfg, domains, Path(), stamp)


def _refuse_incomparable(first: Job, other: Job) -> None:
    """Raise UserError if numbers of two checkpoints would not belong in one column."""
    protocols = [describe_protocol(job.cfg) for job in (first, other)]
    if protocols[0] != protocols[1]:
        raise UserError(
            f"{first.path} would be evaluated with the protocol {protocols[0]!r} and {other.path} "
            f"with {protocols[1]!r}; name one with --protocol, --scales, --flip, --sliding"
        )
    for name in first.domains.keys() & other.domains.keys():
        kinds = [
            (job.domains[name].label_space.name, job.domains[name].label_map)
            for job in (first, other)
        ]
        files = [job.domains[name].image_paths for job in (first, other)]
        if kinds[0] != kinds[1] or files[0] != files[1]:
            raise UserError(
                f"{first.path} and {other.path} would be evaluated on {name} with other labels or "
                f"files ({', '.join(kinds[0])}, {len(files[0])} images; {', '.join(kinds[1])}, "
                f"{len(files[1])} images); evaluate them one by one"
            )


def _folders(jobs: list[Job], out: str | None) -> list[Path]:
    """Return a folder for the results of each job.

    One checkpoint: `out`, or `valid` beside it. Several: `out`/EXPERIMENT_FILE, numbered where that
    occurs again, or `valid` beside each, and valid_FILE where checkpoints share a folder.
    """
    if out and len(jobs) == 1:
        return [Path(out)]
    if not out:
        shared = Counter(job.path.parent.resolve() for job in jobs)
        stems = Counter((job.path.parent.resolve(), job.path.stem) for job in jobs)
        names = []
        for job in jobs:
            place, name = job.path.parent.resolve(), job.path.stem
            if stems[place, name] > 1:  # last.pth and last.safetensors
                name = job.path.name.replace(".", "_")
            names.append(f"valid_{name}" if shared[place] > 1 else "valid")
        return [job.path.parent / name for job, name in zip(jobs, names, strict=True)]
    folders: list[Path] = []
    for job in jobs:
        experiment = job.cfg.EXPERIMENT or job.path.resolve().parent.name
        name = f"{experiment}_{job.path.stem}"
        candidates = (Path(out) / (name if n == 1 else f"{name}_{n}") for n in range(1, 1 << 20))
        folders.append(next(folder for folder in candidates if folder not in folders))
    return folders
