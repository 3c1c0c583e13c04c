"""IDD-Lite (Varma et al., WACV 2019; the small release): 320×227, Indian streets, 7 groups."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key
from datasets.label_spaces import identity, of_palette

# The level-1 groups of the India Driving Dataset.
IDD_LITE7 = of_palette(
    "idd_lite7",
    {
        "drivable": (128, 64, 128),
        "non-drivable": (244, 35, 232),
        "living thing": (220, 20, 60),
        "vehicle": (0, 0, 142),
        "roadside object": (220, 220, 0),
        "far object": (70, 70, 70),
        "sky": (70, 130, 180),
    },
    {
        "cityscapes19": {
            "drivable": ("road",),
            "non-drivable": ("sidewalk", "terrain"),
            "living thing": ("person", "rider"),
            "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
            "roadside object": ("wall", "fence", "pole", "traffic light", "traffic sign"),
            "far object": ("building", "vegetation"),
            "sky": ("sky",),
        }
    },
)


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
        return Listing(images, lambda: by_key(root / "gtFine" / split, "*/*", "_label.png"))
