"""GTAV, Playing for Data (Richter et al., ECCV 2016): 1914×1052 frames of a video game."""

from pathlib import Path

from scipy.io import loadmat

from datasets.dataset import SegmentationDataset, root
from datasets.files import Listing, by_key
from datasets.label_spaces import CITYSCAPES_IDS
from datasets.lists import choose, listed
from utils.errors import UserError

# Training images whose label is a single colour; RobustNet's lists, and 15188 from SRHA's.
SINGLE_COLOUR = {
    *("12160", "12166", "12167", "12191", "12192", "12193", "12195", "12202", "12203"),
    *("12204", "12205", "12206", "12207", "12208", "15188", "19993"),
}


class GTAV(SegmentationDataset):
    """`images/NNNNN.png` with the official split.mat, or `images/{train,valid,test}/NNNNN.png`.

    List files (datasets/lists.py) go before both. Without them, the single-colour images are left
    out of the training split.
    """

    name = "gtav"
    title = "GTAV"
    root_setting = "GTAV_DIR"
    folder = "GTAV"
    settings = {"DATASET": {"GTAV_DIR": root("GTAV", "GTAV")}}
    splits = ("train", "val", "test")
    published_counts = {"train": 12403 - len(SINGLE_COLOUR), "val": 6382, "test": 6181}
    file_numbers = frozenset(range(35))
    # Licence plates and pole groups are painted as cars and poles, and the published code maps
    # colours.
    label_maps = {"cityscapes19": CITYSCAPES_IDS | {34: 13, 18: 5}}

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        images, labels = root / "images", root / "labels"
        found = listed(root, cls.name, split, images, labels)
        if found:
            return found
        candidates = (root / "split.mat", root / "read_mapping" / "split.mat")
        split_file = next((path for path in candidates if path.is_file()), None)
        part = "valid" if split == "val" else split
        if split_file is not None:
            found = choose(_numbers(split_file, split), images, labels, "split.mat")
        elif (images / part).is_dir():
            own = by_key(images / part, "*", ".png")
            found = Listing(own, lambda: by_key(labels / part, "*", ".png"))
        else:
            raise UserError(
                f"there is neither {candidates[0]} (in read_mapping.zip of the official "
                f"download) nor a folder {images / part}"
            )
        return found.without(SINGLE_COLOUR) if split == "train" else found


def _numbers(split_file: Path, split: str) -> list[str]:
    """Return the names of a split's images; UserError for a file that is not GTAV's split.mat."""
    try:
        numbers = loadmat(split_file)[f"{split}Ids"].ravel()
        # 1-based numbers, as the files are named.
        return [f"{int(number):05d}" for number in numbers]
    # A damaged file makes scipy raise whatever its parser stumbled over.
    except Exception as error:
        raise UserError(
            f"cannot read {split_file} as the split.mat of GTAV's read_mapping.zip: {error}"
        ) from None
