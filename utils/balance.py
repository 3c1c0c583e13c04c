"""Which term of the loss pulls how hard, and whether it pulls where the others do.

    python -m utils.balance --snapshot logs/my_run [--batches 8] [--over ce] [KEY VALUE …]

Draws batches as training does and differentiates each term of `training_losses` of a checkpoint's
network on its own. A row of the table is a term: its value, weighted as at the checkpoint's step,
and for each part of the network (trunk, decoder, other) the length of its gradient (mean over
batches), that length over the reference term's, and the cosine between the two mean gradients: 1
pulls where the reference does, −1 against it. A dash: the term or the reference has no gradient.
Settings change the terms: CONSISTENCY.WEIGHT 1 makes that term a tenth of the published one.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

from network.build import build_method, open_run
from network.methods import Method
from utils.engine.interruption import data_from
from utils.engine.optimization import rates_at
from utils.engine.runtime import Runtime, open_runtime
from utils.engine.sources import open_training
from utils.errors import UserError, run_script, unknown_name
from utils.evaluate.results import text_columns
from utils.settings import split

Gradients = dict[str, Tensor]


class Term(NamedTuple):
    """A term of the loss, mean over batches: its value, and by part of the network that it reaches
    the length of its gradient and the flat gradient itself."""

    value: float
    lengths: dict[str, float]
    gradients: Gradients


def main() -> None:
    """Differentiate the terms of a checkpoint's loss, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.balance", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--snapshot", type=Path, required=True, help="a checkpoint, or a folder for its last.pth")
    add("--batches", type=int, default=8, help="default: 8")
    add("--over", metavar="TERM", help="the reference; default: ce, or the first term")
    options, settings = split(parser)
    if options.batches < 1:
        raise UserError("--batches has to be at least 1")
    cfg, state = open_run(options.snapshot, settings)
    if state.get("network_only"):
        raise UserError(
            f"{options.snapshot} holds a network for inference; a loss needs a checkpoint of "
            "training (last.pth)"
        )
    # A recomputed layer can be walked through backwards once only.
    cfg.TRUNK.RECOMPUTE = [False] * len(cfg.TRUNK.RECOMPUTE)
    with open_runtime(cfg) as runtime:
        if runtime.world_size > 1:
            raise UserError("utils.balance runs in one process; start it without torchrun")
        method, _ = build_method(cfg, state)
        runtime.wrap(method, sync_batch_norm=False)
        drawn = batches(cfg, runtime, options.batches, state["step"])
        terms = measure_terms(method, drawn, runtime, options.over)
    print(terms_table(terms, options.over or ("ce" if "ce" in terms else next(iter(terms)))))


def batches(cfg: EasyDict, runtime: Runtime, number: int, step: int) -> Iterator[dict[str, Any]]:
    """Yield the first batches of training, each of TRAIN.BATCH_SIZE images or as many as one pass
    holds, on the device. They bear the numbers of their steps, from `step` on."""
    plan, source, sampler = open_training(cfg, runtime, step=step, whole=False)
    loader = DataLoader(source, plan.images, sampler=sampler, num_workers=cfg.WORKERS)
    with data_from(loader) as samples:
        for drawn, batch in enumerate(islice(samples, number)):
            runtime.seed_step(cfg.SEED, drawn)
            now = step + drawn * plan.images // cfg.TRAIN.BATCH_SIZE
            rates = rates_at(min(now, cfg.TRAIN.MAX_ITER), cfg)
            yield source.finish(runtime.to_device(batch)) | {"step": now, "rate": rates}


def measure_terms(
    method: Method, drawn: Iterable[dict[str, Any]], runtime: Runtime, over: str | None = None
) -> dict[str, Term]:
    """Return the terms of a method's training loss over the batches, by name.

    Statistics of batch norms follow the batches; what `after_step` moves stays where it is.
    UserError at the first batch if no term is called `over`.
    """
    parts = {name: [*own] for name, own in method.parameter_groups().items()}
    values: dict[str, float] = defaultdict(float)
    lengths: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    sums: dict[str, Gradients] = defaultdict(dict)
    method.train()
    number = 0
    for batch in drawn:
        number += 1
        method.take_kept()  # what `after_step` would need
        for losses in runtime.graphs(method, batch):
            for name, loss in losses.items():
                values[name] += loss.item()
                for part, gradient in differentiate(loss, parts).items():
                    lengths[name][part] += gradient.norm().item()
                    sums[name][part] = sums[name].get(part, 0) + gradient
            # The next graph needs the memory.
            del losses, loss
        if over and over not in values:
            raise unknown_name("term", over, values)
    return {
        name: Term(
            value / number,
            {part: length / number for part, length in lengths[name].items()},
            {part: total / number for part, total in sums[name].items()},
        )
        for name, value in values.items()
    }


def differentiate(loss: Tensor, parts: dict[str, list[nn.Parameter]]) -> Gradients:
    """Return the gradient of a scalar in each part of a network, flat and in float32; no part where
    it is 0 or does not reach. Other terms of the same pass can be differentiated after it."""
    if not loss.requires_grad:
        return {}
    members = [p for own in parts.values() for p in own]
    found = iter(torch.autograd.grad(loss, members, retain_graph=True, allow_unused=True))
    gradients = {}
    for part, own in parts.items():
        each = list(islice(found, len(own)))
        if any(g is not None for g in each):
            full = [torch.zeros_like(p) if g is None else g for p, g in zip(own, each, strict=True)]
            flat = torch.cat([g.float().flatten() for g in full])
            if flat.any():
                gradients[part] = flat
    return gradients


def terms_table(terms: dict[str, Term], reference: str) -> str:
    """Return the terms as a table; `reference` is one of them."""
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
    return text_columns(rows)


def _cells(term: Term, base: Term, part: str) -> list[str]:
    """Return length, ratio to the reference and cosine, or dashes."""
    if part not in term.gradients:
        return ["-", "-", "-"]
    length = term.lengths[part]
    if part not in base.gradients:
        return [f"{length:.3g}", "-", "-"]
    cosine = nn.functional.cosine_similarity(term.gradients[part], base.gradients[part], dim=0)
    return [f"{length:.3g}", f"{length / base.lengths[part]:.2f}", f"{cosine:+.2f}"]


if __name__ == "__main__":
    run_script(main)
