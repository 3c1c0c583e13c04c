"""BDD100K, semantic segmentation part (Yu et al., CVPR 2020): 1280×720 dash cameras, USA."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key, first_folder
from datasets.label_spaces import CITYSCAPES19, identity


class BDD100K(SegmentationDataset):
    """`images/{split}` or `images/10k/{split}`; `labels/{split}` or `labels/sem_seg/masks/{split}`.

    Labels are `X_train_id.png` in the older release, `X.png` in today's.
    """

    name = "bdd100k"
    title = "BDD100K"
    root_setting = "BDD_DIR"
    folder = "BDD100K"
    settings = {"DATASET": {"BDD_DIR": root("BDD100K", "BDD100K")}}
    published_counts = {"train": 7000, "val": 1000}
    file_numbers = frozenset({*range(19), 255})
    label_maps = {"cityscapes19": identity(CITYSCAPES19)}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images = first_folder(root / "images" / split, root / "images/10k" / split)

        def labels() -> dict[str, Path]:
            folder = first_folder(root / "labels" / split, root / "labels/sem_seg/masks" / split)
            return by_key(folder, "*", "_train_id.png", ".png")

        return Listing(by_key(images, "*", ".jpg"), labels)
