"""What the user sees of a run while it goes on, and how fast it goes."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from utils.engine.runtime import Runtime

Batch = TypeVar("Batch")


class Progress:
    """A bar on a terminal; elsewhere, where a bar would fill a log file, a line per log entry.

    Shown by the main process only. Use it in `with`, which closes the bar also on errors.
    """

    def __init__(self, name: str, steps: int, first_step: int, images: int, runtime: Runtime):
        """`images` are those of a step of all processes together."""
        self.name, self.steps, self.first_step, self.images = name, steps, first_step, images
        self.runtime = runtime
        self.terminal = sys.stderr.isatty()
        shown = runtime.is_main and self.terminal
        self.bar = tqdm(desc=name, total=steps, initial=first_step, disable=not shown)
        self.done = first_step
        self.waited, self.paused = 0.0, 0.0
        self.begin = self.since = time.perf_counter()
        self.since_step = first_step

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and count the time that each of them is waited for."""
        begin = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out what is spent on something else than training, such as evaluating."""
        begin = time.perf_counter()
        yield
        self.paused += time.perf_counter() - begin

    def update(self) -> None:
        """Count a step."""
        self.done += 1
        self.bar.update()

    def measure(self) -> dict[str, float]:
        """Return images per second and the share of time that data was waited for since the last
        call, and peak memory in GiB: of the GPU since the last call, or of this process so far."""
        now = time.perf_counter()
        seconds = max(now - self.since - self.paused, 1e-9)
        if self.runtime.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        values = {
            "speed/images_per_second": (self.done - self.since_step) * self.images / seconds,
            "speed/data_wait": self.waited / seconds,
            "speed/memory_gib": memory,
        }
        self.since, self.since_step, self.waited, self.paused = now, self.done, 0.0, 0.0
        return values

    def show(self, loss: float, rate: float, speed: dict[str, float]) -> None:
        """Show the figures of a log entry."""
        if not self.runtime.is_main:
            return
        figures = {
            "loss": f"{loss:.3f}",
            "rate": f"{rate:.2g}",
            "images/s": f"{speed['speed/images_per_second']:.1f}",
            "data wait": f"{100 * speed['speed/data_wait']:.0f} %",
            "memory": f"{speed['speed/memory_gib']:.1f} GiB",
        }
        if self.terminal:
            self.bar.set_postfix(figures)
            return
        per_step = (time.perf_counter() - self.begin) / max(self.done - self.first_step, 1)
        left = tqdm.format_interval((self.steps - self.done) * per_step)
        text = ", ".join(f"{name} {value}" for name, value in figures.items())
        line = f"{self.name}: step {self.done} of {self.steps}, {text}, {left} left"
        print(line, file=sys.stderr, flush=True)
