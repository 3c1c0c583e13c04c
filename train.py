"""Train a method on a source domain and judge it on domains it never saw.

    python train.py --dataset gtav --method srha --trunk resnet50 --exp my_run
    torchrun --standalone --nproc_per_node=gpu train.py …

Read from top to bottom: settings → data → method → loop. `python config.py` lists the settings.
"""

import math
import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.source import open_source
from utils.checkpoint import (
    build_method,
    load_checkpoint,
    load_network,
    resolve,
    save_checkpoint,
)
from utils.cli import parse_train
from utils.distributed import Runtime, runtime
from utils.errors import UserError, run_script
from utils.evaluation import evaluate, open_domain
from utils.logging import ExperimentLog, experiment_folder, refuse_existing
from utils.optimization import build_optimizer, plan_batch, restore_optimizer, set_rates
from utils.pictures import prediction_picture
from utils.results import gather, table, write


def main() -> None:
    """Resolve the settings, from a checkpoint when resuming, and train."""
    overrides, resume = parse_train()
    cfg = resolve(overrides)
    folder = experiment_folder(cfg)
    state = None
    if resume:
        state = load_checkpoint(folder / "last.pth")
        cfg = resolve(state["settings"] | overrides)
    elif int(os.environ.get("RANK", 0)) == 0:
        refuse_existing(folder)
    cfg.EXPERIMENT = folder.name
    with runtime(cfg) as here:
        train(cfg, folder, state, here)


def train(cfg: EasyDict, folder: Path, state: dict[str, Any] | None, here: Runtime) -> None:
    """Train in this process from step 0, or from the `state` of a checkpoint, to MAX_ITER."""
    first_step, samples = (state["step"], state["samples"]) if state else (0, 0)

    # Data: the source, and the domains to judge.
    plan = plan_batch(cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS, here.world_size)
    source, sampler = open_source(cfg, here, start=samples)
    cfg.DATASET.LABEL_SPACE = source.label_space.name
    domains = {d: open_domain(d, cfg, source.label_space) for d in cfg.DATASET.VALIDATION}
    loader = DataLoader(
        source,
        batch_size=plan.images,
        sampler=sampler,
        num_workers=cfg.WORKERS,
        pin_memory=here.device.type == "cuda",
    )

    # Method and optimizer.
    method, space = build_method(cfg, state)
    if cfg.INIT and not state:
        load_network(method, load_checkpoint(Path(cfg.INIT))["method"])
    wrapped = here.wrap(method, cfg.TRAIN.SYNC_BATCH_NORM)
    method = getattr(wrapped, "module", wrapped)
    optimizer = build_optimizer(method, cfg)
    if state:
        restore_optimizer(optimizer, state["optimizer"])

    log = ExperimentLog(folder, cfg, here.is_main)
    log.say(f"{cfg.METHOD} with {cfg.TRUNK.NAME} on {source.title} ({len(source)} images)")
    log.say(f"{here.describe()}; {plan.describe(here.world_size)}")

    # Loop.
    def validate(step: int, max_images: int) -> dict[str, dict[str, Any]]:
        results = {
            name: evaluate(method, domain, space, cfg, here, max_images)
            for name, domain in domains.items()
        }
        scores = {f"mIoU/{name}": r["means"]["mIoU"] for name, r in results.items()}
        log.scalars(step, scores)
        return results

    batches = iter(loader)
    sums: dict[str, torch.Tensor] = {}
    since = first_step
    with progress_bar(folder.name, cfg, first_step, here) as progress:
        for step in range(first_step, cfg.TRAIN.MAX_ITER):
            method.train()
            set_rates(optimizer, step, cfg)
            here.seed_step(cfg.SEED, step)
            for number, batch in enumerate(islice(batches, plan.passes), start=1):
                batch = here.to_device(batch) | {"step": step}
                with here.gradient_sync(wrapped, last_pass=number == plan.passes):
                    with here.autocast():
                        losses = wrapped(batch)
                    (sum(losses.values()) / plan.passes).backward()
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0) + value.detach() / plan.passes
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(step)
            samples += cfg.TRAIN.BATCH_SIZE
            progress.update()

            done = step + 1
            last = done == cfg.TRAIN.MAX_ITER
            if done % cfg.LOG.EVERY == 0 or last:
                means = (
                    here.sum(torch.stack(list(sums.values()))) / here.world_size / (done - since)
                )
                names = [f"loss/{name}" for name in sums]
                values = dict(zip(names, means.tolist(), strict=True))
                total = sum(values.values())
                if not math.isfinite(total):
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                    raise UserError(f"the loss is not finite before step {done} ({shown})")
                rates = {f"rate/{g['name']}": g["lr"] for g in optimizer.param_groups}
                log.scalars(done, values | {"loss/total": total} | rates)
                progress.set_postfix(loss=f"{total:.3f}")
                sums, since = {}, done
            if cfg.LOG.PICTURES_EVERY and (done % cfg.LOG.PICTURES_EVERY == 0 or last):
                method.eval()
                image, label = batch["image"][:1], batch["label"][0]
                with torch.no_grad(), here.autocast():
                    logits = method(image)[0]
                log.picture(
                    done, "training crop", prediction_picture(image[0], label, logits, space)
                )
            if here.is_main and (done % cfg.LOG.CHECKPOINT_EVERY == 0 or last):
                save_checkpoint(folder / "last.pth", method, optimizer, cfg, done, samples)
            if cfg.VALID.EVERY and done % cfg.VALID.EVERY == 0 and not last:
                validate(done, cfg.VALID.MAX_IMAGES)

    # Also for a run that was resumed after its last step, because its validation was cut off.
    results = validate(cfg.TRAIN.MAX_ITER, max_images=0)
    if here.is_main and results:
        summary = gather(results, cfg, cfg.TRAIN.MAX_ITER)
        write(summary, folder)
        print(f"{table(summary)}\n\nwritten to {folder}")
    log.close()


def progress_bar(name: str, cfg: EasyDict, first_step: int, here: Runtime) -> tqdm:
    """A bar over optimizer steps, shown by the main process; closed by `with`, also on errors."""
    return tqdm(desc=name, total=cfg.TRAIN.MAX_ITER, initial=first_step, disable=not here.is_main)


if __name__ == "__main__":
    run_script(main)
