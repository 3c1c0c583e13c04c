"""What several tests share: small settings and a miniature benchmark of a few images."""

import os

import pytest
import torch
from filelock import FileLock

from benchmarks.networks import small
from datasets import DATASETS
from datasets.miniature.write import write_domains
from network.build import build_method, resolve
from network.decoders import DECODERS
from network.methods import METHODS
from utils.evaluate import results
from utils.settings import flatten

DOMAINS = ("GTAV", "SYNTHIA", "Cityscapes", "BDD100K", "Mapillary", "IDD", "PseudoTarget")

# What processes are forked with, since importing it takes seconds.
PRELOAD = ["train", *(entry.split(":")[0] for entry in (METHODS | DECODERS).values())]


@pytest.fixture(autouse=True)
def same_start(monkeypatch):
    """Start every test from the same torch seed, and without the user's own dataset roots."""
    torch.manual_seed(0)
    for dataset in DATASETS.values():
        monkeypatch.delenv(dataset.root_setting, raising=False)


@pytest.fixture(autouse=True)
def no_confusion_pictures(request, monkeypatch):
    """Leave them out of results, a second for each domain, but in tests that are marked `draws`."""
    if not request.node.get_closest_marker("draws"):
        monkeypatch.setattr(results, "can_draw", lambda pictures: False)


@pytest.fixture
def settings():
    """Return `settings(**overrides)` → resolved small settings; dots are written as `__`."""

    def make(**overrides):
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        return resolve(small(changes) | changes)

    return make


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """The root of a miniature benchmark with a few images per split of each domain."""
    base = tmp_path_factory.getbasetemp()
    # Drawn once for all processes of pytest-xdist, whose folders lie beside one another.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "miniature"
    with FileLock(shared / "miniature.lock"):
        if not root.exists():
            drawn = tmp_path_factory.mktemp("drawn")
            write_domains(drawn, DOMAINS, seed=0, workers=2, train=6, val=3)
            drawn.rename(root)
    return root


@pytest.fixture
def checkpoint(settings, miniature, tmp_path, monkeypatch):
    """Return `checkpoint(path, seed, **settings)`, which writes one as training does."""
    monkeypatch.chdir(tmp_path)

    def write(path, seed=1, **overrides):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "METHOD": "baseline",
            "EXPERIMENT": target.parent.name,
            "SEED": seed,
            "WORKERS": 0,
            "DATASET.ROOT": str(miniature),
            "DATASET.LABEL_SPACE": "cityscapes19",
            "DATASET.VALIDATION": ["gtav", "cityscapes"],
        }
        cfg = settings(**options | overrides)
        torch.manual_seed(seed)
        method, _ = build_method(cfg)
        state = {"settings": flatten(cfg), "step": 7, "method": method.state_dict()}
        torch.save(state, target)
        return target

    return write


@pytest.fixture
def batch():
    """A batch of two random images 64×80 of two sources with five classes and some void, and two
    without labels."""
    images = torch.randn(2, 3, 64, 80)
    labels = torch.randint(0, 5, (2, 8, 10)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :8, :8] = 255
    return {"image": images, "label": labels, "index": torch.arange(2),
            "domain": torch.arange(2), "step": 0,
            "rate": dict.fromkeys(("trunk", "decoder", "other"), 0.01),
            **{name: {"image": torch.randn(2, 3, 64, 80), "index": torch.arange(2)}
               for name in ("target", "wild")}}  # fmt: skip
