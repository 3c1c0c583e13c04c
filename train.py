"""Train a method on source domains and evaluate it on domains it never saw.

    python train.py --dataset gtav --method srha --trunk resnet50 --exp my_run
    torchrun --standalone --nproc_per_node=gpu train.py …

Read from top to bottom: settings → data → method → loop. `python config.py` lists the settings.
"""

if __name__ == "__main__":
    from utils.early import exit_on_signals

    exit_on_signals()

import shlex
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from datasets.sampling.passes import SourcePass
from network.build import build_method, initialise
from network.kept import stored_weights
from utils.draw.pictures import prediction_picture
from utils.engine.average import Average
from utils.engine.command_line import parse_train
from utils.engine.experiment import Experiment, open_experiment, refuse_other_settings
from utils.engine.guard import StepGuard
from utils.engine.interruption import Interruption, data_from
from utils.engine.log import ExperimentLog, RunningMeans
from utils.engine.optimization import (
    build_optimizer,
    clip_gradients,
    decay_at,
    rates_at,
    restore_optimizer,
    set_rates,
)
from utils.engine.progress import Progress
from utils.engine.runtime import Runtime, open_runtime
from utils.engine.saving import Checkpoints
from utils.engine.selection import Best
from utils.engine.sources import open_training
from utils.engine.surveys import run_survey
from utils.errors import Stopped, UserError, memory_for, run_script
from utils.evaluate.evaluation import evaluate, open_domain
from utils.evaluate.pictures import domain_picture
from utils.evaluate.results import domain_scalars, gather, results_text, write
from utils.processes import barrier, share_statistics
from utils.revision import revision
from utils.settings import flatten


def main() -> None:
    """Resolve the settings, from a checkpoint when resuming, and train."""
    with Interruption() as interruption:
        with open_experiment(*parse_train()) as experiment:
            with open_runtime(experiment.cfg) as runtime:
                train(experiment, runtime, interruption)


@memory_for(
    "training",
    "a smaller TRANSFORM.CROP_SIZE or TRAIN.BATCH_PER_PROCESS (with TRAIN.BATCH_SIZE where a step "
    "has to be one pass), PRECISION bfloat16, and TRUNK.RECOMPUTE where the method allows it, need "
    "less",
)
def train(experiment: Experiment, runtime: Runtime, interruption: Interruption) -> None:
    """Train in this process from step 0, or from the state of a checkpoint, to MAX_ITER."""
    cfg, folder, state = experiment.cfg, experiment.folder, experiment.state
    first_step, samples = (state["step"], state["samples"]) if state else (0, 0)
    if len(set(steps := runtime.gather(first_step))) > 1:
        raise UserError(
            f"the processes found different checkpoints in {folder} (steps {steps}); LOG.DIR must "
            "be a folder that all machines share"
        )
    refuse_other_settings(runtime.gather(flatten(cfg)))

    # Data: the sources, and the domains to evaluate.
    plan, source, sampler = open_training(cfg, runtime, samples, first_step)
    cfg.DATASET.LABEL_SPACE = source.label_space.name
    domains = {d: open_domain(d, cfg, source.label_space) for d in cfg.DATASET.VALIDATION}
    loader = DataLoader(
        source,
        batch_size=plan.images,
        sampler=sampler,
        num_workers=cfg.WORKERS,
        pin_memory=runtime.device.type == "cuda",
    )

    # Method and optimizer.
    method, space = build_method(cfg, state)
    anew = initialise(method, cfg) if cfg.INIT and not state else []
    if cfg.COMPILE:
        method.compile_network()
    wrapped = runtime.wrap(method, cfg.TRAIN.SYNC_BATCH_NORM)
    method = getattr(wrapped, "module", wrapped)
    optimizer = build_optimizer(method, cfg)
    if state:
        restore_optimizer(optimizer, state["optimizer"])
    average = Average(method, cfg, first_step, state and state.get("average"))

    # What is recorded and kept.
    best = Best(cfg, state and state["best"])
    running = RunningMeans(runtime.device, state and state["running_means"])
    checkpoints = Checkpoints(folder, experiment.checkpoint)
    log = ExperimentLog(
        folder, cfg, runtime.is_main, first_step, state["log_position"] if state else 0
    )
    guard = StepGuard(method, optimizer, source, runtime, interruption, folder)
    log.say(f"{cfg.METHOD} with {cfg.TRUNK.NAME} on {source.describe()}")
    log.say(f"{runtime.describe()}; {plan.describe(runtime.world_size)}; code {revision()}")
    log.say(best.describe())
    epoch = max(len(source) // cfg.TRAIN.BATCH_SIZE, 1)
    for remark in method.remarks(epoch):
        log.say(remark)
    log.say(f"curves and pictures: tensorboard --logdir {shlex.quote(str(folder.parent))}")
    if anew:
        log.say(f"not of {cfg.INIT}, which has other classes: {', '.join(anew)}")
    if state:
        log.say(experiment.warning or f"continuing {experiment.checkpoint} from step {first_step}")
        if state.get("images", len(source)) != len(source):
            log.say(
                f"warning: the source has {len(source)} images, and had {state['images']} at that "
                "checkpoint; the run will not be the one that was cut off"
            )
        for name, number in state.get("stream_images", {}).items():
            if len(source.streams[name]) != number:
                log.say(f"warning: the {name} has {len(source.streams[name])} images, had {number}")

    # Buffers that passes write.
    names = dict(method.named_buffers())
    changing = [b for name, b in names.items() if name.split(".")[0] not in method.unchanged]
    pause = partial(interruption.check, runtime)
    surveyed: list[int] = []

    @average.applied()
    def validate(step: int, max_images: int) -> dict[str, dict[str, Any]]:
        """Evaluate all domains; a better result makes the newest checkpoint, of this step, the
        best."""
        share_statistics(method)
        results = {}
        for name, domain in domains.items():
            results[name] = evaluate(method, domain, space, cfg, runtime, max_images, pause)
            if cfg.LOG.PICTURES_EVERY and runtime.is_main:
                log.picture(
                    step, f"{name}/prediction", domain_picture(method, domain, space, runtime)
                )
        log.scalars(step, domain_scalars(results))
        if best.improves(results, step) and runtime.is_main:
            checkpoints.keep_best()
        return results

    def survey(step: int, due: SourcePass) -> None:
        """Let the method look at source images, and log what it found."""
        try:
            found = run_survey(method, due, source, cfg, runtime, step, pause)
        except Stopped as stop:
            # Before other steps with a survey there is a checkpoint. Where the processes did not
            # agree, one alone would wait for the others.
            if not step and stop.agreed:
                if runtime.is_main:
                    save(0)
                barrier()
            raise
        surveyed.append(step)
        for line in found.lines:
            log.say(line)
        log.scalars(step, found.figures)
        for name, picture in found.pictures.items():
            log.picture(step, name, picture.cpu())

    def save(done: int) -> None:
        """Write the checkpoint of a step that is known to be sound."""
        checkpoints.save(
            {
                "settings": flatten(cfg),
                "label_space": space.plain(),
                "step": done,
                "samples": samples,
                "images": len(source),
                "stream_images": {name: len(own) for name, own in source.streams.items()},
                **stored_weights(method, cfg),
                "average": average.weights,
                "optimizer": optimizer.state_dict(),
                "best": best.record,
                "running_means": running.state(),
                "log_position": log.position(),
            }
        )

    def save_last_step() -> None:
        """Where data ends the run, save what was reached without the step that lacks them."""
        if runtime.is_main and step > first_step and not guard.void:
            for buffer, content in zip(changing, before, strict=False):
                buffer.copy_(content)
            if step not in surveyed:  # else saved before the survey, which is to be repeated
                save(step)
            log.say(f"saved step {step}; --resume continues from it")

    # Loop.
    interruption.defer()
    progress = Progress(folder.name, cfg.TRAIN.MAX_ITER, first_step, cfg.TRAIN.BATCH_SIZE, runtime)
    with data_from(loader, save_last_step) as samples_in_order, progress:
        batches = progress.timed(samples_in_order)
        for step in range(first_step, cfg.TRAIN.MAX_ITER):
            # At the start of a step, so that a run that was cut off here evaluates on resuming.
            if step and cfg.VALID.EVERY and step % cfg.VALID.EVERY == 0:
                with progress.pause():
                    validate(step, cfg.VALID.MAX_IMAGES)
            if due := method.survey_due(step, epoch):
                with progress.pause():
                    survey(step, due)
            method.train()
            rates = rates_at(step, cfg)
            set_rates(optimizer, rates, decay_at(step, cfg))
            runtime.seed_step(cfg.SEED, step)
            # A later pass that gets no data leaves statistics of the earlier ones.
            before = [buffer.clone() for buffer in changing] if plan.passes > 1 else []
            for number, batch in enumerate(islice(batches, plan.passes), start=1):
                batch = source.finish(runtime.to_device(batch)) | {"step": step, "rate": rates}
                with runtime.gradient_sync(wrapped, last_pass=number == plan.passes):
                    for losses in runtime.graphs(wrapped, batch):
                        losses = {name: value / plan.passes for name, value in losses.items()}
                        sum(losses.values()).backward()
                        guard.add(losses)
                figures = method.take_figures().items()
                guard.saw(source.indices(batch), {k: v / plan.passes for k, v in figures})
            runtime.average_gradients(method)
            running.add(guard.agree(step))
            clip_gradients(method, cfg.TRAIN.CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(step)
            average.update(step + 1)
            samples += cfg.TRAIN.BATCH_SIZE
            progress.update()

            done = step + 1
            last = done == cfg.TRAIN.MAX_ITER
            logging = last or done % cfg.LOG.EVERY == 0
            saving = last or done % cfg.LOG.CHECKPOINT_EVERY == 0
            saving |= cfg.VALID.EVERY > 0 and done % cfg.VALID.EVERY == 0
            saving |= method.survey_due(done, epoch) is not None
            picturing = cfg.LOG.PICTURES_EVERY > 0 and (last or done % cfg.LOG.PICTURES_EVERY == 0)
            # Nothing is recorded of a step before it is known to be sound.
            stop = guard.check(now=logging or saving or picturing)
            if logging:
                values = running.take()
                losses = [mean for name, mean in values.items() if name.startswith("loss/")]
                values["loss/total"] = sum(losses)
                used = {f"rate/{g['name']}": g["lr"] for g in optimizer.param_groups}
                speed = progress.measure()
                log.scalars(done, values | used | speed)
                progress.show(values["loss/total"], max(used.values()), speed)
            if picturing:
                method.eval()
                image, label = batch["image"][:1], batch["label"][0]
                with torch.no_grad(), runtime.autocast():
                    logits = method(image)[0]
                log.picture(
                    done, "training crop", prediction_picture(image[0], label, logits, space)
                )
            if runtime.is_main and (saving or stop):
                save(done)
            if stop and not last:
                # Whoever ended before the checkpoint is written would have the others ended.
                barrier()
                raise interruption.outcome(stop)

    # Also for a run that was resumed after its last step, because its validation was cut off.
    results = validate(cfg.TRAIN.MAX_ITER, max_images=0)
    if runtime.is_main and results:
        summary = gather(results, cfg, cfg.TRAIN.MAX_ITER) | {"best": best.record}
        write(summary, folder)
        print(f"{results_text(summary)}\n\nwritten to {folder}")
    log.close()


if __name__ == "__main__":
    run_script(main)
