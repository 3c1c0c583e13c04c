"""Surveys: what a method learns from source images between two steps, without a gradient.

The processes share the images out. A survey comes before its step, so that a run that was cut off
in it begins it anew; what it finds is in the method's buffers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from easydict import EasyDict
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.sampling.passes import PassSamples, SourcePass
from datasets.sampling.source import Sources
from network.methods import Method
from network.methods.method import Findings
from utils.engine.interruption import data_from
from utils.engine.runtime import Runtime
from utils.errors import memory_for
from utils.processes import share_statistics
from utils.seeding import stable_seed

PAUSE_EVERY = 8  # batches; processes wait for one another there


@torch.no_grad()
@memory_for(
    "a survey of source images",
    "smaller images (scripts/resize_dataset.py) or a smaller TRAIN.BATCH_PER_PROCESS need less",
)
def run_survey(
    method: Method,
    due: SourcePass,
    source: Sources,
    cfg: EasyDict,
    runtime: Runtime,
    step: int,
    pause: Callable[[], None],
) -> Findings:
    """Let a method (the bare module) survey the sources before a step; return what it found.

    The network is in evaluation mode, with the running statistics of the main process, in float32.
    What a method draws for a batch depends on the batch, the seed and the step alone. `pause` is
    called now and then, in all processes alike, and may raise.
    """
    share_statistics(method)
    method.eval()
    samples = PassSamples(source, due.whole, step * cfg.TRAIN.BATCH_SIZE)
    sizes = [len(dataset) for dataset in source.datasets]
    keys = due.keys(sizes, (stable_seed("survey", cfg.SEED), step))
    own = keys[runtime.rank :: runtime.world_size]
    images = 1 if due.whole else cfg.TRAIN.BATCH_PER_PROCESS
    loader = DataLoader(
        samples,
        batch_size=images,
        sampler=own,
        num_workers=min(cfg.WORKERS, len(own)),
        pin_memory=runtime.device.type == "cuda",
    )
    common = len(keys) // runtime.world_size // images  # batches that every process has

    def seeded(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for number, batch in enumerate(batches):
            if number < common and number % PAUSE_EVERY == 0:
                pause()
            torch.manual_seed(stable_seed("survey", cfg.SEED, step, int(batch["place"][0])))
            batch = runtime.to_device(batch)
            yield batch if due.whole else samples.source.finish(batch)

    with data_from(loader) as batches:
        shown = tqdm(
            batches,
            desc="survey",
            total=len(loader),
            leave=False,
            disable=None if runtime.is_main else True,
        )
        return method.survey(seeded(shown), len(keys))
