"""CamVid (Brostow et al., 2009) as released with SegNet: 480×360, Cambridge, 11 classes."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key


class CamVid(SegmentationDataset):
    """`{train,val,test}/X.jpg` (or .png) and `{train,val,test}annot/X.png`."""

    name = "camvid"
    title = "CamVid"
    root_setting = "CAMVID_DIR"
    folder = "camvid"
    settings = {"DATASET": {"CAMVID_DIR": root("CamVid (SegNet release)", "camvid")}}
    splits = ("train", "val", "test")
    published_counts = {"train": 367, "val": 101, "test": 233}
    file_numbers = frozenset(range(12))
    # 10, bicyclist, is rider and bicycle in one: a bicycle in the 19 classes, and void in the
    # groups, which tell living things from vehicles.
    label_maps = {
        "cityscapes19": {0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 18},
        "idd_lite7": {0: 6, 1: 5, 2: 4, 3: 0, 4: 1, 5: 5, 6: 4, 7: 4, 8: 3, 9: 2},
    }
    class_means = {"mIoU": (0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 18)}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images = by_key(root / split, "*", ".jpg", ".png")
        return Listing(images, lambda: by_key(root / f"{split}annot", "*", ".png"))
