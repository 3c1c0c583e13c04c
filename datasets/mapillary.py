"""Mapillary Vistas v1.2 (Neuhold et al., ICCV 2017): photographs of all sizes, world-wide."""

from pathlib import Path

from datasets.dataset import SegmentationDataset
from datasets.files import by_key, first_folder, pair


class Mapillary(SegmentationDataset):
    """`{training,validation}/images/X.jpg` and `…/labels/X.png` (palette indices 0–65)."""

    name = "mapillary"
    title = "Mapillary"
    root_setting = "MAPILLARY_DIR"
    folder = "Mapillary"
    # The table of RobustNet's published code.
    label_maps = {
        "cityscapes19": {
            **{13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6},
            **{50: 7, 30: 8, 29: 9, 27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13},
            **{61: 14, 54: 15, 58: 16, 57: 17, 52: 18},
        }
    }

    @classmethod
    def files(cls, root: Path, split: str) -> list[tuple[Path, Path]]:
        part = root / {"train": "training", "val": "validation"}[split]
        return pair(
            by_key(first_folder(part / "images"), "*", ".jpg"),
            by_key(first_folder(part / "labels"), "*", ".png"),
        )
