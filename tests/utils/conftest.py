"""Checkpoints for the commands that look into one."""

import pytest
import torch

from network.build import build_method
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
