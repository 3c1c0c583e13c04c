"""IDD, the India Driving Dataset (Varma et al., WACV 2019): 1080p and 720p, roads of India."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key, first_folder
from datasets.label_spaces import CITYSCAPES19, identity


class IDD(SegmentationDataset):
    """`leftImg8bit/{split}/{drive}` and `gtFine/…`, at the root or in `IDD_Segmentation`.

    The labels `X_gtFine_labelcsTrainIds.png` are made from the release's polygons by its authors'
    `createLabels.py --id-type csTrainId`.
    """

    name = "idd"
    title = "IDD"
    root_setting = "IDD_DIR"
    folder = "IDD"
    settings = {"DATASET": {"IDD_DIR": root("IDD (India Driving Dataset)", "IDD")}}
    published_counts = {"train": 6993, "val": 981}
    file_numbers = frozenset({*range(19), 255})
    label_maps = {"cityscapes19": identity(CITYSCAPES19)}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        inner = root / "IDD_Segmentation"
        images = first_folder(root / "leftImg8bit" / split, inner / "leftImg8bit" / split)

        def labels() -> dict[str, Path]:
            folder = first_folder(root / "gtFine" / split, inner / "gtFine" / split)
            return by_key(folder, "*/*", "_gtFine_labelcsTrainIds.png")

        return Listing(by_key(images, "*/*", "_leftImg8bit.png", "_leftImg8bit.jpg"), labels)
