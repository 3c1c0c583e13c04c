"""Evaluating a method on a domain: confusion matrix, measures, and what they were measured on."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from datasets import build_dataset, dataset_class, parse_domain
from datasets.dataset import SegmentationDataset
from datasets.files import read_header
from datasets.label_spaces import LabelSpace, coarsening
from network.inference import predict, scaled_size
from network.methods import Method
from transforms import EvalTransform
from transforms.protocols import PROTOCOLS
from utils.engine.interruption import start_workers
from utils.engine.runtime import Runtime, varying_sizes
from utils.errors import UserError, memory_for
from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures
from utils.processes import sum_over_processes

SMALLEST_WINDOW = 16  # pixels; features of one are one pixel
PAUSE_EVERY = 8  # batches; processes wait for one another there


def open_domain(domain: str, cfg: EasyDict, space: LabelSpace) -> SegmentationDataset:
    """Open `NAME[:SPLIT]` for evaluating predictions in the label space `space`.

    A domain annotated in a coarser space is evaluated there, predictions being mapped after the
    argmax; otherwise its labels are mapped to `space`. UserError where no table leads either way,
    and for images above VALID.MAX_PIXELS.
    """
    name, split = parse_domain(domain)
    native = dataset_class(name).label_space
    evaluated = space if coarsening(space, native) is None else native
    options: dict[str, Any] = {"transform": EvalTransform(cfg.VALID.PROTOCOL, name)}
    label_maps = PROTOCOLS[cfg.VALID.PROTOCOL].label_maps
    if name in label_maps:
        options["label_map"] = label_maps[name]
    dataset = build_dataset(name, split, cfg, label_space=evaluated, **options)
    refuse_large_images(dataset, cfg)
    return dataset


def sliding_windows(cfg: EasyDict) -> tuple[int, int]:
    """Return (crop, stride) of VALID.SLIDING, or those that the protocol implies; 0 for none."""
    crop, stride = cfg.VALID.SLIDING
    if 0 < crop < SMALLEST_WINDOW:
        raise UserError(
            f"VALID.SLIDING is {crop} {stride}: windows have {SMALLEST_WINDOW} pixels or more"
        )
    if crop and not 0 < stride <= crop:
        raise UserError(
            f"VALID.SLIDING is {crop} {stride}: windows of {crop} pixels need a stride between 1 "
            f"and {crop}, or pixels between them would be left out"
        )
    return (crop, stride) if crop else PROTOCOLS[cfg.VALID.PROTOCOL].windows


def describe_protocol(cfg: EasyDict) -> str:
    """Say in words how predictions are made and evaluated, for every result."""
    parts = [cfg.VALID.PROTOCOL]
    crop, stride = sliding_windows(cfg)
    if crop:
        parts.append(f"windows of {crop} with stride {stride}")
    if list(cfg.VALID.SCALES) != [1.0]:
        parts.append("scales " + " ".join(f"{scale:g}" for scale in cfg.VALID.SCALES))
    if cfg.VALID.FLIP:
        parts.append("flip")
    return ", ".join(parts)


def refuse_large_images(dataset: SegmentationDataset, cfg: EasyDict) -> None:
    """Raise UserError if the largest image of a dataset is above VALID.MAX_PIXELS.

    Sizes are read from the headers of the files, so that it is known before hours of training or
    evaluating.
    """
    crop, _ = sliding_windows(cfg)
    if not cfg.VALID.MAX_PIXELS or 0 < crop**2 <= cfg.VALID.MAX_PIXELS:
        return
    sizes = [read_header(path)[:2] for path in dataset.image_paths]
    largest = max(range(len(sizes)), key=lambda index: math.prod(sizes[index]))
    if pixels_at_once(sizes[largest], cfg) > cfg.VALID.MAX_PIXELS:
        # The size after the protocol's own resizing is what counts.
        size = dataset[largest]["image"].shape[1:]
        check_size(size, cfg, str(dataset.image_paths[largest]))


def pixels_at_once(size: Sequence[int], cfg: EasyDict) -> int:
    """Return how many pixels of an image of `size` (h, w) the network sees at once, at most."""
    crop, _ = sliding_windows(cfg)
    height, width = scaled_size(size, max(cfg.VALID.SCALES))
    return min(height, crop or height) * min(width, crop or width)


def check_size(size: Sequence[int], cfg: EasyDict, name: str) -> None:
    """Raise UserError if an image of `size` (h, w) is above VALID.MAX_PIXELS.

    It is not cut into windows unasked: that would be another number.
    """
    pixels, limit = pixels_at_once(size, cfg), cfg.VALID.MAX_PIXELS
    if limit and pixels > limit:
        raise UserError(
            f"{name} has {size[1]}×{size[0]} pixels: the network would see {pixels} at once, and "
            f"VALID.MAX_PIXELS is {limit}; evaluate in windows (--sliding 1024 683), or raise it "
            "(0: any size) if the memory suffices"
        )


@torch.no_grad()
def evaluate(
    method: Method,
    dataset: SegmentationDataset,
    space: LabelSpace,
    cfg: EasyDict,
    runtime: Runtime,
    max_images: int = 0,
    pause: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Evaluate a method (the bare module) on a dataset of `open_domain`; return plain values.

    Scales, flip and windows are those of cfg.VALID. Every image is evaluated once, whatever the
    number of processes. `space` is the label space of the predictions; `max_images` > 0 takes that
    many images, evenly spread over the dataset. `pause` is called now and then, in all processes
    alike, and may raise. UserError for an image above VALID.MAX_PIXELS.
    """
    method.eval()
    images: Any = dataset
    if 0 < max_images < len(dataset):
        images = Subset(dataset, [i * len(dataset) // max_images for i in range(max_images)])
    loader = DataLoader(
        images,
        batch_size=cfg.VALID.BATCH_SIZE,
        sampler=range(runtime.rank, len(images), runtime.world_size),
        num_workers=min(cfg.WORKERS, len(images)),
        collate_fn=list,
        pin_memory=runtime.device.type == "cuda",
    )
    table = torch.from_numpy(coarsening(space, dataset.label_space))
    confusion = ConfusionMatrix(len(dataset.label_space), runtime.device, table)
    sizes: set[str] = set()
    # Batches that every process has.
    common = len(images) // runtime.world_size // cfg.VALID.BATCH_SIZE
    progress = tqdm(
        start_workers(loader),
        desc=dataset.title,
        total=len(loader),
        leave=False,
        # Neither in other processes nor in log files, which a bar would fill.
        disable=None if runtime.is_main else True,
    )
    for number, samples in enumerate(progress):
        if pause and number < common and number % PAUSE_EVERY == 0:
            pause()
        for group in _by_size(samples):
            check_size(group[0]["image"].shape[1:], cfg, f"an image of {dataset.title}")
            image, label = (
                torch.stack([sample[key] for sample in group]).to(runtime.device, non_blocking=True)
                for key in ("image", "label")
            )
            prediction = predict_batch(method, image, label.shape[1:], cfg, runtime)
            confusion.update(prediction, label)
            sizes.add("{}x{}".format(*reversed(label.shape[1:])))
    counts = sum_over_processes(confusion.counts).cpu().numpy()
    all_sizes = sorted(set().union(*runtime.gather(sizes)))
    return summarise(counts, dataset) | {"images": len(images), "sizes": all_sizes}


@memory_for(
    "predicting images of this size",
    "windows (--sliding 1024 683), smaller VALID.SCALES or a smaller VALID.BATCH_SIZE need less",
)
@varying_sizes()
def predict_batch(
    method: Method,
    images: Tensor,
    size: tuple[int, int],
    cfg: EasyDict,
    runtime: Runtime,
    how: Callable = predict,
) -> Any:
    """Return what `how` (of network/inference.py) makes of normalised images `[B, 3, H, W]` at
    `size`, on the device, with the scales, flip and windows of cfg.VALID."""
    images = images.to(runtime.device, memory_format=runtime.memory_format)
    options = (list(cfg.VALID.SCALES), cfg.VALID.FLIP, sliding_windows(cfg))
    with runtime.autocast():
        return how(method, images, size, *options)


def _by_size(samples: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the samples of a batch by sizes of image and label, in order of appearance."""
    groups: dict[tuple[int, ...], list] = defaultdict(list)
    for sample in samples:
        groups[(*sample["image"].shape, *sample["label"].shape)].append(sample)
    return list(groups.values())


def summarise(counts: Any, dataset: SegmentationDataset) -> dict[str, Any]:
    """Turn a confusion matrix `[K, K + 1]` into plain values: means, per class, and provenance.

    Undefined values (absent classes) are None.
    """
    values = measures(counts)
    classes = dataset.label_space.classes
    names = "\n".join(dataset.relative_list())
    per_class = {
        key: {name: _plain(x) for name, x in zip(classes, values[key], strict=True)}
        for key in ("iou", "precision", "recall")
    }
    return {
        "title": dataset.title,
        "means": {
            name: _plain(mean_iou(values["iou"], ids)) for name, ids in dataset.means.items()
        },
        "pixel_accuracy": _plain(values["pixel_accuracy"]),
        "fw_iou": _plain(values["fw_iou"]),
        **per_class,
        "confusion": counts[:, :-1].tolist(),
        "no_class": counts[:, -1].tolist(),
        "label_space": dataset.label_space.name,
        "label_map": dataset.label_map,
        "split_rule": dataset.split_rule,
        "list_sha256": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _plain(value: Any) -> float | None:
    return None if value != value else float(value)
