"""Which term of the loss pulls how hard, and whether it pulls where the others do.

    python -m utils.balance --snapshot logs/my_run [--batches 8] [--over ce] [KEY VALUE …]

Takes the network of a checkpoint, draws batches as training does and differentiates each term of
`training_losses` on its own. The table has a row for each term: its value, and for trunk and
decoder the length of its gradient (mean over batches), that length over the reference term's, and
the cosine between the two gradients, each the mean of all batches: 1 pulls where the reference
does, −1 against it. A term of no gradient in a part has a dash. Settings change the terms: with
CONSISTENCY.WEIGHT 1 that term is a tenth of the published one, at the same weights of the network.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

import config
from datasets.source import open_source
from network.methods import Method
from utils.checkpoint import build_method, open_run
from utils.distributed import Runtime, runtime
from utils.errors import UserError, run_script, unknown_name
from utils.optimization import plan_batch
from utils.results import align

Gradients = dict[str, Tensor]


class Term(NamedTuple):
    """A term of the loss over several batches: its mean value, and by part of the network the mean
    length of its gradient and the mean gradient itself, flat; no parts that it does not reach."""

    value: float
    lengths: dict[str, float]
    gradients: Gradients


def main() -> None:
    """Differentiate the terms of a checkpoint's loss, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.balance", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--snapshot", type=Path, required=True, help="a checkpoint, or a folder for its last.pth"
    )
    parser.add_argument("--batches", type=int, default=8, help="default: 8")
    parser.add_argument(
        "--over", metavar="TERM", help="the reference; default: ce, or the first term"
    )
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE")
    options = parser.parse_intermixed_args()
    if options.batches < 1:
        raise UserError("--batches has to be at least 1")
    cfg, state = open_run(options.snapshot, config.parse_pairs(options.settings))
    if state.get("network_only"):
        raise UserError(
            f"{options.snapshot} holds a network for inference; a loss needs a checkpoint of "
            "training (last.pth)"
        )
    with runtime(cfg) as here:
        if here.world_size > 1:
            raise UserError("utils.balance runs in one process; start it without torchrun")
        method, _ = build_method(cfg, state)
        here.wrap(method, sync_batch_norm=False)
        terms = measure(method, batches(cfg, here, options.batches), here)
    print(table(terms, options.over or ("ce" if "ce" in terms else next(iter(terms)))))


def batches(cfg: EasyDict, here: Runtime, number: int) -> Iterator[dict[str, Any]]:
    """Yield the first batches of training, each of TRAIN.BATCH_SIZE images or as many as one pass
    holds, on the device."""
    parts = len(cfg.DATASET.SOURCE) if cfg.DATASET.MIXING == "equal" else 1
    plan = plan_batch(cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS, 1, parts)
    source, sampler = open_source(cfg, here)
    loader = DataLoader(source, plan.images, sampler=sampler, num_workers=cfg.WORKERS)
    for step, batch in enumerate(islice(loader, number)):
        here.seed_step(cfg.SEED, step)
        yield source.transform.finish(here.to_device(batch)) | {"step": cfg.TRAIN.MAX_ITER}


def measure(method: Method, drawn: Iterator[dict[str, Any]], here: Runtime) -> dict[str, Term]:
    """Return the terms of a method's training loss over the batches, by name.

    The method's batch norms and memories follow the batches, as in training.
    """
    parts = {name: [*own] for name, own in method.parameter_groups().items()}
    values: dict[str, list[float]] = {}
    lengths: dict[str, dict[str, list[float]]] = {}
    sums: dict[str, Gradients] = {}
    method.train()
    for batch in drawn:
        with here.autocast():
            losses = method(batch)
        for name, loss in losses.items():
            values.setdefault(name, []).append(loss.item())
            for part, gradient in differentiate(loss, parts).items():
                own = lengths.setdefault(name, {}).setdefault(part, [])
                own.append(gradient.norm().item())
                total = sums.setdefault(name, {})
                total[part] = total.get(part, 0) + gradient
        del losses
    return {
        name: Term(
            sum(own) / len(own),
            {part: sum(each) / len(each) for part, each in lengths.get(name, {}).items()},
            {part: total / len(own) for part, total in sums.get(name, {}).items()},
        )
        for name, own in values.items()
    }


def differentiate(loss: Tensor, parts: dict[str, list[nn.Parameter]]) -> Gradients:
    """Return the gradient of a scalar in each part of a network, flat and in float32; no part that
    it does not reach. Other terms of the same pass can be differentiated after it."""
    if not loss.requires_grad:
        return {}
    members = [p for own in parts.values() for p in own]
    found = iter(torch.autograd.grad(loss, members, retain_graph=True, allow_unused=True))
    gradients = {}
    for part, own in parts.items():
        each = list(islice(found, len(own)))
        if any(g is not None for g in each):
            full = [torch.zeros_like(p) if g is None else g for p, g in zip(own, each, strict=True)]
            gradients[part] = torch.cat([g.float().flatten() for g in full])
    return gradients


def table(terms: dict[str, Term], reference: str) -> str:
    """Return the terms as a table; UserError if none is called `reference`."""
    if reference not in terms:
        raise unknown_name("term", reference, terms)
    base = terms[reference]
    parts = list(dict.fromkeys(part for term in terms.values() for part in term.gradients))
    header = ["term", "value"]
    for part in parts:
        header += [f"{part}: gradient", f"over {reference}", "cosine"]
    rows = [header]
    for name, term in terms.items():
        row = [name, f"{term.value:.4g}"]
        for part in parts:
            row += _cells(term, base, part)
        rows.append(row)
    return align(rows)


def _cells(term: Term, base: Term, part: str) -> list[str]:
    """Return length, ratio to the reference and cosine, or dashes."""
    if part not in term.gradients:
        return ["-", "-", "-"]
    length = term.lengths[part]
    if part not in base.gradients:
        return [f"{length:.3g}", "-", "-"]
    cosine = nn.functional.cosine_similarity(term.gradients[part], base.gradients[part], dim=0)
    ratio = length / base.lengths[part] if base.lengths[part] else float("nan")
    return [f"{length:.3g}", f"{ratio:.2f}", f"{cosine:+.2f}"]


if __name__ == "__main__":
    run_script(main)
