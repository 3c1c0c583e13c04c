"""What the style of a domain costs a checkpoint: its features of layer 0 at other statistics.

    python -m studies.moved_styles [--style NAME:SPLIT] --snapshot PATH --val_dataset gtav camvid …
        [arguments of valid.py]

Evaluates a network on each domain as it is, with the domain's mean statistics moved to those of a
style, by default of the first domain, and with each image's own moved there. A difference of the
first two is what the domain's look costs, by itself, on unchanged weights; one of the last two is
what the statistics of single images say about their contents. Prints a table.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.reporting import markdown_table
from network.build import build_method
from network.checkpoint import load_checkpoint
from network.regions.statistics import moments, widened
from utils.engine.runtime import open_runtime
from utils.errors import UserError, run_script, unknown_name
from utils.evaluate.evaluation import evaluate
from utils.evaluate.jobs import open_jobs, parse_valid

# mIoU by domain; None where no class is there.
Scores = dict[str, float | None]
# Mean and standard deviation of channels, `[B or 1, C, 1, 1]`.
Style = tuple[Tensor, Tensor]


def main() -> None:
    """Evaluate, measure, evaluate twice more, and print."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--style", help="domain whose statistics are taken; default: the first")
    own, words = parser.parse_known_args(sys.argv[1:])
    job, *more = open_jobs(parse_valid(words))
    if more:
        raise UserError("give one checkpoint")
    style = own.style or next(iter(job.domains))
    if style not in job.domains:
        raise unknown_name("domain", style, list(job.domains))
    valid = job.cfg.VALID
    if any(valid.SLIDING) or list(valid.SCALES) != [1.0] or valid.FLIP:
        raise UserError(
            "statistics are those of whole images, seen once: leave out --sliding, --scales, --flip"
        )
    with open_runtime(job.cfg) as runtime:
        if runtime.world_size > 1:
            raise UserError("the statistics of a domain are measured in one process: start one")
        runtime = replace(runtime, precision=job.cfg.PRECISION, channels_last=job.cfg.CHANNELS_LAST)
        method, space = build_method(job.cfg, load_checkpoint(job.path))
        stem = method.trunk.layer0.modules()
        if method.after or any(isinstance(own, nn.InstanceNorm2d) for own in stem):
            raise UserError(
                f"{job.path}: {job.cfg.METHOD} takes the style of layer 0 away itself, by style "
                "elimination or an instance norm; give another checkpoint"
            )
        method.to(runtime.device, memory_format=runtime.memory_format)

        def scores(change: Callable[[str], Callable[[Tensor], Tensor]]) -> Scores:
            found = {}
            for name, domain in job.domains.items():
                method.after = {0: change(name)}
                found[name] = evaluate(method, domain, space, job.cfg, runtime)["means"]["mIoU"]
            return found

        seen: dict[str, list[Style]] = {name: [] for name in job.domains}

        def watched(name: str) -> Callable[[Tensor], Tensor]:
            def watch(features: Tensor) -> Tensor:
                seen[name].append(style_of(features))
                return features

            return watch

        plain = scores(watched)
        styles = {name: mean_style(own) for name, own in seen.items()}
        goal = styles[style]
        by_domain = scores(lambda name: lambda x: moved(x, styles[name], goal))
        by_image = scores(lambda name: lambda x: moved(x, style_of(x), goal))
    rows = []
    for name, own in styles.items():
        mean, deviation = distance(own, goal)
        found = (score[name] for score in (plain, by_domain, by_image))
        cells = ("-" if own is None else f"{100 * own:.1f}" for own in found)
        rows.append([name, f"{deviation:.2f}", f"{mean:.2f}", *cells])
    print(f"features of layer 0, moved to the statistics of {style}; mIoU, %\n")
    header = ["domain", "deviation / style's", "distance of means", "as it is"]
    print(markdown_table([*header, "domain moved", "images moved"], rows))


def style_of(features: Tensor) -> Style:
    """Return mean and deviation of each image's channels of `[B, C, h, w]`, float32 at least."""
    variance, mean = moments(features.to(widened(features.dtype)))
    return mean[..., None, None], variance.sqrt()[..., None, None]


def mean_style(styles: list[Style]) -> Style:
    """Return the means over images, each of which counts once, whatever its size."""
    mean, deviation = (torch.cat(part).mean(0, keepdim=True) for part in zip(*styles, strict=True))
    return mean, deviation


def moved(features: Tensor, own: Style, goal: Style) -> Tensor:
    """Return features whose statistics, `own`, become those of the goal; the same dtype."""
    return ((features - own[0]) / (own[1] + 1e-7) * goal[1] + goal[0]).to(features.dtype)


def distance(own: Style, goal: Style) -> tuple[float, float]:
    """Return the medians over channels: the distance of the means, in deviations of the goal, and
    the quotient of the deviations."""
    scale = goal[1] + 1e-7
    return float(((own[0] - goal[0]).abs() / scale).median()), float((own[1] / scale).median())


if __name__ == "__main__":
    run_script(main)
