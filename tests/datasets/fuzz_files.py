"""`python -m tests.datasets.fuzz_files [--count 500] [--seed 0]`: read randomly damaged files.

Each case damages one file of a sample and reads the sample through its dataset. It passes if there
is a UserError that names a file of the sample, or if the sample is what it was. JPEGs carry no
checksum: another picture of the right size passes there, and is counted. What does not pass is
another exception, a PNG that silently reads as something else, and more than `LIMIT` seconds.
"""

import argparse
import signal
import struct
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets import DATASETS
from datasets.miniature import draw
from datasets.miniature.encode import save_png16
from utils.errors import UserError

LIMIT = 20  # seconds for one sample
# dataset, split, image, label, bits of the label's palette (0: grey)
CASES = (
    ("gtav", "val", "images/valid/00007.png", "labels/valid/00007.png", 8),
    ("synthia", "val", "RGB/val/7.png", "GT/LABELS/val/7.png", 16),
    ("bdd100k", "val", "images/10k/val/b.jpg", "labels/sem_seg/masks/val/b.png", 0),
    ("camvid", "val", "val/f.jpg", "valannot/f.png", 4),
    ("camvid", "train", "train/f.png", "trainannot/f.png", 0),
)


def write_samples(root: Path) -> list[tuple[str, str, Path, Path]]:
    """Write a sound sample of each case; return (dataset, split, image, label)."""
    image, label = draw("GTAV", "train", 1)
    image, label = image[60:156, 100:240], np.where(label == 255, 0, label)[60:156, 100:240]
    samples = []
    for name, split, image_name, label_name, bits in CASES:
        image_path, label_path = root / name / image_name, root / name / label_name
        for path in (image_path, label_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(image_path)
        if bits == 16:
            save_png16(label_path, np.stack([label, label, label], -1).astype(np.uint16))
        else:
            numbers = Image.fromarray(np.minimum(label, 11).astype(np.uint8))
            if bits:
                numbers.putpalette([i * 9 % 256 for i in range(3 * 2**bits)])
            numbers.save(label_path, **({"bits": bits} if bits else {}))
        samples.append((name, split, image_path, label_path))
    return samples


def damage(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done, and the damaged bytes."""
    kind = rng.choice(["cut", "flip", "zero", "insert", "remove", "noise", "empty", "size", "tail"])
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    changed = bytearray(data)
    if kind == "cut":
        changed = changed[:at]
    elif kind == "flip":
        # Headers hold what decoders trust, so half of the flips go there.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 700)
        for place in rng.integers(reach, size=rng.integers(1, 9)):
            changed[place] ^= int(rng.integers(1, 256))
    elif kind == "zero":
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif kind == "insert":
        changed[at:at] = rng.bytes(length)
    elif kind == "remove":
        del changed[at : at + length]
    elif kind == "noise":
        changed = bytearray(rng.bytes(len(data)))
    elif kind == "empty":
        changed = bytearray()
    elif kind == "tail":
        changed += rng.bytes(length)
    else:
        changed = _other_size(changed, rng)
    return str(kind), bytes(changed)


def _other_size(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Claim another width or height in the header, up to the largest there is.

    In a PNG with a correct checksum only the largest: a forged header that fits its checksum is no
    random damage, and torchvision's decoder crashes on some of those.
    """
    if data[1:4] == b"PNG":
        place = 16 if rng.random() < 0.5 else 20
        data[place : place + 4] = struct.pack(">I", 2**31 - 1)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    else:
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", *rng.choice([1, 97, 65500], 2).tolist())
    return data


def read(name: str, split: str, root: Path) -> dict:
    """Read the only sample of a dataset; TimeoutError if that takes too long."""

    def stop(*_):
        raise TimeoutError(f"took more than {LIMIT} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        return DATASETS[name](root / name, split)[0]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fuzz(root: Path, count: int, seed: int) -> tuple[Counter, list[str]]:
    """Run `count` cases below the empty folder `root`; return outcomes and descriptions of what
    did not pass."""
    samples = write_samples(root)
    sound = [read(name, split, root) for name, split, *_ in samples]
    outcomes: Counter = Counter()
    failures = []
    for case in range(count):
        rng = np.random.default_rng((seed, case))
        which = int(rng.integers(len(samples)))
        name, split, *paths = samples[which]
        target = paths[int(rng.integers(2))]
        original = target.read_bytes()
        kind, damaged = damage(original, rng)
        target.write_bytes(damaged)
        outcome = _run_evaluation(name, split, root, paths, target, sound[which])
        target.write_bytes(original)
        outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("failed"):
            failures.append(f"case {case}, {kind} of {target.relative_to(root)}, {outcome}")
    return outcomes, failures


def _run_evaluation(name, split, root, paths, target, expected) -> str:
    try:
        sample = read(name, split, root)
    except UserError as error:
        named = any(str(path) in str(error) for path in paths)
        return "clear error" if named else f"failed: error names no file: {error}"
    # Whatever else comes out is what this program looks for.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"failed: {type(error).__name__}: {error}"
    same = {key: torch.equal(sample[key], expected[key]) for key in ("image", "label")}
    if all(same.values()):
        return "unharmed"
    right_size = sample["image"].shape == expected["image"].shape
    if target.suffix == ".jpg" and same["label"] and right_size:
        return "other JPEG pixels"
    return "failed: silently another sample"


def main() -> None:
    """Run from the command line; exit code 1 if a case does not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, failures = fuzz(Path(folder), options.count, options.seed)
    for outcome, number in outcomes.most_common():
        print(f"{number:>5} {outcome}")
    print("\n".join(failures))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
