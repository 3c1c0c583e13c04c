"""IDD-Lite (Varma et al., WACV 2019; the small release): 320×227, Indian streets, 7 groups."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key
from datasets.label_spaces import IDD_LITE7, identity


class IDDLite(SegmentationDataset):
    """`leftImg8bit/{split}/{drive}/X_image.jpg` and `gtFine/{split}/{drive}/X_label.png`."""

    name = "idd_lite"
    title = "IDD-Lite"
    root_setting = "IDD_LITE_DIR"
    folder = "idd_lite"
    settings = {"DATASET": {"IDD_LITE_DIR": root("IDD-Lite", "idd_lite")}}
    label_space = IDD_LITE7
    published_counts = {"train": 1403, "val": 204}
    file_numbers = frozenset({*range(7), 255})
    label_maps = {"idd_lite7": identity(IDD_LITE7)}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images = by_key(root / "leftImg8bit" / split, "*/*", "_image.jpg")
        return Listing(images, by_key(root / "gtFine" / split, "*/*", "_label.png"))
