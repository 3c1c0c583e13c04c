"""The report on a step that was not finite: nonfinite.json, and the line that ends the run."""

import json
import math
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from datasets.sampling.source import Sources
from utils.engine.runtime import Runtime
from utils.errors import UserError

NAMED = 5  # parameters and files that the line names; the report has them all


@dataclass
class StepRecord:
    """What a report on a step needs: the losses of this process, the largest entry of each
    gradient, the names of their parameters, and the indices of each pass's images by stream."""

    step: int
    losses: dict[str, Tensor]
    gradient_sizes: Tensor
    parameters: list[str]
    indices: list[dict[str, Tensor]]


def stop_with_report(
    bad: StepRecord, source: Sources, rates: dict[str, float], runtime: Runtime, folder: Path
) -> NoReturn:
    """Write nonfinite.json and raise the UserError that sums it up; all processes call it.

    `source` knows the files of the images, `rates` are the learning rates by group.
    """
    losses = {name: float(value) for name, value in bad.losses.items()}
    at_fault = (~bad.gradient_sizes.isfinite()).tolist()
    own = {
        "process": runtime.rank,
        "losses": losses,
        "loss_is_finite": all(map(math.isfinite, losses.values())),
        "images": [str(path) for own in bad.indices for path in source.files(own)],
        "gradients_not_finite": list(compress(bad.parameters, at_fault)),
    }
    processes = runtime.gather(own)
    if not runtime.is_main:
        raise UserError("stopped with the main process, which says why")
    # A gradient is the mean over processes: it is not finite in all of them or in none.
    guilty = [process for process in processes if not process["loss_is_finite"]]
    report = {
        "step": bad.step,
        "what": "loss" if guilty else "gradient",
        "processes": guilty or processes,
        "rates": rates,
        "precision": runtime.precision,
    }
    path = folder / "nonfinite.json"
    path.write_text(json.dumps(_plain(report), indent=1) + "\n")
    raise UserError(f"{_sentence(report)}; report: {path}")


def _sentence(report: dict[str, Any]) -> str:
    processes = report["processes"]
    shown = "; ".join(
        ", ".join(f"{name} {value:.4g}" for name, value in process["losses"].items())
        + (f" in process {process['process']}" if len(processes) > 1 or process["process"] else "")
        for process in processes
    )
    parameters = processes[0]["gradients_not_finite"]
    images = [image for process in processes for image in process["images"]]
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in report["rates"].items())
    return (
        f"the {report['what']} is not finite in step {report['step']} ({shown}; gradient not "
        f"finite in {len(parameters)} parameters: {_some(parameters)}; images {_some(images)}; "
        f"rates {rates}; {report['precision']}). The weights were not changed by it and nothing "
        "was saved after it; --resume continues from the last checkpoint and meets it again, so "
        "change a rate, the precision or the images"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "") or "none"


def _plain(value: Any) -> Any:
    """JSON has no numbers that are not finite; write them as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
