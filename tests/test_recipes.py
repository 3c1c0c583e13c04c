"""Recipe scripts: what they set, and that two of them run (DRY_RUN=1 on a few drawn images)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from network.build import DECODER, resolve
from network.decoders import decoder_class
from utils.engine.command_line import parse_train

ROOT = Path(__file__).parent.parent
UNSEEN = ["cityscapes", "bdd100k", "mapillary"]


class Published(NamedTuple):
    """What a train_* script is to say, and the script that evaluates its checkpoint."""

    valid: str
    trunk: str
    sources: list[str]
    domains: list[str]
    iterations: int
    batch: int
    per_process: int
    rates: tuple[float, float] = (0.005, 0.01)
    decoder: str = "deeplabv3plus"


def spc(*sources):
    """SPC's recipes: 4 images of each domain and GPU, on 2 GPUs."""
    name = f"r50os16_{'_'.join(sources)}_spc"
    numbers = (40000, 8 * len(sources), 4 * len(sources), (0.01, 0.01))
    return {name: Published(name, "resnet50", list(sources), UNSEEN, *numbers)}


RECIPES = {
    f"{recipe.valid}_srha": recipe
    for recipe in (
        Published("r50os16_gtav", "resnet50", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("r101os16_gtav", "resnet101", ["gtav"], UNSEEN, 60000, 9, 3),
        Published("shuffle_gtav", "shufflenet_v2_x1_0", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("mobile_gtav", "mobilenet_v2", ["gtav"], UNSEEN, 60000, 8, 4),
        Published("r50os16_city", "resnet50", ["cityscapes"], ["bdd100k", "synthia", "gtav"],
                  120000, 8, 4),
        Published("r50m2f_gtav", "resnet50", ["gtav"], UNSEEN, 120000, 8, 2, (1e-5, 1e-4),
                  "mask2former"),
    )
} | spc("gtav") | spc("gtav", "synthia") | spc("gtav", "synthia", "idd")  # fmt: skip


def run(script, miniature, *arguments, **environment):
    settings = {"DRY_RUN": "1", "MINIATURE": str(miniature), "PYTHON": sys.executable}
    # Trained and evaluated as with requirements.txt alone.
    settings["PYTHONPATH"] = str(ROOT / "tests" / "without_matplotlib")
    return subprocess.run(
        ["sh", f"scripts/{script}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def handed_over(tmp_path):
    """Return `handed_over(script, *arguments, **environment)` → the words that a script hands to
    Python, read off one that only prints them."""
    printer = tmp_path / "python"
    printer.write_text('#!/bin/sh\ncase "$1" in *.py) echo "$@";; -c) echo 0;; esac\n')
    printer.chmod(0o755)

    def words(script, *arguments, **environment):
        environment = {"PYTHON": str(printer), "DRY_RUN": "0"} | environment
        done = run(script, "", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return words


def test_every_script_is_a_recipe_of_this_list():
    scripts = {path.stem.removeprefix("train_") for path in ROOT.glob("scripts/train_*.sh")}
    assert scripts == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("other", ["", "baseline"])
def test_published_settings(name, other, handed_over):
    """The settings that a recipe comes to, with its own method and with another one."""
    recipe = RECIPES[name]
    common, _, own = name.rpartition("_")
    method = other or own
    script, *words = handed_over(f"train_{name}.sh", "SEED", "7", METHOD=other)
    overrides, resume, *_ = parse_train(words)
    cfg = resolve(overrides)
    assert script == "train.py" and not resume
    assert cfg.EXPERIMENT == f"{common}_{method}" and cfg.METHOD == method and cfg.SEED == 7
    assert cfg.DATASET.SOURCE == recipe.sources and cfg.DATASET.VALIDATION == recipe.domains
    assert cfg.TRUNK.NAME == recipe.trunk and cfg.TRUNK.OUTPUT_STRIDE == 16
    assert cfg.TRUNK.WEIGHTS == "imagenet" and cfg.DECODER.NAME == recipe.decoder
    defaults = decoder_class(recipe.decoder).defaults
    assert cfg.TRAIN.OPTIMIZER == defaults.get("TRAIN.OPTIMIZER", "sgd")
    assert cfg.TRAIN.MAX_ITER == recipe.iterations
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS) == (recipe.batch, recipe.per_process)
    assert (cfg.TRAIN.LR_ENCODER, cfg.TRAIN.LR_DECODER) == recipe.rates
    assert cfg.TRANSFORM.CROP_SIZE == [768, 768] and cfg.VALID.PROTOCOL == "robustnet"
    # Beyond these a recipe changes nothing.
    given = "DATASET.SOURCE DATASET.VALIDATION METHOD TRUNK.NAME EXPERIMENT TRUNK.OUTPUT_STRIDE "
    given += "TRAIN.MAX_ITER TRAIN.BATCH_SIZE TRAIN.BATCH_PER_PROCESS TRAIN.LR_ENCODER "
    given += "TRAIN.LR_DECODER TRANSFORM.CROP_SIZE SEED"
    decoder = {"DECODER.NAME"} if recipe.decoder != DECODER.default() else set()
    assert overrides.keys() == set(given.split()) | decoder


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_is_evaluated_as_its_recipe_does(name, handed_over):
    recipe = RECIPES[name]
    script, *words = handed_over(f"valid_{recipe.valid}.sh", "/some.pth")
    assert script == "valid.py" and words[:2] == ["--snapshot", "/some.pth"]
    first = words.index("--val_dataset") + 1
    assert words[first:] == recipe.domains
    if "--trunk" in words:
        assert words[words.index("--trunk") + 1] == recipe.trunk
        assert words[words.index("--dataset") + 1] == recipe.sources[0]


@pytest.mark.parametrize("name", ["mobile_gtav_srha", "r50os16_gtav_synthia_spc"])
def test_dry_run(name, miniature, tmp_path):
    recipe = RECIPES[name]
    small = {"LOG.DIR": tmp_path, "DATASET.CACHE_DIR": tmp_path / "cache"}
    small |= decoder_class(recipe.decoder).small
    words = [word for pair in small.items() for word in pair]
    done = run(f"train_{name}.sh", miniature, "--trunk", "resnet_mini", *words)
    assert done.returncode == 0, done.stderr
    without = "without pictures of the confusion matrices: charts need matplotlib: pip install -r"
    assert done.stderr.count(without) == 1
    folder = tmp_path / name
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["METHOD"] == name.split("_")[-1]
    assert settings["DATASET.SOURCE"] == recipe.sources
    trained = json.loads((folder / "results.json").read_text())
    assert list(trained["domains"]) == recipe.domains
    script = f"valid_{recipe.valid}.sh"
    done = run(script, miniature, folder / "last.pth", "--out", tmp_path / "evaluated")
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert evaluated["domains"] == trained["domains"]


def test_a_valid_script_without_a_checkpoint_says_what_it_needs(miniature):
    done = run("valid_mobile_gtav.sh", miniature)
    assert done.returncode == 2 and "usage: sh" in done.stderr and "CHECKPOINT" in done.stderr
