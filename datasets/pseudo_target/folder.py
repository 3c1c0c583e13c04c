"""The folder of a pseudo-target: whose it is, what is in it, what could not be drawn."""

import json
import sys
from pathlib import Path
from typing import Any

from datasets.pseudo_target import NOTE, PROMPTS
from datasets.pseudo_target import prompts as prompting
from datasets.pseudo_target.drawing import CONTINUES, Job
from datasets.pseudo_target.prompts import Prompt
from utils.engine.saving import write_atomically, write_list
from utils.errors import UserError

SKIPPED = "skipped.txt"


def refuse_other(out: Path, note: dict[str, Any], prompts: list[Prompt] | None) -> None:
    """Raise UserError if a folder holds anything but what is to be drawn."""
    path = out / NOTE
    if not path.exists():
        found = out.iterdir() if out.is_dir() else ()
        if any(not each.name.startswith(".") and each.suffix != ".part" for each in found):
            raise UserError(f"{out} holds files that are no pseudo-target; give another --out")
        return
    try:
        there = json.loads(path.read_text())
        differing = [key for key in note if there[key] != note[key]]
    except (ValueError, OSError, TypeError, KeyError):
        raise UserError(f"{path} is damaged; give another --out, or remove {out}") from None
    for key in differing:
        told = "" if key in ("files", "choices") else f" {there[key]}, not {note[key]}"
        what = {"files": "other files of the source", "choices": "other blocks"}.get(key, key)
        raise UserError(
            f"{out} holds a pseudo-target with {what}{told}; give another --out, or remove it"
        )
    path = out / PROMPTS
    if prompts is not None and path.exists() and path.read_bytes() != prompting.lines_of(prompts):
        raise UserError(
            f"{path} holds other prompts than these; give another --out, or continue with that "
            "file's by --prompts"
        )


def claim(out: Path, note: dict[str, Any], prompts: list[Prompt] | None) -> None:
    """Write the note and the prompts."""
    write_atomically(out / NOTE, (json.dumps(note, indent=1) + "\n").encode(), CONTINUES)
    if prompts is not None:
        write_atomically(out / PROMPTS, prompting.lines_of(prompts), CONTINUES)


def missing(jobs: list[Job], out: Path) -> list[int]:
    """Return which images are not there."""
    return [n for n, job in enumerate(jobs) if not (out / job.name).exists()]


def list_skipped(out: Path, skipped: list[str]) -> None:
    """Write skipped.txt, and print its first lines."""
    write_list(out / SKIPPED, skipped, CONTINUES)
    print("".join(f"skipped: {line}\n" for line in skipped[:10]), end="", file=sys.stderr)
