"""Images drawn and written one after another, by either engine; what fails is counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from PIL import Image
from tqdm import tqdm

from datasets.commands import in_processes
from datasets.dataset import SegmentationDataset
from datasets.files import png_bytes, read_image
from datasets.pseudo_target.depth import Roles, roles_of
from datasets.pseudo_target.diffusion import Diffusion, Flawed
from datasets.pseudo_target.prompts import Prompt, image_seed
from datasets.pseudo_target.restyle import restyle
from utils.engine.saving import write_atomically
from utils.errors import UserError, memory_for

CONTINUES = "What was drawn is there, and the same command continues"
MOST_FAILURES = 10  # in a row, before it is no use to go on


class Job(NamedTuple):
    """An image to be drawn: its paths, and the name below the output folder."""

    image: Path
    label: Path
    name: str


@dataclass
class Tally:
    """What became of a process's images."""

    drawn: int = 0
    skipped: list[str] = field(default_factory=list)
    in_a_row: int = 0

    def drew(self, number: int = 1) -> None:
        """Count images that are written."""
        self.drawn += number
        self.in_a_row = 0

    def skip(self, line: str) -> None:
        """Count one that cannot be drawn; UserError where too many were, one after another."""
        self.skipped.append(line)
        self.in_a_row += 1
        if self.in_a_row >= MOST_FAILURES:
            raise UserError(f"{self.in_a_row} images in a row could not be drawn; {line}")


def restyle_all(
    jobs: list[Job], dataset: SegmentationDataset, out: Path, tally: Tally, cfg: EasyDict
) -> None:
    """Draw by restyling, in WORKERS processes."""
    roles = roles_of(dataset.label_space)
    work = partial(restyle_one, type(dataset), dataset.label_table, roles, out, cfg.SEED)
    for fault in in_processes(work, jobs, cfg.WORKERS, f"restyling {dataset.title}"):
        if fault:
            tally.skip(fault)
        else:
            tally.drew()


def restyle_one(
    dataset: type[SegmentationDataset],
    table: np.ndarray,
    roles: Roles,
    out: Path,
    seed: int,
    job: Job,
) -> str:
    """Draw an image and write it; return why it cannot be read, or ""."""
    try:
        image = read_image(job.image).permute(1, 2, 0).numpy()
        label = table.take(dataset.read_numbers(job.label).numpy())
    except UserError as error:
        return str(error)
    drawn = restyle(image, label, roles, image_seed(seed, job.name)).pixels
    write_image(torch.from_numpy(drawn).permute(2, 0, 1), out / job.name)
    return ""


def diffuse_all(
    engine: Diffusion,
    pairs: list[tuple[Job, Prompt]],
    size: int,
    out: Path,
    tally: Tally,
    shown: bool,
) -> None:
    """Draw by diffusion, `size` images of one size at once; the bar may be `shown`."""
    with tqdm(
        total=len(pairs), desc="drawing", unit="image", disable=None if shown else True
    ) as bar:
        for batch in batches(pairs, size, tally):
            draw_batch(engine, batch, out, tally)
            bar.update(tally.drawn + len(tally.skipped) - bar.n)


def batches(
    pairs: list[tuple[Job, Prompt]], size: int, tally: Tally
) -> Iterator[list[tuple[Job, Prompt, Image.Image]]]:
    """Read images, `size` of one size at once, fewer where images have many sizes."""
    waiting: dict[tuple[int, int], list] = {}
    for job, prompt in pairs:
        try:
            pixels = read_image(job.image).permute(1, 2, 0).contiguous().numpy()
        except UserError as error:
            tally.skip(str(error))
            continue
        image = Image.fromarray(pixels)
        batch = waiting.setdefault(image.size, [])
        batch.append((job, prompt, image))
        if len(batch) == size:
            yield waiting.pop(image.size)
        elif sum(map(len, waiting.values())) >= 4 * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def draw_batch(
    engine: Diffusion, batch: list[tuple[Job, Prompt, Image.Image]], out: Path, tally: Tally
) -> None:
    """Draw and write images; of a batch that fails, one by one."""
    jobs, prompts, images = zip(*batch, strict=True)
    try:
        drawn = attempt(
            lambda: engine.draw(images, [p.prompt for p in prompts], [p.seed for p in prompts])
        )
    except Flawed as error:
        if len(batch) == 1:
            tally.skip(f"{jobs[0].image}: {error}")
        for each in batch if len(batch) > 1 else ():
            draw_batch(engine, [each], out, tally)
        return
    for job, image in zip(jobs, drawn, strict=True):
        write_image(torch.from_numpy(np.array(image)).permute(2, 0, 1), out / job.name)
    tally.drew(len(drawn))


def attempt(draw: Callable[[], list[Image.Image]]) -> list[Image.Image]:
    """Call `draw`; Flawed, too, where memory is out."""
    try:
        with memory_for("drawing it", "a smaller --scale or --batch needs less"):
            return draw()
    except UserError as error:
        # The error holds what was reserved.
        message = str(error)
    torch.cuda.empty_cache()
    raise Flawed(message)


def write_image(pixels: torch.Tensor, path: Path) -> None:
    """Write uint8 [3, H, W] as a PNG at one stroke."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror.lower()}") from None
    write_atomically(path, png_bytes(pixels), CONTINUES)
