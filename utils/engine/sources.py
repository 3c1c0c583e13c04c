"""What training draws its batches from, as the settings and their method say."""

from easydict import EasyDict
from torch.utils.data import Sampler

from datasets.sampling.samplers import Key
from datasets.sampling.source import Sources, open_source
from network.methods import method_class
from utils.engine.optimization import (
    BatchPlan,
    plan_batch,
    refuse_more_than_memory,
    refuse_passes,
    refuse_single_images,
)
from utils.engine.runtime import Runtime


def open_training(
    cfg: EasyDict, runtime: Runtime, samples: int = 0, step: int = 0, whole: bool = True
) -> tuple[BatchPlan, Sources, Sampler[Key]]:
    """Plan a step's batch, and open the sources of the method with their order.

    `samples` were drawn in the `step` steps of a run that is continued. `whole` steps are taken, or
    single passes. UserError where the batch cannot be split, the method cannot work with these
    choices, or the sources cannot be trained on.
    """
    method, options = method_class(cfg.METHOD), cfg.TRAIN
    method.check_choices(cfg)
    parts = len(cfg.DATASET.SOURCE) if cfg.DATASET.MIXING == "equal" else 1
    plan = plan_batch(options.BATCH_SIZE, options.BATCH_PER_PROCESS, runtime.world_size, parts)
    if whole:
        refuse_passes(plan, method, cfg)
    refuse_single_images(plan, method, cfg, runtime)
    refuse_more_than_memory(plan, cfg.TRANSFORM.CROP_SIZE, runtime.device)
    source, sampler = open_source(
        cfg,
        runtime.device.type,
        samples,
        method.streams(cfg),
        method.colours(cfg),
        step,
        repeats=method.splits_sources,
    )
    return plan, source, sampler
