"""Segment images, folders of images and videos with a trained network.

    python predict.py --snapshot logs/my_run/last.pth --input photos drive.mp4 --out predictions
    python predict.py --snapshot network.safetensors --input 'in/**/*.jpg' --out out --write overlay

Writes a folder for each kind of picture (train_ids, city_ids, colour, overlay, confidence) with the
folders of the input below it. The same command continues where it was cut off. What cannot be read
is named and skipped, and the exit code is then 3 (docs/running.md).
"""

if __name__ == "__main__":
    from utils.early import exit_on_signals

    exit_on_signals()

import argparse
import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from easydict import EasyDict

from datasets.label_spaces import LabelSpace
from network.build import build_method, resolve_stored
from network.checkpoint import checkpoint_path, file_hash
from utils.engine.command_line import (
    add_prediction_flags,
    add_published_flags,
    command_parser,
    part_network,
    read_settings,
)
from utils.engine.failures import cannot_write
from utils.engine.folder import writing_into
from utils.engine.runtime import open_runtime
from utils.engine.saving import write_atomically, write_list
from utils.errors import UserError, run_script
from utils.evaluate.evaluation import describe_protocol
from utils.evaluate.jobs import open_checkpoint
from utils.predict.inputs import find_inputs
from utils.predict.predictor import Predictor, Tally
from utils.predict.record import NOTE, join_records
from utils.predict.rendering import CONTINUES, KINDS, choose_kinds
from utils.predict.video import library
from utils.processes import barrier

SKIPPED = 3  # exit code: all but what cannot be read is written


def main() -> None:
    """Find network and inputs, predict what is missing, say what became of all of them."""
    options, settings = read_settings(command_line())
    network, settings = part_network(settings)
    if settings.get("VALID.PROTOCOL", "native") != "native":
        raise UserError("VALID.PROTOCOL: predictions are made at each image's own size (native)")
    checkpoint = checkpoint_path(options.snapshot)
    state = open_checkpoint(checkpoint, network)
    own = settings | {"VALID.PROTOCOL": "native"}
    cfg = resolve_stored(state["settings"], own, checkpoint)
    method, space = build_method(cfg, state)
    kinds = choose_kinds(options.write, space)
    inputs, others = find_inputs(options.input)
    if any(source.is_video for source in inputs):
        library()
    out = options.out
    with ExitStack() as stack:
        runtime = stack.enter_context(open_runtime(cfg))
        if runtime.is_main:
            stack.enter_context(writing_into(out))
            claim(out, provenance(checkpoint, cfg, space), kinds)
        barrier()
        predictor = Predictor(method, space, cfg, kinds, out, runtime)
        own = inputs[runtime.rank :: runtime.world_size]
        predictor.remove_outdated(own)
        predictor.images([source for source in own if not source.is_video])
        for source in own:
            if source.is_video:
                predictor.video(source)
        tallies = runtime.gather(predictor.tally)
        skipped = [line for tally in tallies for line in tally.skipped]
        if runtime.is_main:
            write_list(out / "skipped.txt", skipped, CONTINUES)
    if runtime.is_main:
        print(tally_text(tallies, others, out))
        if skipped:
            sys.exit(SKIPPED)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = command_parser("Segment images, folders of images and videos.")
    add = parser.add_argument
    snapshot = "checkpoint, experiment folder or export"
    add("--snapshot", required=True, metavar="PATH", help=snapshot)
    paths = "images, videos, folders (searched to the bottom) or quoted patterns ('in/**/*.jpg')"
    add("--input", nargs="+", required=True, metavar="PATH", help=paths)
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the predictions")
    kinds = f"{', '.join(KINDS)} (default: all of them)"
    add("--write", nargs="+", default=[], metavar="KIND", help=kinds)
    add_prediction_flags(parser)
    add_published_flags(parser)
    return parser


def provenance(checkpoint: Path, cfg: EasyDict, space: LabelSpace) -> dict[str, Any]:
    """Return what predictions depend on."""
    return {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": file_hash(checkpoint),
        "method": cfg.METHOD,
        "trunk": cfg.TRUNK.NAME,
        "decoder": cfg.DECODER.NAME,
        "predicted": describe_protocol(cfg),
        "precision": cfg.PRECISION,
        "classes": dict(enumerate(space.classes)),
    }


def claim(out: Path, own: dict[str, Any], kinds: list[str]) -> None:
    """Write predictions.json, make the folders of the kinds and join the records of earlier calls.

    UserError if `out` holds predictions made in another way, or somebody else's folders.
    """
    path = out / NOTE
    own = json.loads(json.dumps(own))
    try:
        there = json.loads(path.read_text()) if path.exists() else None
    except (ValueError, OSError):
        there = {}
    foreign = [out / kind for kind in KINDS if (out / kind).exists()]
    if there is None and foreign:
        raise UserError(f"{foreign[0]} is there, and not by predict.py; give another --out")
    if there is not None and not (isinstance(there, dict) and own.keys() <= there.keys()):
        raise UserError(f"{path} is damaged; give another --out, or remove {out}")
    for key in own.keys() - {"checkpoint"} if there else ():
        if there[key] != own[key]:
            raise UserError(
                f"{out} holds predictions with another {key.replace('_', ' ')} "
                f"({there[key]}, now {own[key]}); give another --out, or remove it"
            )
    write_atomically(path, (json.dumps(own, indent=1) + "\n").encode(), CONTINUES)
    for kind in kinds:
        try:
            (out / kind).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(cannot_write(error, out / kind, CONTINUES)) from None
    join_records(out)


def tally_text(tallies: list[Tally], others: Counter, out: Path) -> str:
    """Say in a line what became of the inputs, and in others what was passed over."""
    predicted, replaced, present, frames = (
        sum(getattr(tally, name) for tally in tallies)
        for name in ("predicted", "replaced", "present", "frames")
    )
    parts = [f"{predicted} predicted" + (f" ({frames} frames of videos)" if frames else "")]
    if replaced:
        parts.append(f"{replaced} made anew, since their files were replaced")
    if present:
        parts.append(f"{present} there already")
    skipped = sum(len(tally.skipped) for tally in tallies)
    if skipped:
        parts.append(f"{skipped} skipped (listed in {out / 'skipped.txt'})")
    lines = [f"{', '.join(parts)}; written to {out}"]
    if others:
        kinds = ", ".join(f"{number} {ending}" for ending, number in sorted(others.items()))
        lines.append(f"passed over, neither image nor video: {kinds}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
