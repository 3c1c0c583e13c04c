"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 1280×760 renderings."""

from pathlib import Path

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key
from datasets.lists import all_png, choose, listed, seeded_part

# Terrain, truck and train do not occur; the 13-class mean leaves out wall, fence and pole as well.
SIXTEEN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)
THIRTEEN = (0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)


class Synthia(SegmentationDataset):
    """`RGB/{train,val}/X.png` and `GT/LABELS/{train,val}/X.png` (16 bits, first channel).

    List files (datasets/lists.py) choose from those folders or from the flat `RGB` and `GT/LABELS`
    of the official download. A flat tree without lists is parted by `seeded_part` with seed 0; the
    published random split is another one, and `split_rule` says which was used.
    """

    name = "synthia"
    title = "SYNTHIA"
    root_setting = "SYNTHIA_DIR"
    folder = "SYNTHIA"
    settings = {"DATASET": {"SYNTHIA_DIR": root("SYNTHIA-RAND-CITYSCAPES", "SYNTHIA")}}
    published_counts = {"train": 6580, "val": 2820}
    file_numbers = frozenset(range(23))
    label_bits = 16
    label_maps = {
        "cityscapes19": {
            **{3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9},
            **{1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18},
        }
    }
    class_means = {"mIoU16": SIXTEEN, "mIoU13": THIRTEEN}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images, labels = root / "RGB", root / "GT" / "LABELS"
        found = listed(root, cls.name, split, images, labels)
        if found:
            return found
        if (images / split).is_dir() or not any(images.glob("*.png")):
            own = by_key(images / split, "*", ".png")
            return Listing(own, lambda: by_key(labels / split, "*", ".png"))
        names = seeded_part(all_png(images), **cls.published_counts, split=split, seed=0)
        return choose(names, images, labels, "the seeded rule for flat trees, seed 0")
