"""Checkpoints for the commands that look into one, and reports of runs."""

import sys

import pytest
import torch

from network.build import build_method
from tests.utils.results_of_runs import domain_result, run_result, write_results
from utils.report import __main__ as report
from utils.settings import flatten


@pytest.fixture
def saved(settings, miniature, tmp_path):
    """Return `saved(name, **overrides)` → (cfg, method, folder) of a random checkpoint."""

    def save(name, **overrides):
        cfg = settings(
            METHOD=name, DATASET__LABEL_SPACE="cityscapes19", DATASET__ROOT=str(miniature),
            DATASET__SOURCE=["gtav", "synthia"], DEVICE="cpu", WORKERS=0,
            TRANSFORM__CROP_SIZE=[64, 96], DATASET__CACHE_DIR=str(tmp_path / "cache"), **overrides,
        )  # fmt: skip
        method, _ = build_method(cfg)
        state = {"settings": flatten(cfg), "step": 0, "method": method.state_dict()}
        (tmp_path / name).mkdir()
        torch.save(state, tmp_path / name / "last.pth")
        return cfg, method.eval(), tmp_path / name

    return save


@pytest.fixture
def write_report(monkeypatch, tmp_path):
    """Return `write_report(*arguments)` → the page as text."""

    def start(*arguments):
        out = tmp_path / "out" / "report.html"
        monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments), "--out", str(out)])
        report.main()
        return out.read_text()

    return start


@pytest.fixture
def trained(settings, miniature, tmp_path):
    """Results and checkpoints of two networks of random weights on three images."""
    for seed, method in enumerate(("baseline", "srha")):
        cfg = settings(METHOD=method, SEED=0, WORKERS=0, DATASET__ROOT=str(miniature),
                       DATASET__LABEL_SPACE="cityscapes19",
                       DATASET__VALIDATION=["cityscapes"])  # fmt: skip
        torch.manual_seed(seed)
        built, space = build_method(cfg)
        result = domain_result("Cityscapes", dict.fromkeys(space.classes, 0.1))
        result["confusion"] = torch.eye(19).tolist()
        own = run_result({"cityscapes": result}, method, settings=flatten(cfg))
        folder = write_results(tmp_path / method, own)
        state = {"settings": flatten(cfg), "step": 100, "method": built.state_dict()}
        torch.save(state, folder / "last.pth")
    return tmp_path
