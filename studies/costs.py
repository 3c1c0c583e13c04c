"""What the rows of a study cost: speed and memory of training, and what inference needs more."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from datasets import label_space
from network.build import resolve_stored
from network.methods import Method, method_class
from utils.compare.paper_table import Groups, ResultCell, ResultColumn
from utils.engine.log import METRICS, read_records

NOTES = [
    "images/s: median over the training log, of labelled source images",
    "GiB: peak of the training process (of the GPU's memory where there is one)",
    "added: millions of parameters and buffers that inference keeps beyond trunk and decoder",
]


def cost_columns(groups: Groups) -> list[ResultColumn]:
    """Return columns of the rows of a table: images per second and peak memory in GiB, which runs
    without a log have not, and millions of numbers added at inference."""
    columns = []
    for title, name, of, digits in (
        ("images/s", "images_per_second", statistics.median, 1),
        ("GiB", "memory_gib", max, 2),
    ):
        cells = []
        for runs in groups.values():
            values = {run["settings"]["SEED"]: _logged(file, name, of) for file, run in runs}
            known = {seed: value for seed, value in values.items() if value is not None}
            cells.append(ResultCell(known, len(runs)))
        columns.append(ResultColumn(title, cells, cost=True, digits=digits))
    added = [ResultCell({0: added_at_inference(*runs[0]) / 1e6}, 1) for runs in groups.values()]
    return [*columns, ResultColumn("added, M", added, cost=True, digits=2)]


def _logged(file: Path, name: str, of: Callable[[list[float]], float]) -> float | None:
    """Return one number of what the log beside results.json says of speed."""
    log = file.with_name(METRICS)
    records = read_records(log) if log.is_file() else []
    values = [own[f"speed/{name}"] for own in records if f"speed/{name}" in own]
    return of(values) if values else None


def added_at_inference(file: Path, results: dict[str, Any]) -> int:
    """Return how many numbers, parameters and buffers, the inference of a run keeps beyond those of
    the same trunk, tuning and decoder alone."""
    cfg = resolve_stored(results["settings"], {}, file)
    space = label_space(cfg.DATASET.LABEL_SPACE)
    with torch.device("meta"):
        own, plain = (
            method_class(name)(cfg, len(space), pretrained=False)
            for name in (cfg.METHOD, "baseline")
        )
    return _numbers(own) - _numbers(plain)


def _numbers(method: Method) -> int:
    parts = (getattr(method, part) for part in method.inference_parts)
    state = [own for part in parts for own in part.state_dict().values()]
    return sum(own.numel() for own in state if own.is_floating_point())
