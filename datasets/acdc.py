"""ACDC (Sakaridis et al., ICCV 2021): 1920×1080 in fog, at night, in rain and in snow."""

from pathlib import Path
from typing import ClassVar

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key, first_folder
from datasets.label_spaces import CITYSCAPES19, identity


class ACDC(SegmentationDataset):
    """`rgb_anon/{condition}/{split}/{drive}` and `gt/…`, at the root or where the zips unpack to.

    All conditions together; a subclass is one of them as a domain of its own.
    """

    name = "acdc"
    title = "ACDC"
    root_setting = "ACDC_DIR"
    folder = "ACDC"
    settings = {"DATASET": {"ACDC_DIR": root("ACDC, for acdc and each of its conditions", "ACDC")}}
    conditions: ClassVar[tuple[str, ...]] = ("fog", "night", "rain", "snow")
    published_counts = {"train": 1600, "val": 406}
    file_numbers = frozenset({*range(19), 255})
    label_maps = {"cityscapes19": identity(CITYSCAPES19)}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images = first_folder(root / "rgb_anon", root / "rgb_anon_trainvaltest" / "rgb_anon")

        def files(folder: Path, ending: str) -> dict[str, Path]:
            found: dict[str, Path] = {}
            for condition in cls.conditions:
                found |= by_key(folder, f"{condition}/{split}/*/*", ending)
            return found

        def labels() -> dict[str, Path]:
            folder = first_folder(root / "gt", root / "gt_trainval" / "gt")
            return files(folder, "_gt_labelTrainIds.png")

        return Listing(files(images, "_rgb_anon.png"), labels)


class ACDCFog(ACDC):
    """The images of ACDC in fog."""

    name, title, conditions = "acdc_fog", "ACDC fog", ("fog",)
    published_counts = {"train": 400, "val": 100}


class ACDCNight(ACDC):
    """The images of ACDC at night."""

    name, title, conditions = "acdc_night", "ACDC night", ("night",)
    published_counts = {"train": 400, "val": 106}


class ACDCRain(ACDC):
    """The images of ACDC in rain."""

    name, title, conditions = "acdc_rain", "ACDC rain", ("rain",)
    published_counts = {"train": 400, "val": 100}


class ACDCSnow(ACDC):
    """The images of ACDC in snow."""

    name, title, conditions = "acdc_snow", "ACDC snow", ("snow",)
    published_counts = {"train": 400, "val": 100}
