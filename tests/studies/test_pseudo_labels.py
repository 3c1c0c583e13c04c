"""How right pseudo-labels are: counted, and measured beside a run that stays as it is."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from easydict import EasyDict

from benchmarks.networks import small
from studies import pseudo_labels
from tests.engine.processes import load, same
from utils.errors import UserError


def test_counts():
    logits = torch.tensor([[[4.0, 0.1], [0.0, 4.0]], [[0.0, 0.0], [0.2, 0.0]]])
    method = SimpleNamespace(
        view=SimpleNamespace(predict=lambda parts, images: logits[None]),
        teacher=SimpleNamespace(parts=None),
        cfg=EasyDict(TEACHER={"THRESHOLD": 0.9}),
    )
    # Sure of the first class at two ends, unsure of either between them.
    labels = torch.tensor([[[0, 0], [1, 255]]])
    assert pseudo_labels.shares(method, None, labels).tolist() == [3, 3, 1, 1]
    assert pseudo_labels.shares(method, None, labels * 0 + 1).tolist() == [4, 1, 2, 0]


def test_a_run_that_is_watched(miniature, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = small({"METHOD": "dacs"}) | {
        "METHOD": "dacs", "DATASET.ROOT": miniature, "DATASET.TARGET": "cityscapes:train",
        "DATASET.VALIDATION": "gtav", "WORKERS": 0, "TRANSFORM.CROP_SIZE": "64,64",
        "TRAIN.BATCH_SIZE": 2, "TRAIN.MAX_ITER": 4, "VALID.SCALES": 0.25, "LOG.PICTURES_EVERY": 0,
    }  # fmt: skip
    words = [str(word) for pair in settings.items() for word in pair]
    own = ["--labelled", "cityscapes", "--every", "2", "--images", "5"]
    monkeypatch.setattr(sys, "argv", ["x", *own, "--", *words, "EXPERIMENT", "watched"])
    pseudo_labels.main()
    found = json.loads((tmp_path / "logs/watched/pseudo_labels.json").read_text())
    assert [row["step"] for row in found] == [2, 4] and all(0 < r["right"] < 1 for r in found)
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("| 4 | ")
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "EXPERIMENT", "plain"])
    pseudo_labels.train.main()
    states = [load(tmp_path / f"logs/{name}/last.pth", "settings", "log_position")
              for name in ("watched", "plain")]  # fmt: skip
    for state in states:  # which nothing reads
        state["method"] = {
            k: v for k, v in state["method"].items() if "teacher" not in k or "running" not in k
            and "batches" not in k
        }  # fmt: skip
    assert same(*states)


def test_without_arguments_of_training(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--labelled", "gtav"])
    with pytest.raises(UserError, match="follow behind --"):
        pseudo_labels.main()
