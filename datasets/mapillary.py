"""Mapillary Vistas (Neuhold et al., ICCV 2017), v1.2: photographs of all sizes, world-wide."""

from pathlib import Path
from typing import Any

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key, first_folder
from utils.settings import Setting


class Mapillary(SegmentationDataset):
    """`{training,validation}/images/X.jpg` and `…/labels/X.png` (palette indices 0–65).

    The v2.0 release has the same labels in `…/v1.2/labels`; its own in `…/v2.0` have other numbers.
    """

    name = "mapillary"
    title = "Mapillary"
    root_setting = "MAPILLARY_DIR"
    folder = "Mapillary"
    settings = {
        "DATASET": {
            "MAPILLARY_DIR": root("Mapillary Vistas", "Mapillary"),
            "MAPILLARY_LABEL_MAP": Setting(
                "robustnet",
                "table from Mapillary's numbers to the 19 classes; openseg has more kinds of road, "
                "pole and sign",
                choices=("robustnet", "openseg"),
            ),
        }
    }
    published_counts = {"train": 18000, "val": 2000}
    file_numbers = frozenset(range(66))
    # The table of RobustNet's published code.
    label_maps = {
        "cityscapes19": {
            **{13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6},
            **{50: 7, 30: 8, 29: 9, 27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13},
            **{61: 14, 54: 15, 58: 16, 57: 17, 52: 18},
        }
    }
    default_label_map = "robustnet"
    # The table of the published evaluations with an open vocabulary: bike lanes, crossings, parking
    # and the like are road, and the backs and frames of signs are signs.
    other_label_maps = {
        "openseg": {
            "cityscapes19": {
                **{7: 0, 8: 0, 10: 0, 13: 0, 14: 0, 23: 0, 24: 0, 2: 1, 9: 1, 11: 1, 15: 1},
                **{17: 2, 6: 3, 3: 4, 44: 5, 45: 5, 47: 5, 48: 6, 46: 7, 49: 7, 50: 7},
                **{30: 8, 29: 9, 27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13},
                **{61: 14, 54: 15, 58: 16, 57: 17, 52: 18},
            }
        }
    }

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        part = root / {"train": "training", "val": "validation"}[split]
        images = by_key(part / "images", "*", ".jpg")

        def labels() -> dict[str, Path]:
            return by_key(first_folder(part / "labels", part / "v1.2" / "labels"), "*", ".png")

        return Listing(images, labels)

    @classmethod
    def options(cls, cfg: Any) -> dict[str, Any]:
        return {"label_map": cfg.DATASET.MAPILLARY_LABEL_MAP}
