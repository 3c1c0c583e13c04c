"""Datasets by name, and where their files are."""

import re
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
from datasets.described import DescribedDataset, describe
from datasets.gtav import GTAV
from datasets.idd import IDD
from datasets.idd_lite import IDDLite
from datasets.label_spaces import LabelSpace, coarsening
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


# Datasets that files describe, by name.
DESCRIBED: dict[str, type[DescribedDataset]] = {}
# Settings of methods below DATASET that name images without labels.
UNLABELLED = ("TARGET", "WILD")
FILE = re.compile(r"(.+\.json)(:[^:/]*)?", re.IGNORECASE)


def load_settings(overrides: Mapping[str, Any]) -> EasyDict:
    """Resolve the shared settings and those of datasets, for what needs no network."""
    cfg = load(overrides, config.SETTINGS, SETTINGS)
    adopt_files(cfg)
    return cfg


def adopt_files(cfg: EasyDict) -> None:
    """Make the datasets of DATASET.FILES known, and of files in place of names, which get names."""
    files = list(cfg.DATASET.FILES)
    for file in files:
        _adopt(file)

    def plain(domain: str) -> str:
        if not (file := FILE.fullmatch(domain)):
            return domain
        files.append(file[1])
        return dataset_class(file[1]).name + (file[2] or "")

    cfg.DATASET.SOURCE = [plain(name) for name in cfg.DATASET.SOURCE]
    cfg.DATASET.VALIDATION = domains = [plain(name) for name in cfg.DATASET.VALIDATION]
    for domain in domains:
        if domains.count(domain) > 1:
            raise UserError(f"DATASET.VALIDATION names {domain} twice; name each domain once")
    cfg.VALID.BEST_ON = plain(cfg.VALID.BEST_ON)
    for key in (key for key in UNLABELLED if key in cfg.DATASET):
        cfg.DATASET[key] = plain(cfg.DATASET[key])
    cfg.DATASET.FILES = list(dict.fromkeys(str(Path(file).resolve()) for file in files))


def _adopt(file: str) -> type[DescribedDataset]:
    found = describe(Path(file), label_spaces())
    known = DATASETS.get(found.name) or DESCRIBED.get(found.name)
    if known and Path(getattr(known, "file", "")).resolve() != Path(file).resolve():
        where = getattr(known, "file", "this project")
        raise UserError(f"{file}: the name {found.name} is taken by a dataset of {where}")
    space = found.label_space
    for other in (*DATASETS.values(), *DESCRIBED.values()):
        if other.name != found.name:
            coarsening(space, other.label_space)  # refuses two label spaces of one name
    DESCRIBED[found.name] = found
    return found


def label_spaces() -> dict[str, LabelSpace]:
    """Return the label spaces that datasets are annotated in, by name."""
    return {d.label_space.name: d.label_space for d in (*DATASETS.values(), *DESCRIBED.values())}


def label_space(name: str) -> LabelSpace:
    """Return the label space called `name`; UserError with the known names otherwise."""
    known = label_spaces()
    if name not in known:
        raise unknown_name("label space", name, known)
    return known[name]


def dataset_class(name: str) -> type[SegmentationDataset]:
    """Return the dataset called `name`, or that a file `name` describes; UserError, with the known
    names, for another."""
    if FILE.fullmatch(name):
        return _adopt(name)
    known = DATASETS | DESCRIBED
    if name not in known:
        error = unknown_name("dataset", name, known)
        raise UserError(f"{error}; a dataset of your own is named by its JSON file")
    return known[name]


def build_dataset(name: str, split: str, cfg: Any, **options: Any) -> SegmentationDataset:
    """Return a split of the dataset `name`; `options` go to the constructor, before settings."""
    dataset = dataset_class(name)
    return dataset(dataset.find_root(cfg), split, **(dataset.options(cfg) | options))


def parse_domain(text: str, split: str = "val") -> tuple[str, str]:
    """Split NAME or NAME:SPLIT into name and split, by default `split`; a name may be a file."""
    file = FILE.fullmatch(text)
    name, colon, own = (file[1], file[2], (file[2] or "")[1:]) if file else text.partition(":")
    if colon and not own:
        raise UserError(f"{text} names no split behind the colon")
    return name, own or split


def is_seen(domain: str, sources: Sequence[str]) -> bool:
    """Whether a domain NAME[:SPLIT] is of a dataset that was trained on, of a part of one or of one
    that holds it (ACDC and its conditions)."""
    name = parse_domain(domain)[0]
    # The file that described a source may be gone: then its name is all that is known.
    known = DATASETS | DESCRIBED
    own, trained = known.get(name), [known[source] for source in sources if source in known]
    return name in sources or any(
        own and (issubclass(own, source) or issubclass(source, own)) for source in trained
    )
