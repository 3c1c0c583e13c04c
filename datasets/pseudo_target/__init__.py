"""A labelled source drawn anew, without labels: the pseudo-target of DIDEX (arXiv 2312.01850)."""

import os
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError

NOTE, PROMPTS = "pseudo_target.json", "prompts.jsonl"  # of the folder of a pseudo-target


def names_of(images: Sequence[Path]) -> list[str]:
    """Return the names of the drawn images: paths below the images' common folder, as PNGs.

    UserError for two images that differ in their endings alone.
    """
    paths = [os.path.abspath(path) for path in images]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    found: dict[str, Path] = {}
    for path, image in zip(paths, images, strict=True):
        name = Path(os.path.relpath(path, folder)).with_suffix(".png").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {image} would both be drawn as {name}")
        found[name] = image
    return list(found)
