"""Every recipe script runs: DRY_RUN=1 on a few drawn images, then its checkpoint is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
UNSEEN = ["cityscapes", "bdd100k", "mapillary"]


class Recipe(NamedTuple):
    """What a train_* script is to say, and the script that judges its checkpoint."""

    valid: str
    method: str
    trunk: str
    sources: list[str]
    domains: list[str]
    iterations: int
    batch: int
    per_process: int
    rates: tuple[str, str] = ("0.005", "0.01")


def srha(valid, trunk, source, domains, iterations, batch, per_process, *rates):
    """The recipes of SRHA and of its baseline, which are the same but for the method."""
    numbers = (trunk, [source], domains, iterations, batch, per_process, *rates)
    return {
        f"{valid}_{suffix}": Recipe(valid, method, *numbers)
        for suffix, method in (("srha", "srha"), ("base", "baseline"))
    }


def spc(*sources):
    """SPC's recipes: 4 images of each domain and GPU, on 2 GPUs."""
    name = f"r50os16_{'_'.join(sources)}_spc"
    numbers = (40000, 8 * len(sources), 4 * len(sources), ("0.01", "0.01"))
    return {name: Recipe(name, "spc", "resnet50", list(sources), UNSEEN, *numbers)}


RECIPES = (
    srha("r50os16_gtav", "resnet50", "gtav", UNSEEN, 60000, 8, 4)
    | srha("r101os16_gtav", "resnet101", "gtav", UNSEEN, 60000, 9, 3)
    | srha("shuffle_gtav", "shufflenet_v2_x1_0", "gtav", UNSEEN, 60000, 8, 4)
    | srha("mobile_gtav", "mobilenet_v2", "gtav", UNSEEN, 60000, 8, 4)
    | srha("r50os16_city", "resnet50", "cityscapes", ["bdd100k", "synthia", "gtav"], 120000, 8, 4)
    | srha("r50m2f_gtav", "resnet50", "gtav", UNSEEN, 120000, 8, 2, ("1e-5", "1e-4"))
    | spc("gtav")
    | spc("gtav", "synthia")
    | spc("gtav", "synthia", "idd")
)


def run(script, miniature, *arguments, **environment):
    settings = {"DRY_RUN": "1", "MINIATURE": str(miniature), "PYTHON": sys.executable}
    return subprocess.run(
        ["sh", f"scripts/{script}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.endswith("_base")])
def test_dry_run(name, miniature, tmp_path):
    recipe = RECIPES[name]
    logs = ["LOG.DIR", tmp_path, "DATASET.CACHE_DIR", tmp_path / "cache"]
    done = run(f"train_{name}.sh", miniature, *logs)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / name
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["TRUNK.NAME"] == recipe.trunk and settings["METHOD"] == recipe.method
    assert settings["TRUNK.OUTPUT_STRIDE"] == 16
    decoder = "mask2former" if "m2f" in name else "deeplabv3plus"
    assert settings["DECODER.NAME"] == decoder
    assert settings["TRAIN.OPTIMIZER"] == ("adamw" if "m2f" in name else "sgd")
    assert settings["DATASET.SOURCE"] == recipe.sources
    trained = json.loads((folder / "results.json").read_text())
    assert list(trained["domains"]) == recipe.domains
    judge = f"valid_{recipe.valid}.sh"
    done = run(judge, miniature, folder / "last.pth", "--out", tmp_path / "judged")
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "judged" / "results.json").read_text())
    assert judged["domains"] == trained["domains"]


@pytest.mark.parametrize("name", RECIPES)
def test_published_numbers(name, tmp_path):
    """The command line that a recipe hands to train.py, read off a Python that only prints it."""
    recipe = RECIPES[name]
    printer = tmp_path / "python"
    printer.write_text('#!/bin/sh\ncase "$1" in train.py) echo "$@";; -c) echo 0;; esac\n')
    printer.chmod(0o755)
    environment = {"PYTHON": str(printer), "DRY_RUN": "0"}
    done = run(f"train_{name}.sh", "", "SEED", "7", **environment)
    words = done.stdout.split()
    pairs = dict(zip(words[words.index("TRUNK.OUTPUT_STRIDE") :: 2], words[words.index("16") :: 2],
                     strict=True))  # fmt: skip
    assert pairs == {
        "TRUNK.OUTPUT_STRIDE": "16",
        "TRAIN.MAX_ITER": str(recipe.iterations),
        "TRAIN.BATCH_SIZE": str(recipe.batch),
        "TRAIN.BATCH_PER_PROCESS": str(recipe.per_process),
        "TRAIN.LR_ENCODER": recipe.rates[0],
        "TRAIN.LR_DECODER": recipe.rates[1],
        "TRANSFORM.CROP_SIZE": "768,768",
        "SEED": "7",
    }
    assert words[words.index("--method") + 1] == recipe.method
    assert words[words.index("--trunk") + 1] == recipe.trunk
    assert words[words.index("--exp") + 1] == name
    first = words.index("--dataset") + 1
    assert words[first : first + len(recipe.sources)] == recipe.sources
    assert words[first + len(recipe.sources)] == "--val_dataset"
    first = words.index("--val_dataset") + 1
    assert words[first : first + 3] == recipe.domains


def test_a_valid_script_without_a_checkpoint_says_what_it_needs(miniature):
    done = run("valid_mobile_gtav.sh", miniature)
    assert done.returncode == 2 and "usage: sh" in done.stderr and "CHECKPOINT" in done.stderr
