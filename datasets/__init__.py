"""Datasets by name, and where their files are."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

import config
from datasets.acdc import ACDC, ACDCFog, ACDCNight, ACDCRain, ACDCSnow
from datasets.bdd100k import BDD100K
from datasets.camvid import CamVid
from datasets.cityscapes import Cityscapes
from datasets.dataset import SegmentationDataset
from datasets.gtav import GTAV
from datasets.idd import IDD
from datasets.idd_lite import IDDLite
from datasets.mapillary import Mapillary
from datasets.synthia import Synthia
from utils.errors import UserError, unknown_name
from utils.settings import load, merge

DATASETS: dict[str, type[SegmentationDataset]] = {
    dataset.name: dataset
    for dataset in (
        *(GTAV, Synthia, Cityscapes, BDD100K, Mapillary, IDD),
        *(ACDC, ACDCFog, ACDCNight, ACDCRain, ACDCSnow),
        *(CamVid, IDDLite),
    )
}


# What all of them declare; the conditions of ACDC share one declaration.
SETTINGS = merge(*{id(each.settings): each.settings for each in DATASETS.values()}.values())


def load_settings(overrides: Mapping[str, Any]) -> EasyDict:
    """Resolve the shared settings and those of datasets, for what needs no network."""
    return load(overrides, config.SETTINGS, SETTINGS)


def dataset_class(name: str) -> type[SegmentationDataset]:
    """Return the class registered as `name`; UserError with the known names otherwise."""
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def find_root(dataset: type[SegmentationDataset], cfg: Any) -> Path:
    """Return a dataset's root: its setting, else DATASET.ROOT, else the environment variable."""
    key = dataset.root_setting
    if cfg.DATASET[key]:
        return Path(cfg.DATASET[key])
    if cfg.DATASET.ROOT:
        return Path(cfg.DATASET.ROOT) / dataset.folder
    if os.environ.get(key):
        return Path(os.environ[key])
    raise UserError(
        f"where is {dataset.title}? Set DATASET.{key} or the environment variable {key} to its "
        f"root, or DATASET.ROOT to the folder that holds {dataset.folder}"
    )


def build_dataset(name: str, split: str, cfg: Any, **options: Any) -> SegmentationDataset:
    """Return a split of the dataset `name`; `options` go to the constructor, before settings."""
    dataset = dataset_class(name)
    return dataset(find_root(dataset, cfg), split, **(dataset.options(cfg) | options))


def parse_domain(text: str) -> tuple[str, str]:
    """Split NAME or NAME:SPLIT into name and split; the split is val by default."""
    name, _, split = text.partition(":")
    return name, split or "val"


def is_seen(domain: str, sources: Sequence[str]) -> bool:
    """Whether a domain NAME[:SPLIT] is of a dataset that was trained on, of a part of one or of one
    that holds it (ACDC and its conditions)."""
    own = dataset_class(parse_domain(domain)[0])
    trained = [dataset_class(name) for name in sources]
    return any(issubclass(own, source) or issubclass(source, own) for source in trained)
