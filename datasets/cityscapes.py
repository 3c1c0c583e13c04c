"""Cityscapes (Cordts et al., CVPR 2016): 2048×1024 photographs of German and Swiss cities."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key, first_folder
from datasets.label_spaces import CITYSCAPES_IDS


class Cityscapes(SegmentationDataset):
    """`leftImg8bit/{split}/{city}` and `gtFine/…`, as downloaded or in `*_trainvaltest` folders."""

    name = "cityscapes"
    title = "Cityscapes"
    root_setting = "CITYSCAPES_DIR"
    folder = "Cityscapes"
    settings = {"DATASET": {"CITYSCAPES_DIR": root("Cityscapes", "Cityscapes")}}
    published_counts = {"train": 2975, "val": 500}
    file_numbers = frozenset(range(34))
    label_maps = {"cityscapes19": CITYSCAPES_IDS}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        def files(part: str, ending: str) -> dict[str, Path]:
            inner = root / f"{part}_trainvaltest"
            return by_key(first_folder(inner / part / split, root / part / split), "*/*", ending)

        images = files("leftImg8bit", "_leftImg8bit.png")
        return Listing(images, lambda: files("gtFine", "_gtFine_labelIds.png"))
