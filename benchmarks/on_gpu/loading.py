"""Real runs of train.py: how long they wait for data, and photographs if there are any."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from benchmarks.on_gpu.checks import Check, DoesNotApply, Figures, OutOfTimeError, Sizes
from benchmarks.recipes import ROOT
from benchmarks.reporting import ON_GPU
from datasets.label_spaces import CITYSCAPES19, cityscapes_ids
from datasets.miniature import draw
from utils.engine.log import METRICS, read_records
from utils.evaluate.results import percent

SCENES = 4  # that are drawn; images are these, enlarged, each with noise of its own


def checks(sizes: Sizes) -> Iterator[Check]:
    """A run that reads images of the size of GTAV's, with colours on the device and in workers."""
    for where in ("device", "worker"):
        yield Check(f"colours in the {where}", partial(run_with_loading, sizes, where))


def photograph_checks(sizes: Sizes, data: Path | None) -> Iterator[Check]:
    """Baseline and SRHA on CamVid, judged on IDD-Lite, for as long as there is time."""
    for method in ("baseline", "srha"):
        yield Check(f"CamVid → IDD-Lite: {method}", partial(photographs, sizes, data, method))


def run_with_loading(sizes: Sizes, where: str, left: Callable[[], float]) -> Figures:
    """Train for some steps; return the share of time that data was waited for, and images/s."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "GTAV", sizes)
        words = ["--dataset", "gtav", "--method", "srha", "--trunk", sizes.trunk]
        words += ["TRAIN.MAX_ITER", sizes.steps, "TRAIN.BATCH_SIZE", sizes.batch]
        words += ["TRAIN.BATCH_PER_PROCESS", sizes.batch, "WORKERS", sizes.workers]
        words += ["TRANSFORM.CROP_SIZE", f"{sizes.crop},{sizes.crop}", "DATASET.ROOT", folder]
        words += ["DATASET.CACHE_DIR", f"{folder}/cache", "DATASET.VALIDATION", "gtav"]
        words += ["VALID.EVERY", 0, "VALID.PROTOCOL", "native", "VALID.MAX_IMAGES", 1]
        words += ["LOG.EVERY", max(sizes.steps // 6, 1), "TRANSFORM.PHOTOMETRIC_ON", where]
        words += ["PRECISION", "bfloat16" if ON_GPU else "float32"]
        records = train(words, Path(folder) / "logs", left())
    # The first window has the start of the workers and the first pass.
    speeds = [own for own in records if "speed/data_wait" in own][1:]
    if not speeds:
        raise OutOfTimeError
    return {
        "data wait, %": percent(statistics.median(own["speed/data_wait"] for own in speeds), 1),
        "images/s": round(statistics.median(own["speed/images_per_second"] for own in speeds), 2),
        "GiB": round(max(own["speed/memory_gib"] for own in speeds), 2),
        "workers": sizes.workers,
    }


def photographs(sizes: Sizes, data: Path | None, method: str, left: Callable[[], float]) -> Figures:
    """Train on CamVid for 40 000 images, or what half of the time left allows; return mIoUs."""
    if data is None or not (data / "camvid").is_dir():
        raise DoesNotApply("--data names no folder with camvid and idd_lite")
    steps, batch, crop = sizes.photographs
    with tempfile.TemporaryDirectory() as folder:
        words = ["--dataset", "camvid", "--val_dataset", "camvid:test", "idd_lite"]
        words += ["--method", method, "--trunk", sizes.trunk, "DATASET.ROOT", data]
        words += ["TRAIN.MAX_ITER", steps, "TRAIN.BATCH_SIZE", batch]
        words += ["TRAIN.BATCH_PER_PROCESS", batch, "WORKERS", sizes.workers]
        words += ["TRANSFORM.CROP_SIZE", f"{crop},{crop}"]
        words += ["DATASET.CACHE_DIR", f"{folder}/cache", "VALID.EVERY", max(steps // 5, 1)]
        words += ["VALID.PROTOCOL", "native", "LOG.EVERY", 20, "PRECISION", "bfloat16"]
        words += ["DATASET.CLASS_UNIFORM_TILE", 256, "VALID.MAX_IMAGES", sizes.judged]
        records = train(words, Path(folder) / "logs", left() / (2 if method == "baseline" else 1))
    scores = [own for own in records if any(key.startswith("mIoU/") for key in own)]
    if not scores:
        raise OutOfTimeError
    last = scores[-1]
    found = {key: percent(own, 1) for key, own in last.items() if key.startswith("mIoU/")}
    return found | {"step": last["step"], "images": last["step"] * batch}


def train(words: list, logs: Path, seconds: float) -> list[dict]:
    """Run train.py for at most so many seconds; return its log. RuntimeError if it failed."""
    command = [sys.executable, "train.py", *map(str, words), "--exp", "run", "LOG.DIR", str(logs)]
    if "TRUNK.WEIGHTS" not in words:
        command += ["TRUNK.WEIGHTS", "none"]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        error = done.communicate(timeout=max(seconds - 5, 1))[1]
    except subprocess.TimeoutExpired:
        done.kill()
        error = done.communicate()[1]
    except OutOfTimeError:
        done.kill()
        raise
    if done.returncode not in (0, -9):
        raise RuntimeError(error.decode().strip().split("\n")[-1])
    log = logs / "run" / METRICS
    return read_records(log) if log.is_file() else []


def write_images(root: Path, sizes: Sizes) -> None:
    """Write images and labels as GTAV has them, as hard to decode as photographs are."""
    numbers = cityscapes_ids(CITYSCAPES19)
    scenes = []
    for index in range(min(SCENES, sizes.images)):
        image, label = draw("GTAV", "train", index)
        scenes.append((Image.fromarray(image), Image.fromarray(numbers[label])))
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)

    def write(index: int) -> None:
        image, label = scenes[index % len(scenes)]
        noise = np.random.default_rng(index).integers(-6, 7, (*sizes.image[::-1], 3))
        pixels = np.asarray(image.resize(sizes.image, Image.Resampling.BICUBIC)) + noise
        name = f"{index + 1:05d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / name)
        label.resize(sizes.image, Image.Resampling.NEAREST).save(root / "labels" / name)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(sizes.images)))
    every = np.arange(1, sizes.images + 1)[:, None]
    parts = {"trainIds": every, "valIds": every[:1], "testIds": every[:1]}
    scipy.io.savemat(root / "split.mat", parts)
