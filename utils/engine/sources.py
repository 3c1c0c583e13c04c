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
)
from utils.engine.runtime import Runtime


def open_training(
    cfg: EasyDict, runtime: Runtime, samples: int = 0, step: int = 0
) -> tuple[BatchPlan, Sources, Sampler[Key]]:
    """Plan a step's batch, and open the sources of the method with their order.

    `samples` were drawn in the `step` steps of a run that is continued. UserError where the batch
    cannot be split, or the sources cannot be trained on.
    """
    method, options = method_class(cfg.METHOD), cfg.TRAIN
    parts = len(cfg.DATASET.SOURCE) if cfg.DATASET.MIXING == "equal" else 1
    plan = plan_batch(options.BATCH_SIZE, options.BATCH_PER_PROCESS, runtime.world_size, parts)
    refuse_passes(plan, method, cfg)
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
