"""Judging a method on a domain: confusion matrix, measures, and what they were measured on."""

import hashlib
from collections import defaultdict
from typing import Any

import torch
from easydict import EasyDict
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from datasets import build_dataset, dataset_class, parse_domain
from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace, coarsening
from datasets.sampling import SequentialShard
from network.methods import Method
from transforms import EvalTransform
from transforms.protocols import SLIDING
from utils.distributed import Runtime
from utils.errors import UserError
from utils.inference import predict
from utils.metrics import ConfusionMatrix, mean_iou, measures


def open_domain(domain: str, cfg: EasyDict, space: LabelSpace) -> SegmentationDataset:
    """Open `NAME[:SPLIT]` for judging predictions in the label space `space`.

    A domain annotated in a coarser space is judged there, predictions being mapped after the
    argmax; otherwise its labels are mapped to `space`. UserError where no table leads either way.
    """
    name, split = parse_domain(domain)
    native = dataset_class(name).label_space
    judged = space if coarsening(space, native) is None else native
    options: dict[str, Any] = {"transform": EvalTransform(cfg.VALID.PROTOCOL, name)}
    if cfg.VALID.PROTOCOL == "openseg" and name == "mapillary":
        options["label_map"] = "openseg"
    return build_dataset(name, split, cfg, label_space=judged, **options)


def sliding_windows(cfg: EasyDict) -> tuple[int, int]:
    """Return (crop, stride) of VALID.SLIDING, or those that the protocol implies; 0 for none."""
    crop, stride = cfg.VALID.SLIDING
    if crop and not 0 < stride <= crop:
        raise UserError(
            f"VALID.SLIDING is {crop} {stride}: windows of {crop} pixels need a stride between 1 "
            f"and {crop}, or pixels between them would be left out"
        )
    return (crop, stride) if crop else SLIDING.get(cfg.VALID.PROTOCOL, (0, 0))


def describe_protocol(cfg: EasyDict) -> str:
    """Say in words how predictions are made and judged, for every result."""
    parts = [cfg.VALID.PROTOCOL]
    crop, stride = sliding_windows(cfg)
    if crop:
        parts.append(f"windows of {crop} with stride {stride}")
    if list(cfg.VALID.SCALES) != [1.0]:
        parts.append("scales " + " ".join(f"{scale:g}" for scale in cfg.VALID.SCALES))
    if cfg.VALID.FLIP:
        parts.append("flip")
    return ", ".join(parts)


@torch.no_grad()
def evaluate(
    method: Method,
    dataset: SegmentationDataset,
    space: LabelSpace,
    cfg: EasyDict,
    runtime: Runtime,
    max_images: int = 0,
) -> dict[str, Any]:
    """Judge a method (the bare module) on a dataset of `open_domain`; return plain values.

    Scales, flip and windows are those of cfg.VALID. Every image is judged once, whatever the number
    of processes. `space` is the label space of the predictions; `max_images` > 0 takes that many
    images, evenly spread over the dataset.
    """
    method.eval()
    images: Any = dataset
    if 0 < max_images < len(dataset):
        images = Subset(dataset, [i * len(dataset) // max_images for i in range(max_images)])
    loader = DataLoader(
        images,
        batch_size=cfg.VALID.BATCH_SIZE,
        sampler=SequentialShard(len(images), runtime.rank, runtime.world_size),
        num_workers=min(cfg.WORKERS, len(images)),
        collate_fn=list,
        pin_memory=runtime.device.type == "cuda",
    )
    table = torch.from_numpy(coarsening(space, dataset.label_space)).long().to(runtime.device)
    scales, windows = list(cfg.VALID.SCALES), sliding_windows(cfg)
    confusion = ConfusionMatrix(len(dataset.label_space), runtime.device)
    sizes: set[str] = set()
    for samples in tqdm(loader, desc=dataset.title, leave=False, disable=not runtime.is_main):
        for group in _by_size(samples):
            stacked = {key: torch.stack([s[key] for s in group]) for key in ("image", "label")}
            batch = runtime.to_device(stacked)
            labels = batch["label"]
            with runtime.autocast():
                prediction = predict(
                    method, batch["image"], labels.shape[1:], scales, cfg.VALID.FLIP, windows
                )
            confusion.update(table[prediction], labels)
            sizes.add("{}x{}".format(*reversed(labels.shape[-2:])))
    counts = runtime.sum(confusion.counts).cpu().numpy()
    return summarise(counts, dataset) | {"images": len(images), "sizes": sorted(sizes)}


def _by_size(samples: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the samples of a batch by image size, in order of appearance."""
    groups: dict[tuple[int, ...], list] = defaultdict(list)
    for sample in samples:
        groups[tuple(sample["image"].shape)].append(sample)
    return list(groups.values())


def summarise(counts: Any, dataset: SegmentationDataset) -> dict[str, Any]:
    """Turn a confusion matrix `[K, K]` into plain values: means, per class, and provenance.

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
        "confusion": counts.tolist(),
        "label_space": dataset.label_space.name,
        "label_map": dataset.label_map,
        "split_rule": dataset.split_rule,
        "list_sha256": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _plain(value: Any) -> float | None:
    return None if value != value else float(value)
