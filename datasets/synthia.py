"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 1280×760 renderings."""

from pathlib import Path

from datasets.dataset import SegmentationDataset
from datasets.files import by_key, first_folder, pair

# Terrain, truck and train do not occur; the 13-class mean leaves out wall, fence and pole as well.
SIXTEEN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)
THIRTEEN = (0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)


class Synthia(SegmentationDataset):
    """`RGB/{train,val}/X.png` and `GT/LABELS/{train,val}/X.png` (16 bits, first channel)."""

    name = "synthia"
    title = "SYNTHIA"
    root_setting = "SYNTHIA_DIR"
    folder = "SYNTHIA"
    label_maps = {
        "cityscapes19": {
            **{3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9},
            **{1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18},
        }
    }
    class_means = {"mIoU16": SIXTEEN, "mIoU13": THIRTEEN}

    @classmethod
    def files(cls, root: Path, split: str) -> list[tuple[Path, Path]]:
        images = by_key(first_folder(root / "RGB" / split), "*", ".png")
        labels = by_key(first_folder(root / "GT" / "LABELS" / split), "*", ".png")
        return pair(images, labels)
