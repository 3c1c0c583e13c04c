"""Every recipe script runs: DRY_RUN=1 on a few drawn images, then its checkpoint is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECIPES = {
    "r50os16_gtav": ("resnet50", ["cityscapes", "bdd100k", "mapillary"], 60000, 8),
    "r101os16_gtav": ("resnet101", ["cityscapes", "bdd100k", "mapillary"], 60000, 9),
    "shuffle_gtav": ("shufflenet_v2_x1_0", ["cityscapes", "bdd100k", "mapillary"], 60000, 8),
    "mobile_gtav": ("mobilenet_v2", ["cityscapes", "bdd100k", "mapillary"], 60000, 8),
    "r50os16_city": ("resnet50", ["bdd100k", "synthia", "gtav"], 120000, 8),
    "r50m2f_gtav": ("resnet50", ["cityscapes", "bdd100k", "mapillary"], 120000, 8),
}
# What is another value where the decoder is Mask2Former: 4 GPUs x 2 images, AdamW's rates.
MASK2FORMER = {
    "TRAIN.BATCH_PER_PROCESS": "2",
    "TRAIN.LR_ENCODER": "1e-5",
    "TRAIN.LR_DECODER": "1e-4",
}


def run(script, miniature, *arguments, **environment):
    settings = {"DRY_RUN": "1", "MINIATURE": str(miniature), "PYTHON": sys.executable}
    return subprocess.run(
        ["sh", f"scripts/{script}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", RECIPES)
def test_dry_run(name, miniature, tmp_path):
    trunk, domains, _, _ = RECIPES[name]
    logs = ["LOG.DIR", tmp_path, "DATASET.CACHE_DIR", tmp_path / "cache"]
    done = run(f"train_{name}_srha.sh", miniature, *logs)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / f"{name}_srha"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["TRUNK.NAME"] == trunk and settings["METHOD"] == "srha"
    assert settings["TRUNK.OUTPUT_STRIDE"] == 16
    decoder = "mask2former" if "m2f" in name else "deeplabv3plus"
    assert settings["DECODER.NAME"] == decoder
    assert settings["TRAIN.OPTIMIZER"] == ("adamw" if "m2f" in name else "sgd")
    trained = json.loads((folder / "results.json").read_text())
    assert list(trained["domains"]) == domains
    done = run(f"valid_{name}.sh", miniature, folder / "last.pth", "--out", tmp_path / "judged")
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "judged" / "results.json").read_text())
    assert judged["domains"] == trained["domains"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("suffix, method", [("srha", "srha"), ("base", "baseline")])
def test_published_numbers(name, suffix, method, tmp_path):
    """The command line that a recipe hands to train.py, read off a Python that only prints it."""
    trunk, domains, iterations, batch = RECIPES[name]
    printer = tmp_path / "python"
    printer.write_text('#!/bin/sh\ncase "$1" in train.py) echo "$@";; -c) echo 0;; esac\n')
    printer.chmod(0o755)
    environment = {"PYTHON": str(printer), "DRY_RUN": "0"}
    done = run(f"train_{name}_{suffix}.sh", "", "SEED", "7", **environment)
    words = done.stdout.split()
    pairs = dict(zip(words[words.index("TRUNK.OUTPUT_STRIDE") :: 2], words[words.index("16") :: 2],
                     strict=True))  # fmt: skip
    expected = {
        "TRUNK.OUTPUT_STRIDE": "16",
        "TRAIN.MAX_ITER": str(iterations),
        "TRAIN.BATCH_SIZE": str(batch),
        "TRAIN.BATCH_PER_PROCESS": "3" if batch == 9 else "4",
        "TRAIN.LR_ENCODER": "0.005",
        "TRAIN.LR_DECODER": "0.01",
        "TRANSFORM.CROP_SIZE": "768,768",
        "SEED": "7",
    }
    assert pairs == expected | (MASK2FORMER if "m2f" in name else {})
    assert words[words.index("--method") + 1] == method
    assert words[words.index("--trunk") + 1] == trunk
    first = words.index("--val_dataset") + 1
    assert words[first : first + 3] == domains


def test_a_valid_script_without_a_checkpoint_says_what_it_needs(miniature):
    done = run("valid_mobile_gtav.sh", miniature)
    assert done.returncode == 2 and "usage: sh" in done.stderr and "CHECKPOINT" in done.stderr
