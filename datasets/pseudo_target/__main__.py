"""`python -m datasets.pseudo_target NAME[:SPLIT] --out DIR [KEY VALUE …]`: draw a pseudo-target.

Draws each image of a labelled source anew, without labels, into a folder that DATASET.TARGET takes
(DIDEX, step 1). --engine diffusion follows prompts; --engine restyle stands in for it without a
model. WORKERS are the processes that read labels and restyle, DEVICE is where the network runs,
SEED decides all draws. Under torchrun the processes share the images. The same command continues
where it was cut off. What cannot be drawn is named and skipped, and the exit code is then 3.
"""

if __name__ == "__main__":
    from utils.early import exit_on_signals

    exit_on_signals()

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from PIL import Image
from tqdm import tqdm

from datasets import build_dataset, load_settings, parse_domain
from datasets.commands import in_processes, parse_words
from datasets.dataset import SegmentationDataset
from datasets.files import png_bytes, read_image
from datasets.photographs import refuse_overlap
from datasets.pseudo_target import prompts as prompting
from datasets.pseudo_target.depth import Roles, roles_of
from datasets.pseudo_target.diffusion import MODEL, Diffusion, Flawed, Sampling
from datasets.pseudo_target.prompts import Prompt
from datasets.pseudo_target.restyle import restyle
from datasets.sampling.survey import refuse_unusable, survey_split
from utils.engine.folder import writing_into
from utils.engine.runtime import Runtime, open_runtime
from utils.engine.saving import write_atomically
from utils.errors import UserError, memory_for, run_script
from utils.processes import barrier

ENGINES = ("diffusion", "restyle")
NOTE, PROMPTS, SKIPPED = "pseudo_target.json", "prompts.jsonl", "skipped.txt"
CONTINUES = "What was drawn is there, and the same command continues"
SOME_SKIPPED = 3  # exit code
MOST_FAILURES = 10  # in a row, before it is no use to go on


class Job(NamedTuple):
    """An image to be drawn: its paths, and the name below the output folder."""

    image: Path
    label: Path
    name: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the prompts, then the images; say what became of them."""
    options, words, overrides = parse_words(command_line(), arguments)
    cfg = load_settings(overrides)
    dataset = open_source(words, cfg)
    refuse_options(options)
    survey = survey_split(
        dataset, cfg.DATASET.CLASS_UNIFORM_TILE, cfg.DATASET.CACHE_DIR, cfg.WORKERS
    )
    refuse_unusable(dataset, survey)
    names = names_of(dataset)
    chosen = range(len(names))
    if options.images:
        number = min(options.images, len(names))
        chosen = [i * len(names) // number for i in range(number)]
    prompts = None
    if options.engine == "diffusion":
        present = survey.class_pixels(dataset) > 0
        prompts = draw_prompts(options, dataset, names, chosen, present, cfg.SEED)
        numbers = {name: i for i, name in enumerate(names)}
        chosen = [numbers[prompt.file] for prompt in prompts]
        if options.plan:
            print(prompting.plan(prompts, present[chosen], dataset.label_space.classes))
            return
    if options.out is None:
        raise UserError("--out DIR: name the folder of the pseudo-target")
    refuse_overlap(options.out, cfg)
    jobs = [Job(dataset.image_paths[i], dataset.label_paths[i], names[i]) for i in chosen]
    with ExitStack() as stack:
        runtime = stack.enter_context(open_runtime(cfg))
        # Before anything is written.
        engine = None
        if prompts is not None and missing(jobs, options.out):
            engine = load_engine(options, prompts, runtime)
        if runtime.is_main:
            stack.enter_context(writing_into(options.out))
            claim(options.out, provenance(options, dataset, len(jobs), cfg), prompts)
        barrier()
        wanted = missing(jobs, options.out)
        barrier()
        own = wanted[runtime.rank :: runtime.world_size]
        if prompts is None:
            skipped = restyle_all([jobs[n] for n in own], dataset, options.out, cfg)
        else:
            pairs = [(jobs[n], prompts[n]) for n in own]
            skipped = diffuse_all(engine, pairs, options, runtime)
        every = [line for lines in runtime.gather(skipped) for line in lines]
        if runtime.is_main:
            list_skipped(options.out, every)
    if runtime.is_main:
        there = len(jobs) - len(wanted)
        parts = [f"{len(wanted) - len(every)} drawn"]
        parts += [f"{there} there already"] if there else []
        parts += [f"{len(every)} skipped (listed in {options.out / SKIPPED})"] if every else []
        print(f"{', '.join(parts)}; use it by DATASET.TARGET {options.out}")
        if every:
            sys.exit(SOME_SKIPPED)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.pseudo_target",
        usage="%(prog)s NAME[:SPLIT] --out DIR [--engine restyle] [KEY VALUE …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, sampling = parser.add_argument, Sampling()
    add("--out", type=Path, metavar="DIR", help="folder of the images, prompts.jsonl and a note")
    add("--engine", choices=ENGINES, default="diffusion", help="default: diffusion")
    add("--images", type=int, default=0, help="so many, evenly spread over the split; 0: all")
    group = parser.add_argument_group("diffusion")
    add = group.add_argument
    add("--model", default=MODEL, metavar="NAME|FOLDER", help=f"default: {MODEL}")
    add("--variant", help=f"of the blocks; default: {prompting.DEFAULT}")
    what = "blocks (.json), or prompts of your own (.jsonl: file, prompt, perhaps seed)"
    add("--prompts", type=Path, metavar="FILE", help=f"{what}; default: the published blocks")
    add("--plan", action="store_true", help="say how many images each block gets, and end")
    add("--batch", type=int, default=1, help="images at once")
    add("--steps", type=int, default=sampling.steps, help="denoising steps; published: 25")
    add("--strength", type=float, default=sampling.strength, help="published: 0.9")
    add("--guidance", type=float, default=sampling.guidance, help="published: 9")
    what = "resize the source by it before; 0: by half where it is wider than 1280"
    add("--scale", type=float, default=sampling.scale, help=what)
    return parser


def refuse_options(options: argparse.Namespace) -> None:
    """Raise UserError for values out of range, and for options that have no effect."""
    if options.images < 0 or options.batch < 1 or options.steps < 1:
        raise UserError("--images is 0 or more, --batch and --steps are 1 or more")
    if not 0 < options.strength <= 1 or int(options.steps * options.strength) < 1:
        raise UserError(
            f"--strength {options.strength:g}: it is above 0 and at most 1, and --steps times "
            "--strength is at least 1"
        )
    if not 0 <= options.guidance < np.inf or not 0 <= options.scale <= 16:
        raise UserError("--guidance is 0 or more, --scale is 0 to 16")
    if options.engine == "diffusion":
        return
    default = command_line().parse_args([])
    for name in ("model", "variant", "prompts", "plan", "batch", *Sampling._fields):
        if getattr(options, name) != getattr(default, name):
            raise UserError(f"--{name} has no effect with --engine {options.engine}")


def open_source(words: Sequence[str], cfg: EasyDict) -> SegmentationDataset:
    """Open the split to be drawn; UserError unless it is one of a dataset with labels."""
    if len(words) != 1:
        raise UserError(f"one source at a time, not {len(words)}: {', '.join(words)}")
    if Path(words[0]).is_dir():
        raise UserError(
            f"{words[0]} is a folder; a source has labels, so it is a dataset by name or a JSON "
            "file that describes one (docs/datasets.md)"
        )
    return build_dataset(*parse_domain(words[0], "train"), cfg)


def names_of(dataset: SegmentationDataset) -> list[str]:
    """Return the file names of the drawn images: the source's own, below the same folders."""
    images = dataset.files(dataset.root, dataset.split).images
    return [str(Path(key).parent / f"{images[key].stem}.png") for key in sorted(images)]


def draw_prompts(
    options: argparse.Namespace,
    dataset: SegmentationDataset,
    names: list[str],
    chosen: Sequence[int],
    present: np.ndarray,
    seed: int,
) -> list[Prompt]:
    """Return the prompts of the images to be drawn, in the order of their files."""
    path = options.prompts or prompting.PUBLISHED
    if path.suffix.lower() == ".jsonl":
        if options.variant:
            raise UserError(f"--variant has no effect with the prompts of {path}")
        return prompting.own_prompts(path, [names[i] for i in chosen], seed)
    return prompting.draw_prompts(
        prompting.read_blocks(path),
        options.variant or prompting.DEFAULT,
        [names[i] for i in chosen],
        present[list(chosen)],
        present.any(0),
        dataset.label_space.classes,
        seed,
    )


def provenance(
    options: argparse.Namespace, dataset: SegmentationDataset, images: int, cfg: EasyDict
) -> dict[str, Any]:
    """Return what the images depend on, beside their prompts."""
    own = {
        "source": f"{dataset.name}:{dataset.split}",
        "images": images,
        "engine": options.engine,
        "seed": cfg.SEED,
    }
    if options.engine == "diffusion":
        # A batch changes rounding only.
        own |= {"model": options.model} | {k: getattr(options, k) for k in Sampling._fields}
    return own


def claim(out: Path, own: dict[str, Any], prompts: list[Prompt] | None) -> None:
    """Write the note and the prompts; UserError if the folder holds anything else."""
    path = out / NOTE
    try:
        there = json.loads(path.read_text()) if path.exists() else None
    except (ValueError, OSError):
        raise UserError(f"{path} is damaged; give another --out, or remove {out}") from None
    if there is None and any(not each.name.startswith(".") for each in out.iterdir()):
        raise UserError(f"{out} holds files that are no pseudo-target; give another --out")
    for key, value in own.items() if there else ():
        if there.get(key) != value:
            raise UserError(
                f"{out} holds a pseudo-target with {key} {there.get(key)}, not {value}; give "
                "another --out, or remove it"
            )
    if prompts is not None:
        lines = prompting.lines_of(prompts)
        if (out / PROMPTS).exists() and (out / PROMPTS).read_bytes() != lines:
            raise UserError(
                f"{out / PROMPTS} holds other prompts than these; give another --out, or continue "
                "with that file's by --prompts"
            )
        write_atomically(out / PROMPTS, lines, CONTINUES)
    write_atomically(path, (json.dumps(own, indent=1) + "\n").encode(), CONTINUES)


def restyle_all(
    jobs: list[Job], dataset: SegmentationDataset, out: Path, cfg: EasyDict
) -> list[str]:
    """Draw by restyling in WORKERS processes; return what was skipped."""
    roles = roles_of(dataset.label_space)
    work = partial(restyle_one, type(dataset), dataset.label_table, roles, out, cfg.SEED)
    faults = in_processes(work, jobs, cfg.WORKERS, f"restyling {dataset.title}")
    return [fault for fault in faults if fault]


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
    drawn = restyle(image, label, roles, prompting.image_seed(seed, job.name)).pixels
    write_image(torch.from_numpy(drawn).permute(2, 0, 1), out / job.name)
    return ""


def missing(jobs: list[Job], out: Path) -> list[int]:
    """Return which images are not there."""
    return [n for n, job in enumerate(jobs) if not (out / job.name).exists()]


def load_engine(options: argparse.Namespace, prompts: list[Prompt], runtime: Runtime) -> Diffusion:
    """Load the model; say once what its text encoder does not read of the prompts."""
    sampling = Sampling(*(getattr(options, name) for name in Sampling._fields))
    with memory_for(f"the model {options.model}", "DEVICE cpu, or a GPU with more of it"):
        engine = Diffusion(options.model, runtime.device, sampling)
    if runtime.is_main and (lost := engine.too_long([prompt.prompt for prompt in prompts])):
        print(
            f"warning: {len(lost)} of {len(prompts)} prompts are longer than the text encoder "
            f"reads; of {lost[0][0]!r} it leaves out {lost[0][1]!r}",
            file=sys.stderr,
        )
    return engine


def diffuse_all(
    engine: Diffusion | None,
    pairs: list[tuple[Job, Prompt]],
    options: argparse.Namespace,
    runtime: Runtime,
) -> list[str]:
    """Draw by diffusion; return what was skipped. UserError where ten in a row were."""
    skipped: list[str] = []
    failures = 0
    shown = None if runtime.is_main else True
    with tqdm(total=len(pairs), desc="drawing", unit="image", disable=shown) as bar:
        for batch in batches(pairs, options.batch, skipped):
            done = draw_batch(engine, batch, options.out, skipped)
            bar.update(len(batch))
            failures = 0 if done else failures + len(batch)
            if failures >= MOST_FAILURES:
                raise UserError(f"{failures} images in a row could not be drawn: {skipped[-1]}")
    return skipped


def batches(
    pairs: list[tuple[Job, Prompt]], size: int, skipped: list[str]
) -> Iterator[list[tuple[Job, Prompt, Image.Image]]]:
    """Read images, `size` of one size at once; those that cannot be read go to `skipped`."""
    waiting: dict[tuple[int, int], list] = {}
    for job, prompt in pairs:
        try:
            pixels = read_image(job.image).permute(1, 2, 0).contiguous().numpy()
        except UserError as error:
            skipped.append(str(error))
            continue
        image = Image.fromarray(pixels)
        batch = waiting.setdefault(image.size, [])
        batch.append((job, prompt, image))
        if len(batch) == size:
            yield waiting.pop(image.size)
    yield from waiting.values()


def draw_batch(
    engine: Diffusion, batch: list[tuple[Job, Prompt, Image.Image]], out: Path, skipped: list[str]
) -> int:
    """Draw and write images; of a batch that fails, one by one. Returns how many were drawn."""
    jobs, prompts, images = zip(*batch, strict=True)
    try:
        drawn = attempt(
            lambda: engine.draw(images, [p.prompt for p in prompts], [p.seed for p in prompts])
        )
    except Flawed as error:
        if len(batch) > 1:
            return sum(draw_batch(engine, [each], out, skipped) for each in batch)
        skipped.append(f"{jobs[0].image}: {error}")
        return 0
    for job, image in zip(jobs, drawn, strict=True):
        write_image(torch.from_numpy(np.array(image)).permute(2, 0, 1), out / job.name)
    return len(drawn)


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


def list_skipped(out: Path, skipped: list[str]) -> None:
    """Write skipped.txt, a line for each image; no file where there is none."""
    if skipped:
        text = "".join(f"{line}\n" for line in skipped).encode(errors="surrogateescape")
        write_atomically(out / SKIPPED, text, CONTINUES)
        print("".join(f"skipped: {line}\n" for line in skipped[:10]), end="", file=sys.stderr)
    else:
        (out / SKIPPED).unlink(missing_ok=True)


if __name__ == "__main__":
    run_script(main)
