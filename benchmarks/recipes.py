"""Recipes as their scripts say them, and a step of one on noise."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict

from network.build import resolve
from network.methods import Method, method_class
from utils.engine.command_line import parse_train
from utils.engine.optimization import (
    BatchPlan,
    build_optimizer,
    clip_gradients,
    plan_batch,
    rates_at,
)
from utils.engine.runtime import Runtime

ROOT = Path(__file__).parent.parent
PRINTER = '#!/bin/sh\ncase "$1" in *.py) echo "$@";; -c) echo 0;; esac\n'
# Where a script's user names images without labels, of which no file is read here, and the stream
# that they are.
UNLABELLED = {"wildnet": ("DATASET.WILD", "wild")}
UNLABELLED |= dict.fromkeys(
    ("dacs", "daformer", "hrda", "mic", "sepico"), ("DATASET.TARGET", "target")
)


def scripts() -> list[str]:
    """Return the names of all scripts that train."""
    return sorted(path.stem for path in ROOT.glob("scripts/train_*.sh"))


def handed_over(script: str, *arguments: str, **environment: str) -> list[str]:
    """Return the words that a script hands to Python, read off one that only prints them."""
    with tempfile.TemporaryDirectory() as folder:
        printer = Path(folder) / "python"
        printer.write_text(PRINTER)
        printer.chmod(printer.stat().st_mode | stat.S_IXUSR)
        own = {"PYTHON": str(printer), "DRY_RUN": "0"} | environment
        command = ["sh", f"scripts/{script}.sh", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=True
        )
    return done.stdout.split()


def settings_of_script(script: str, overrides: dict[str, Any]) -> EasyDict:
    """Resolve the settings of a script that trains, with `overrides` above them."""
    own = parse_train(handed_over(script)[1:])[0]
    if own["METHOD"] in UNLABELLED:
        own[UNLABELLED[own["METHOD"]][0]] = "none"
    return resolve(own | {"DATASET.LABEL_SPACE": "cityscapes19"} | overrides)


def plan_of(cfg: EasyDict) -> BatchPlan:
    """Return how a step is split into passes on one GPU."""
    equal = cfg.DATASET.MIXING == "equal"
    parts = len(cfg.DATASET.SOURCE) if equal else 1
    return plan_batch(cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS, 1, parts)


def pass_of(cfg: EasyDict, images: int) -> dict[str, Any]:
    """Return a batch of one pass: noise, random labels in blocks, and what has no labels."""
    height, width = cfg.TRANSFORM.CROP_SIZE
    rows, columns = (torch.arange(side) * 12 // side for side in (height, width))
    label = torch.randint(0, 19, (images, 12, 12))[:, rows[:, None], columns]
    # The last one: what begins later in a training is there.
    step = cfg.TRAIN.MAX_ITER - 1
    batch = {"image": torch.randn(images, 3, height, width), "label": label, "step": step}
    batch |= {"index": torch.arange(images), "rate": rates_at(step, cfg)}
    batch["domain"] = torch.arange(images) % len(cfg.DATASET.SOURCE)
    if cfg.METHOD in UNLABELLED:
        options = cfg.get("TARGET", {"CROP_SIZE": (0, 0)})
        size = options["CROP_SIZE"] if any(options["CROP_SIZE"]) else (height, width)
        stream = {"image": torch.randn(images, 3, *size), "index": torch.arange(images)}
        batch[UNLABELLED[cfg.METHOD][1]] = stream
    return batch


def step_of(
    cfg: EasyDict, runtime: Runtime, contents: bool = True
) -> tuple[Callable[[int], None], Method]:
    """Return a function that takes one step of one pass, optimizer included, and the method.

    Weights are random. Data loading is not in it. Without `contents`, of tensors in
    FakeTensorMode, the network stays where it is: they cannot be moved.
    """
    method = method_class(cfg.METHOD)(cfg, 19, pretrained=False).train()
    method = runtime.wrap(method, False) if contents else method
    optimizer = build_optimizer(method, cfg)
    batch = runtime.to_device(pass_of(cfg, plan_of(cfg).images))

    def step(number: int) -> None:
        for graph in runtime.graphs(method, batch):
            sum(graph.values()).backward()
        clip_gradients(method, cfg.TRAIN.CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(1)

    return step, method
