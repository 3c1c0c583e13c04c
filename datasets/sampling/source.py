"""The source domains of training: datasets with a transform, and the sampling order."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor
from torch.utils.data import Sampler

from datasets import build_dataset, dataset_class, label_space
from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace, coarsening
from datasets.photographs import Stream, Unlabelled
from datasets.sampling.rare_classes import RareClassSampler
from datasets.sampling.samplers import (
    ClassUniformSampler,
    EndlessOrder,
    EqualParts,
    Key,
    ProportionalParts,
)
from datasets.sampling.survey import Survey, refuse_unusable, remarks, survey_split
from transforms import Colours, TrainTransform
from utils.errors import UserError
from utils.processes import barrier, rank, world_size


class Sources(torch.utils.data.Dataset):
    """One or several source domains of one label space and transform, as one dataset.

    An index counts through the sources one after the other; a sample has that `index`, and the
    number of its source as `domain`. Under the name of each of the method's `streams` it holds the
    sample that the stream has at the same position.
    """

    def __init__(
        self,
        datasets: Sequence[SegmentationDataset],
        streams: Mapping[str, Unlabelled] | None = None,
        coloured: Callable[[int, int], bool] | None = None,
        other: TrainTransform | None = None,
    ):
        """`coloured(position, domain)` says which samples the `other` transform makes."""
        self.datasets, self.streams = list(datasets), dict(streams or {})
        self.coloured = coloured
        self.others = [copy(dataset) for dataset in self.datasets] if other else []
        for dataset in self.others:
            dataset.transform = other
        self.ends = list(accumulate(map(len, self.datasets)))
        self.label_space = self.datasets[0].label_space
        self.transform = self.datasets[0].transform

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Read the sample of a key (position, index, aim)."""
        position, index, aim = key
        domain = bisect_right(self.ends, index)
        own = index - self.ends[domain] + len(self.datasets[domain])
        further = {name: stream.sample(position) for name, stream in self.streams.items()}
        other = self.coloured is not None and self.coloured(position, domain)
        dataset = (self.others if other else self.datasets)[domain]
        return dataset[position, own, aim] | {"index": index} | further

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do on the device what the transforms of the sources and streams leave to it."""
        own = {name: stream.transform.finish(batch[name]) for name, stream in self.streams.items()}
        return self.transform.finish(batch) | own

    def indices(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return which images a batch has, by stream; "source" is the sources'."""
        return {"source": batch["index"]} | {name: batch[name]["index"] for name in self.streams}

    def files(self, indices: dict[str, Tensor]) -> list[Path]:
        """Return the images of `indices`."""
        paths = {"source": [path for dataset in self.datasets for path in dataset.image_paths]}
        paths |= {name: stream.image_paths for name, stream in self.streams.items()}
        return [paths[name][i] for name, own in indices.items() for i in own.tolist()]

    def describe(self) -> str:
        """Name sources and streams with their numbers of images, for the log."""
        text = " + ".join(f"{dataset.title} ({len(dataset)} images)" for dataset in self.datasets)
        return text + "".join(
            f", {name} {stream.title} ({len(stream)} images, no labels)"
            for name, stream in self.streams.items()
        )


def open_source(
    cfg: EasyDict,
    device: str,
    start: int = 0,
    streams: Mapping[str, Stream] | None = None,
    colours: Colours | None = None,
    step: int = 0,
    repeats: bool = False,
) -> tuple[Sources, Sampler[Key]]:
    """Open the training splits of DATASET.SOURCE, sampled as DATASET.SAMPLING says, and streams.

    `device` is the type of the device that trains ("cpu", "cuda"). `start` is the number of samples
    that the `step` steps of a run that is continued have drawn. Each source is surveyed: the main
    process reads its labels; the others wait and read its cache. UserError for no source, one that
    is named twice (unless it `repeats`), sources without a common label space, and one that cannot
    be trained on.
    """
    names = cfg.DATASET.SOURCE
    repeated = [name for name in names if names.count(name) > 1 and not repeats]
    if repeated or not names:
        what = f"{repeated[0]} twice" if repeated else "no dataset to train on"
        raise UserError(f"DATASET.SOURCE names {what}; change --dataset")
    space = common_label_space(cfg)
    where = cfg.TRANSFORM.PHOTOMETRIC_ON
    on_device = where == "device" or (where == "auto" and device == "cuda")
    transform = TrainTransform(cfg, on_device)
    options = {"label_space": space, "transform": transform, "seed": cfg.SEED}
    sources = Sources(
        [build_dataset(name, "train", cfg, domain=d, **options) for d, name in enumerate(names)],
        {name: Unlabelled(name, stream, cfg) for name, stream in (streams or {}).items()},
        colours and partial(_coloured, colours, start, step, cfg.TRAIN.BATCH_SIZE),
        colours and TrainTransform(cfg, on_device, colours),
    )
    number = len(names)
    equal = cfg.DATASET.MIXING == "equal"
    if equal and start % number:
        raise UserError(
            f"{start} samples were drawn so far, which are no equal parts of {number} domains; "
            "resume with the sources of the run, or start a new one with --init"
        )
    # Processes share out a joint order as a whole; each source then gives its epochs only.
    place = (rank(), world_size())
    own_place = (*place, start // number) if equal else (0, 1, 0)
    samplers: list[EndlessOrder] = []
    for domain, dataset in enumerate(sources.datasets):
        found = _survey(dataset, cfg)
        where = (cfg.SEED, *own_place, domain)
        if cfg.DATASET.SAMPLING == "rare_class":
            options = (cfg.DATASET.RARE_CLASS_TEMPERATURE, cfg.DATASET.RARE_CLASS_PIXELS)
            samplers.append(RareClassSampler(found.class_pixels(dataset), *options, *where))
        else:
            random = cfg.DATASET.SAMPLING == "random"
            fraction = 0 if random else cfg.DATASET.CLASS_UNIFORM_FRACTION
            centroids = found.centroids(len(sources.label_space))
            samplers.append(ClassUniformSampler(len(dataset), fraction, centroids, *where))
    if equal:
        return sources, EqualParts(samplers)
    return sources, ProportionalParts(samplers, cfg.SEED, *place, start)


def _coloured(
    colours: Colours, start: int, step: int, batch: int, position: int, domain: int
) -> bool:
    """Whether a sample has other colours; step `step` begins at the position `start`."""
    return colours.applies(step + (position - start) // batch, domain)


def common_label_space(cfg: EasyDict) -> LabelSpace:
    """Return the label space that all sources are trained in.

    DATASET.LABEL_SPACE, else the one that all are annotated in. UserError, naming one that would
    do, where they differ.
    """
    if cfg.DATASET.LABEL_SPACE:
        return label_space(cfg.DATASET.LABEL_SPACE)
    sources = [dataset_class(name) for name in cfg.DATASET.SOURCE]
    first = sources[0]
    for other in sources[1:]:
        if other.label_space == first.label_space:
            continue
        spaces = (first.label_space, other.label_space)
        way = "leave one out"
        for coarse in reversed(spaces):
            if all(coarsening(fine, coarse) is not None for fine in spaces):
                way = f"train in one for all: DATASET.LABEL_SPACE {coarse.name}"
        raise UserError(
            f"{first.title} is annotated in {spaces[0].name} and {other.title} in "
            f"{spaces[1].name}; {way}"
        )
    return first.label_space


def _survey(dataset: SegmentationDataset, cfg: EasyDict) -> Survey:
    """Survey a source, the main process first, and say what is unusual about it."""
    if rank() > 0:
        barrier()
    settings = cfg.DATASET
    found = survey_split(dataset, settings.CLASS_UNIFORM_TILE, settings.CACHE_DIR, cfg.WORKERS)
    if rank() == 0:
        barrier()
        for line in remarks(dataset, found):
            print(f"note: {line}", file=sys.stderr)
    refuse_unusable(dataset, found)
    return found
