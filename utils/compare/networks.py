"""The network that results are of, opened again to make further predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from easydict import EasyDict

from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace, coarsening
from network.build import ROOTS, build_method, resolve_stored
from network.checkpoint import load_checkpoint
from network.methods import Method
from utils.engine.runtime import Runtime, open_runtime
from utils.errors import UserError
from utils.evaluate.evaluation import open_domain, predict_batch


class Network(NamedTuple):
    """The network that results are of, and how they were made."""

    method: Method
    space: LabelSpace
    cfg: EasyDict
    runtime: Runtime

    def open(self, domain: str) -> SegmentationDataset:
        """Open a domain that it was evaluated on."""
        return open_domain(domain, self.cfg, self.space)

    @torch.no_grad()
    def predict(self, sample: dict[str, Any], evaluated: LabelSpace) -> torch.Tensor:
        """Return the train ids uint8 `[h, w]`, in the space `evaluated`, of a sample at its label's
        size, on the CPU."""
        size = sample["label"].shape
        labels = predict_batch(self.method, sample["image"][None], size, self.cfg, self.runtime)[0]
        return torch.from_numpy(coarsening(self.space, evaluated))[labels.cpu().long()]


# What may be given to commands that make further predictions: where things are, not how they are
# predicted.
PLACES = ("UNKNOWN_SETTINGS", "DEVICE", "VALID.MAX_PIXELS", *ROOTS)
GIVEN = "KEY VALUE pairs say where data are now and where to compute: DATASET.ROOT path, DEVICE cpu"


def open_network(source: Path, results: dict[str, Any], places: Mapping[str, Any]) -> Network:
    """Return the network of a results.json, with other settings of PLACES.

    UserError where its checkpoint is not found, or is of another step now.
    """
    checkpoint = find_checkpoint(source, results)
    state = load_checkpoint(checkpoint)
    if state["step"] != results["step"]:
        raise UserError(
            f"{checkpoint} is of step {state['step']} now, and {source} of step {results['step']}; "
            "evaluate it again (valid.py)"
        )
    cfg = resolve_stored(state["settings"] | results["settings"], places, source)
    method, space = build_method(cfg, state)
    with open_runtime(cfg) as runtime:
        method.to(runtime.device, memory_format=runtime.memory_format).eval()
    return Network(method, space, cfg, runtime)


def find_checkpoint(source: Path, results: dict) -> Path:
    """Return the checkpoint of a results.json: beside it, or beside the folder it lies in."""
    name = results.get("checkpoint", "last.pth")
    candidates = [source.parent / name, source.parent.parent / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"pictures need the checkpoint of {source}, and there is no "
        + " or ".join(map(str, candidates))
    )
