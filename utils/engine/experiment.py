"""Beginning and continuing an experiment: its folder, its settings, its checkpoint."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from easydict import EasyDict

import config
from datasets import load_settings
from network.build import AXES, resolve, resolve_stored
from network.checkpoint import LAST
from utils.engine.folder import LOCK, WRITER, writing_into
from utils.engine.saving import has_checkpoint, newest_checkpoint
from utils.errors import UserError
from utils.settings import flatten, walk

# What a start leaves that ends before its first checkpoint.
BEGINNINGS = (
    *("settings.json", "metrics", "events.out.tfevents", "nonfinite.json"),
    *(LAST + ".part", LOCK, WRITER),
)

# Settings that name what is in a checkpoint: another value is another experiment.
FIXED = (*(axis.key for axis in AXES), "DATASET.LABEL_SPACE", "DATASET.SOURCE")
LONGEST_NAME = 200  # bytes; file systems take 255, and files beside the folder have its name

# Settings that may differ between the machines of one run.
OF_A_MACHINE = re.compile(
    r"WORKERS|DATASET\.(ROOT|FILES|TARGET|WILD|.*_DIR)|TRUNK\.WEIGHTS|TEACHER\.WEIGHTS|INIT"
)


class Experiment(NamedTuple):
    """Resolved settings, the folder, and for one that is continued the checkpoint's content, path
    and a warning about it."""

    cfg: EasyDict
    folder: Path
    state: dict[str, Any] | None = None
    checkpoint: Path | None = None
    warning: str = ""


@contextmanager
def open_experiment(overrides: dict[str, Any], resume: str) -> Iterator[Experiment]:
    """Resolve the settings, decide where training starts, and hold the folder while it goes on.

    `resume` is "" for a new experiment, "yes" to continue its newest checkpoint, or "auto" to
    continue where there is a checkpoint and to start where there is none. UserError if a new one
    would overwrite something, if the checkpoint is of another network, or if the folder cannot be
    written to or another process writes into it.
    """
    cfg = resolve(overrides)
    folder = experiment_folder(cfg)
    with ExitStack() as stack:
        # The folder is held by one process for all of them.
        if int(os.environ.get("RANK", 0)) == 0:
            if resume == "yes" and not has_checkpoint(folder):
                raise UserError(f"no checkpoint {folder / LAST}")
            if not continues(folder, resume):
                refuse_existing(folder)  # before anything is written into what is not ours
            stack.enter_context(writing_into(folder))
        yield _begin_or_continue(cfg, folder, overrides, resume)


def continues(folder: Path, resume: str) -> bool:
    """Whether training goes on from a checkpoint of the folder."""
    return resume == "yes" or (resume == "auto" and has_checkpoint(folder))


def _begin_or_continue(
    cfg: EasyDict, folder: Path, overrides: dict[str, Any], resume: str
) -> Experiment:
    if continues(folder, resume):
        path, state, warning = newest_checkpoint(folder)
        _refuse_other_network(path, state["settings"], overrides)
        cfg = resolve_stored(state["settings"], overrides, path)
        if cfg.TRAIN.MAX_ITER < state["step"]:
            raise UserError(
                f"{path} has reached step {state['step']}, and TRAIN.MAX_ITER is "
                f"{cfg.TRAIN.MAX_ITER}; a run is continued to {state['step']} steps or more, or "
                "choose another name with --exp for a shorter one"
            )
        cfg.EXPERIMENT = folder.name
        return Experiment(cfg, folder, state, path, warning)
    if int(os.environ.get("RANK", 0)) == 0:
        refuse_existing(folder)
    cfg.EXPERIMENT = folder.name
    return Experiment(cfg, folder)


def refuse_other_settings(processes: Sequence[dict[str, Any]]) -> None:
    """Raise UserError if processes of one run resolved different settings {key: value}.

    Where files are, and how many processes read them, may differ between machines.
    """
    for key, value in processes[0].items():
        others = [own.get(key) for own in processes]
        if any(other != value for other in others) and not OF_A_MACHINE.fullmatch(key):
            raise UserError(
                f"the processes of this run were started with different settings: {key} is "
                f"{' and '.join(sorted({str(other) for other in others}))}; start all with the same"
            )


def experiment_folder(cfg: EasyDict) -> Path:
    """Return the folder of an experiment; its name defaults to its sources and its choices on the
    axes."""
    named = [axis for axis in AXES if axis.names or axis.chosen(cfg) != axis.default()]
    parts = ["+".join(cfg.DATASET.SOURCE), *(axis.chosen(cfg) for axis in named)]
    folder = Path(cfg.LOG.DIR) / (cfg.EXPERIMENT or "_".join(parts))
    if cfg.EXPERIMENT and {"/", ".", ".."} & {*Path(cfg.EXPERIMENT).parts, cfg.EXPERIMENT}:
        raise UserError(
            f"--exp {cfg.EXPERIMENT} is no name of a folder below LOG.DIR ({cfg.LOG.DIR}); set "
            "that for another place"
        )
    if len(folder.name.encode()) > LONGEST_NAME:
        raise UserError(
            f"the experiment's name {folder.name[:40]}… is too long for a folder; choose one of at "
            f"most {LONGEST_NAME} bytes with --exp"
        )
    return folder


def refuse_existing(folder: Path) -> None:
    """Raise UserError if an experiment folder holds more than a start leaves that ended before its
    first checkpoint, telling how to go on."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if all(name.startswith(BEGINNINGS) for name in names) and not has_checkpoint(folder):
        return
    way = "continue it with --resume or choose another name with --exp"
    if not has_checkpoint(folder):
        way = "it holds no checkpoint to continue from; remove it or choose another name with --exp"
    raise UserError(f"the experiment folder {folder} exists; {way}")


def _refuse_other_network(path: Path, own: dict[str, Any], overrides: dict[str, Any]) -> None:
    for key in FIXED:
        if key not in overrides:
            continue
        given, known = flatten(load_settings({key: overrides[key]}))[key], own.get(key)
        if known is None:  # a setting of later versions
            known = dict(walk(config.SETTINGS))[key].default
        if given != known:
            values = [" ".join(v) if isinstance(v, list) else v for v in (known, given)]
            raise UserError(
                f"{path} was trained with {key} {values[0]}, and --resume cannot continue it with "
                f"{values[1]}; --init starts a new run from its weights"
            )
