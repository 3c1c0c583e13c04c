"""Which file each prediction was made of, so that a folder in use is continued and not mixed up."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from utils.engine.failures import cannot_write
from utils.engine.saving import write_atomically
from utils.errors import UserError
from utils.files import sha256
from utils.predict.rendering import CONTINUES

NOTE, RECORD = "predictions.json", "inputs.jsonl"  # of a folder of predictions


class Stamp(NamedTuple):
    """What tells a file from others: its absolute path, size in bytes, time of its last change in
    nanoseconds, and SHA-256."""

    input: str
    size: int
    mtime_ns: int
    sha256: str


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file; UserError where it cannot be read."""
    try:
        # Before the content is read: a change in between is noticed the next time.
        status = path.stat()
        with path.open("rb") as file:
            digest = sha256(file, status.st_size).decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    return Stamp(os.path.abspath(path), status.st_size, status.st_mtime_ns, digest)


def is_of(stamp: Stamp, path: Path) -> bool:
    """Whether a file is the one of the stamp; its content is read only where size and time do not
    decide. A file that is not there is, and nothing is made of it again."""
    try:
        status = path.stat()
    except OSError:
        return True
    if status.st_size != stamp.size:
        return False
    if (os.path.abspath(path), status.st_mtime_ns) == (stamp.input, stamp.mtime_ns):
        return True
    return stamp_of(path).sha256 == stamp.sha256


def join_records(out: Path) -> None:
    """Join what the processes of earlier calls recorded in a folder into one file."""
    parts = sorted(out.glob("inputs_*.jsonl"))
    if parts:
        made = _read(out / RECORD)
        for part in parts:
            made |= _read(part)
        lines = [_line(name, stamp) for name, stamp in made.items() if stamp]
        write_atomically(out / RECORD, b"".join(lines), CONTINUES)
        for part in parts:
            part.unlink()


class Record:
    """The stamps of a folder's inputs, by the names of their predictions.

    Each process appends to a file of its own. A line is written when the predictions of an input
    are on the disk: what is killed before is made again.
    """

    def __init__(self, out: Path, rank: int):
        self.made = {name: stamp for name, stamp in _read(out / RECORD).items() if stamp}
        self.path = out / f"inputs_{rank}.jsonl"

    def add(self, name: str, stamp: Stamp | None) -> None:
        """Note what the predictions of a name are of now; None: of nothing."""
        try:
            # At one stroke, whatever other threads write.
            with open(self.path, "ab", buffering=0) as file:
                file.write(_line(name, stamp))
        except OSError as error:
            raise UserError(cannot_write(error, self.path, CONTINUES)) from None


def _line(name: str, stamp: Stamp | None) -> bytes:
    return (json.dumps({"name": name} | (stamp._asdict() if stamp else {})) + "\n").encode()


def _read(path: Path) -> dict[str, Stamp | None]:
    """Return the stamp of each name, the last one counts; lines that were cut off are left out."""
    made: dict[str, Stamp | None] = {}
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    for line in lines:
        try:
            entry = json.loads(line)
            name = entry.pop("name")
            made[name] = Stamp(**entry) if entry else None
        except (ValueError, TypeError, AttributeError, KeyError):
            continue
    return made
