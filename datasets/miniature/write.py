"""Writes domains to disk in the layouts, encodings and file types of the real releases."""

import io
import json
import os
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from tqdm import tqdm

from . import draw_both, generator, pseudo_target
from .domains import DOMAINS, STANDARD
from .layouts import LAYOUTS, Place, place

VERSION = 1
STAMP = "miniature.json"
NAMES = (*DOMAINS, pseudo_target.NAME)


class MiniatureError(ValueError):
    """A request that cannot be carried out; the message is one line for the user."""


def _write_sample(job: tuple) -> None:
    domain, root, where, seed = job
    image_path, label_path, save_label = place(domain, root, where)
    split, index = where.split, where.index
    pixels, scene = draw_both(domain, split, index, seed)
    image = Image.fromarray(pixels)
    if image_path.suffix == ".jpg":
        quality = int(generator(domain, split, index, seed, 2).integers(70, 95))
        image.save(image_path, quality=quality)
    else:
        image.save(image_path, compress_level=3)
    save_label(label_path, scene)


def write_domains(
    out: str | os.PathLike,
    domains: Sequence[str] = STANDARD,
    seed: int = 0,
    workers: int | None = None,
    train: int | None = None,
    val: int | None = None,
    progress: bool = True,
    layout: str = "default",
) -> dict[str, tuple[Path, bool]]:
    """Write domains below the folder `out`, each in a folder of its name.

    `workers` processes (default: one per CPU) share the work, which does not change the files.
    `train` and `val` override the numbers of images.  `layout` is one of `LAYOUTS`.  The
    pseudo-target has training images only, without labels and in any layout the same.  Returns
    per domain its folder, and whether it was written now rather than found complete.  Raises
    `MiniatureError` for unknown domains and layouts and for folders with other contents, before
    anything is written.
    """
    out = Path(out)
    if layout not in LAYOUTS:
        raise MiniatureError(f"unknown layout '{layout}'; there are: {', '.join(LAYOUTS)}")
    jobs, stamps, result = [], {}, {}
    for name in domains:
        if name not in NAMES:
            raise MiniatureError(f"unknown domain '{name}'; there are: {', '.join(NAMES)}")
        labelled = name in DOMAINS
        made = DOMAINS[name if labelled else pseudo_target.SCENES]
        counts = (made.train if train is None else train, made.val if val is None else val)
        if min(counts) < 1:
            raise MiniatureError(f"a domain needs at least one image per split, not {counts}")
        counts = counts if labelled else (counts[0], 0)
        stamp = {"domain": name, "version": VERSION, "seed": seed, "images": list(counts)}
        if layout != "default" and labelled:
            stamp["layout"] = layout
        root = out / name
        result[name] = (root, not _complete(root, stamp))
        if result[name][1]:
            stamps[name] = stamp
            for split, count in zip(("train", "val"), counts, strict=True):
                places = (Place(split, i, counts, layout) for i in range(count))
                jobs += [(name, root, where, seed) for where in places]
    for name, stamp in stamps.items():
        out.joinpath(name).mkdir(parents=True, exist_ok=True)
        _write_stamp(out / name, stamp, complete=False)
    for name, root, where, _ in jobs:
        for path in place(name, root, where)[:2]:
            path.parent.mkdir(parents=True, exist_ok=True)
    _run(jobs, workers or os.cpu_count() or 1, progress)
    for name, stamp in stamps.items():
        if name == "GTAV" and layout != "published":
            _write_split(out / name, *stamp["images"])
        _write_stamp(out / name, stamp, complete=True)
    return result


def _run(jobs: list, workers: int, progress: bool) -> None:
    with tqdm(total=len(jobs), unit="image", disable=not progress or not jobs) as bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                _write_sample(job)
                bar.update()
            return
        # Only this process answers Ctrl-C; the workers end with it.
        ignore = (signal.signal, (signal.SIGINT, signal.SIG_IGN))
        with get_context().Pool(min(workers, len(jobs)), *ignore) as pool:
            for _ in pool.imap_unordered(_write_sample, jobs, chunksize=4):
                bar.update()


def _complete(root: Path, stamp: dict) -> bool:
    """Whether a folder holds just what is asked for; False if it is empty or unfinished."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise MiniatureError(f"{root} is not a folder")
    try:
        found = json.loads((root / STAMP).read_text())
    except FileNotFoundError:
        if any(root.iterdir()):
            raise MiniatureError(
                f"{root} holds files that this program did not write; choose another folder"
            ) from None
        return False
    except ValueError:
        raise MiniatureError(f"{root / STAMP} cannot be read; delete {root} first") from None
    complete = found.pop("complete", False)
    if found != stamp:
        differing = ", ".join(
            f"{key} {found.get(key)} instead of {stamp.get(key)}"
            for key in {**found, **stamp}
            if found.get(key) != stamp.get(key)
        )
        raise MiniatureError(f"{root} was written with {differing}; delete it or choose another")
    return complete


def _write_stamp(root: Path, stamp: dict, complete: bool) -> None:
    temporary = root / f"{STAMP}.part"
    temporary.write_text(json.dumps({**stamp, "complete": complete}) + "\n")
    os.replace(temporary, root / STAMP)


def _write_split(root: Path, train: int, val: int) -> None:
    """`split.mat` as in the official read_mapping.zip: columns of image numbers from 1."""
    ids = np.arange(1, train + val + 1, dtype=np.uint16)[:, None]
    content = {"trainIds": ids[:train], "valIds": ids[train:], "testIds": ids[:0]}
    buffer = io.BytesIO()
    savemat(buffer, content)
    data = bytearray(buffer.getvalue())
    data[:116] = b"MATLAB 5.0 MAT-file".ljust(116)  # scipy puts the time of day there
    (root / "split.mat").write_bytes(data)
