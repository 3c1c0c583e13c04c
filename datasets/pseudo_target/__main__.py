"""`python -m datasets.pseudo_target NAME[:SPLIT] --out DIR [KEY VALUE …]`: draw a pseudo-target.

Draws each image of a labelled source anew, without labels, into a folder that DATASET.TARGET takes
(DIDEX, step 1). --engine diffusion follows prompts; --engine restyle stands in for it without a
model. WORKERS are the processes that read labels and restyle, DEVICE is where the network runs,
SEED decides all draws. Under torchrun the processes share the images. The same command continues
where it was cut off. What cannot be drawn is named and skipped, and the exit code is then 3 (under
torchrun its own, 1).
"""

if __name__ == "__main__":
    from utils.early import exit_on_signals

    exit_on_signals()

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from easydict import EasyDict

from datasets import build_dataset, load_settings, parse_domain
from datasets.commands import parse_words
from datasets.dataset import SegmentationDataset
from datasets.photographs import refuse_overlap
from datasets.pseudo_target import names_of
from datasets.pseudo_target import prompts as prompting
from datasets.pseudo_target.diffusion import (
    MODEL,
    SCHEDULE,
    Diffusion,
    Sampling,
    load_diffusers,
)
from datasets.pseudo_target.drawing import Job, Tally, diffuse_all, restyle_all
from datasets.pseudo_target.folder import SKIPPED, claim, list_skipped, missing, refuse_other
from datasets.pseudo_target.prompts import Blocks, Prompt
from datasets.sampling.survey import refuse_unusable, survey_key, survey_split
from utils.engine.folder import writing_into
from utils.engine.runtime import Runtime, open_runtime
from utils.errors import UserError, memory_for, run_script
from utils.processes import barrier

ENGINES = ("diffusion", "restyle")
SOME_SKIPPED = 3  # exit code
MOST_STEPS = SCHEDULE["num_train_timesteps"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the prompts, then the images; say what became of them."""
    options, words, overrides = parse_words(command_line(), arguments)
    cfg = load_settings(overrides)
    refuse_options(options)
    dataset = open_source(words, cfg)
    names = names_of(dataset.image_paths)
    if not options.plan:
        refuse_folder(options.out, dataset, cfg)
    blocks = read_prompts_file(options)
    if options.engine == "diffusion" and not options.plan:
        load_diffusers()
    tile = cfg.DATASET.CLASS_UNIFORM_TILE
    survey = survey_split(dataset, tile, cfg.DATASET.CACHE_DIR, cfg.WORKERS)
    refuse_unusable(dataset, survey)
    number = min(options.images, len(names)) if options.images else len(names)
    chosen = [i * len(names) // number for i in range(number)]
    note = provenance(options, dataset, survey_key(dataset, tile), cfg)
    prompts = None
    if options.engine == "diffusion":
        present = survey.class_pixels(dataset) > 0
        prompts, choices = draw_prompts(options, blocks, dataset, names, chosen, present, cfg.SEED)
        numbers = {name: i for i, name in enumerate(names)}
        chosen = [numbers[prompt.file] for prompt in prompts]
        if options.plan:
            print(prompting.plan(prompts, present[chosen], dataset.label_space.classes))
            return
        note["choices"] = choices
    note["images"] = len(chosen)
    jobs = [Job(dataset.image_paths[i], dataset.label_paths[i], names[i]) for i in chosen]
    tally = Tally()
    with ExitStack() as stack:
        runtime = stack.enter_context(open_runtime(cfg))
        # Before anything is written.
        refuse_other(options.out, note, prompts)
        engine = None
        if prompts is not None and missing(jobs, options.out):
            engine = load_engine(options, prompts, runtime)
        if runtime.is_main:
            stack.enter_context(writing_into(options.out))
            refuse_other(options.out, note, prompts)
            claim(options.out, note, prompts)
        barrier()
        # What a process sees of a network's folder can lag behind: one of them decides.
        wanted = runtime.gather(missing(jobs, options.out))[0]
        own = wanted[runtime.rank :: runtime.world_size]
        try:
            if engine is None:
                restyle_all([jobs[n] for n in own], dataset, options.out, tally, cfg)
            else:
                pairs = [(jobs[n], prompts[n]) for n in own]
                diffuse_all(engine, pairs, options.batch, options.out, tally, runtime.is_main)
        except UserError:
            list_skipped(options.out, tally.skipped)
            raise
        tallies = runtime.gather(tally)
        skipped = [line for each in tallies for line in each.skipped]
        if runtime.is_main:
            list_skipped(options.out, skipped)
    if runtime.is_main:
        there = len(jobs) - len(wanted)
        parts = [f"{sum(each.drawn for each in tallies)} drawn"]
        parts += [f"{there} there already"] if there else []
        parts += [f"{len(skipped)} skipped (listed in {options.out / SKIPPED})"] if skipped else []
        print(f"{', '.join(parts)}; use it by DATASET.TARGET {options.out}")
        if skipped:
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
    if options.images < 0 or options.batch < 1 or not 1 <= options.steps < MOST_STEPS:
        raise UserError(f"--images is 0 or more, --batch 1 or more, --steps 1 to {MOST_STEPS - 1}")
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


def refuse_folder(out: Path | None, dataset: SegmentationDataset, cfg: EasyDict) -> None:
    """Raise UserError without a folder to write to, and for one among files of a dataset."""
    if out is None:
        raise UserError("--out DIR: name the folder of the pseudo-target")
    refuse_overlap(out, cfg)
    resolved = out.resolve()
    for path in {each.parent for each in (*dataset.image_paths, *dataset.label_paths)}:
        folder = path.resolve()
        if resolved == folder or folder in resolved.parents:
            raise UserError(f"{out} lies among the files of {dataset.title}; give another --out")


def read_prompts_file(options: argparse.Namespace) -> Blocks | None:
    """Read the blocks and choose their variant; None where prompts are a user's own."""
    path = options.prompts or prompting.PUBLISHED
    if path.suffix.lower() == ".jsonl":
        if options.variant:
            raise UserError(f"--variant has no effect with the prompts of {path}")
        return None
    blocks = prompting.read_blocks(path)
    options.variant = blocks.choose(options.variant)
    return blocks


def draw_prompts(
    options: argparse.Namespace,
    blocks: Blocks | None,
    dataset: SegmentationDataset,
    names: list[str],
    chosen: Sequence[int],
    present: np.ndarray,
    seed: int,
) -> tuple[list[Prompt], dict[str, list[str]]]:
    """Return the prompts of the images to be drawn, in the order of their files, and what they are
    drawn from, by kind."""
    files = [names[i] for i in chosen]
    if blocks is None:
        wanted = set(files)
        own = prompting.own_prompts(options.prompts, names, seed)
        return [prompt for prompt in own if prompt.file in wanted], {}
    possible, classes = present.any(0), dataset.label_space.classes
    choices = blocks.choices(options.variant, [classes[c] for c in np.flatnonzero(possible)])
    drawn = prompting.draw_prompts(
        blocks, options.variant, files, present[list(chosen)], possible, classes, seed
    )
    return drawn, choices


def provenance(
    options: argparse.Namespace, dataset: SegmentationDataset, files: str, cfg: EasyDict
) -> dict[str, Any]:
    """Return what the images depend on, beside their prompts; `files` is a hash of the source's."""
    own = {
        "source": f"{dataset.name}:{dataset.split}",
        "files": files,
        "engine": options.engine,
        "seed": cfg.SEED,
    }
    if options.engine == "diffusion":
        folder = Path(options.model)
        own["model"] = str(folder.resolve()) if folder.is_dir() else options.model
        # A batch changes rounding only.
        own |= {key: getattr(options, key) for key in Sampling._fields}
    return own


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


if __name__ == "__main__":
    run_script(main)
