"""What a run records: settings, metrics.jsonl, TensorBoard events, means over logged steps."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch import Tensor
from tqdm import tqdm

from utils.settings import flatten

METRICS = "metrics.jsonl"


def keep_records(metrics: Path) -> None:
    """Give the records of an earlier start, which has no checkpoint to continue, another name."""
    if metrics.is_file() and metrics.stat().st_size:
        names = (metrics.with_name(f"metrics_{number}.jsonl") for number in range(1, 1 << 20))
        metrics.rename(next(path for path in names if not path.exists()))


def read_records(metrics: Path) -> list[dict[str, Any]]:
    """Return the records of a run; those that were cut off or damaged are left out."""
    records = []
    for line in metrics.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


class ExperimentLog:
    """Writes what a run measures. Only the main process writes; in others it does nothing.

    A run continued from a checkpoint hands over its `step` and the log's `position` at that time:
    what was recorded later is taken back, because it is going to be recorded again.
    """

    def __init__(self, folder: Path, cfg: EasyDict, is_main: bool, step: int, position: int):
        self.is_main = is_main
        if not is_main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(flatten(cfg), indent=1) + "\n")
        metrics = folder / METRICS
        if not step:
            keep_records(metrics)
        self.metrics = open(metrics, "a", buffering=1)
        content = metrics.read_bytes()
        if len(content) < position:
            self.say(f"{metrics} lacks records that it had when the checkpoint was written")
        # A line that was cut off would swallow the record behind it.
        os.truncate(metrics, content[:position].rfind(b"\n") + 1)
        # Not SummaryWriter: its thread dies on a full disk, which the run then waits for, and a
        # kill loses events. The file's name has a time in seconds: the process id tells two starts
        # within one second apart.
        self.events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if step:
            # TensorBoard hides what earlier files hold of later steps.
            self._event(step + 1, file_version="brain.Event:2")
            self._event(step + 1, session_log=SessionLog(status=SessionLog.START))

    def say(self, text: str) -> None:
        """Print a line for the user without breaking the progress bar."""
        if self.is_main:
            tqdm.write(text, file=sys.stderr)

    def scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Log named numbers of one step to metrics.jsonl and TensorBoard; None is undefined."""
        if self.is_main:
            self.metrics.write(json.dumps({"step": step} | values) + "\n")
            for name, value in values.items():
                if value is not None:
                    self._event(step, summary=summary.scalar(name, value))
            self.events.flush()

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """Log a picture `[3, H, W]` uint8 to TensorBoard."""
        if self.is_main:
            self._event(step, summary=summary.image(name, picture.numpy()))
            self.events.flush()

    def _event(self, step: int, **content: Any) -> None:
        self.events.write_event(Event(step=step, wall_time=time.time(), **content))

    def position(self) -> int:
        """Bring metrics.jsonl to the disk and return its length in bytes, for a checkpoint."""
        if not self.is_main:
            return 0
        os.fsync(self.metrics.fileno())
        return os.fstat(self.metrics.fileno()).st_size

    def close(self) -> None:
        """Close the files."""
        if self.is_main:
            self.metrics.close()
            self.events.close()


class RunningMeans:
    """Means of named scalars over the steps since the last log entry, kept on the device.

    `state` and the constructor carry them through a checkpoint, so that the entry after resuming
    is the one of an undisturbed run.
    """

    def __init__(self, device: torch.device, state: dict[str, Any] | None = None):
        state = state or {"sums": {}, "steps": 0}
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.steps = state["steps"]

    def add(self, values: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def take(self) -> dict[str, float]:
        """Return the means and start anew; the one place that waits for the device."""
        means = (torch.stack(list(self.sums.values())) / self.steps).tolist()
        named = dict(zip(self.sums, means, strict=True))
        self.sums, self.steps = {}, 0
        return named

    def state(self) -> dict[str, Any]:
        """Return what the constructor continues from."""
        return {"sums": dict(self.sums), "steps": self.steps}
