"""Cityscapes (Cordts et al., CVPR 2016): 2048×1024 photographs of German and Swiss cities."""

from pathlib import Path

from datasets.dataset import SegmentationDataset
from datasets.files import by_key, first_folder, pair
from datasets.label_spaces import CITYSCAPES_IDS


class Cityscapes(SegmentationDataset):
    """`leftImg8bit/{split}/{city}` and `gtFine/…`, as downloaded or in `*_trainvaltest` folders."""

    name = "cityscapes"
    title = "Cityscapes"
    root_setting = "CITYSCAPES_DIR"
    folder = "Cityscapes"
    label_maps = {"cityscapes19": CITYSCAPES_IDS}

    @classmethod
    def files(cls, root: Path, split: str) -> list[tuple[Path, Path]]:
        images = first_folder(
            root / "leftImg8bit_trainvaltest" / "leftImg8bit" / split, root / "leftImg8bit" / split
        )
        labels = first_folder(
            root / "gtFine_trainvaltest" / "gtFine" / split, root / "gtFine" / split
        )
        return pair(
            by_key(images, "*/*", "_leftImg8bit.png"), by_key(labels, "*/*", "_gtFine_labelIds.png")
        )
