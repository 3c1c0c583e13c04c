"""GTAV, Playing for Data (Richter et al., ECCV 2016): 1914×1052 frames of a video game."""

from pathlib import Path

from scipy.io import loadmat

from datasets.dataset import SegmentationDataset
from datasets.files import by_key, first_folder, pair
from datasets.label_spaces import CITYSCAPES_IDS
from utils.errors import UserError

# Training images whose label is a single colour; RobustNet's lists, and 15188 from SRHA's.
SINGLE_COLOUR = {
    *("12160", "12166", "12167", "12191", "12192", "12193", "12195", "12202", "12203"),
    *("12204", "12205", "12206", "12207", "12208", "15188", "19993"),
}


class GTAV(SegmentationDataset):
    """`images/NNNNN.png` with the official split.mat, or `images/{train,valid,test}/NNNNN.png`."""

    name = "gtav"
    title = "GTAV"
    root_setting = "GTAV_DIR"
    folder = "GTAV"
    splits = ("train", "val", "test")
    # Licence plates and pole groups are painted as cars and poles, and the published code maps
    # colours.
    label_maps = {"cityscapes19": CITYSCAPES_IDS | {34: 13, 18: 5}}

    @classmethod
    def files(cls, root: Path, split: str) -> list[tuple[Path, Path]]:
        candidates = (root / "split.mat", root / "read_mapping" / "split.mat")
        split_file = next((path for path in candidates if path.is_file()), None)
        if split_file is None:
            part = {"val": "valid"}.get(split, split)
            if not (root / "images" / part).is_dir():
                raise UserError(
                    f"there is neither {candidates[0]} (in read_mapping.zip of the official "
                    f"download) nor a folder {root / 'images' / part}"
                )
            images = by_key(root / "images" / part, "*", ".png")
            labels = by_key(first_folder(root / "labels" / part), "*", ".png")
        else:
            every = {path.stem: path for path in _all_png(root / "images")}
            labels = {path.stem: path for path in _all_png(root / "labels")}
            # 1-based numbers, as the files are named.
            numbers = loadmat(split_file)[f"{split}Ids"].ravel()
            keys = [f"{int(number):05d}" for number in numbers]
            missing = [key for key in keys if key not in every]
            if missing:
                raise UserError(
                    f"{len(missing)} images of {split_file} are not in {root / 'images'}; "
                    f"the first is {missing[0]}.png"
                )
            images = {key: every[key] for key in keys}
        if split == "train":
            images = {key: path for key, path in images.items() if key not in SINGLE_COLOUR}
        return pair(images, labels)


def _all_png(folder: Path) -> list[Path]:
    """Return the PNG files in `folder` and in its folders."""
    first_folder(folder)
    found = [*folder.glob("*.png"), *folder.glob("*/*.png")]
    if not found:
        raise UserError(f"no files *.png in {folder}")
    return found
