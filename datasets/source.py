"""The source domain as training sees it: the dataset with its transform, and the sampling order."""

from easydict import EasyDict

from datasets import build_dataset
from datasets.centroids import load_or_compute
from datasets.dataset import SegmentationDataset
from datasets.label_spaces import label_space
from datasets.sampling import ClassUniformSampler
from transforms import TrainTransform
from utils.distributed import Runtime
from utils.errors import UserError


def open_source(
    cfg: EasyDict, runtime: Runtime, start: int = 0
) -> tuple[SegmentationDataset, ClassUniformSampler]:
    """Open the training split of DATASET.SOURCE with class-uniform sampling.

    `start` is the number of samples that earlier steps of a resumed run have drawn. Centroids are
    computed by the main process alone, the others wait and read its cache.
    """
    if len(cfg.DATASET.SOURCE) != 1:
        raise UserError(
            f"training takes one source dataset, not {len(cfg.DATASET.SOURCE)}: "
            f"{', '.join(cfg.DATASET.SOURCE) or 'none given'}; change --dataset"
        )
    where = cfg.TRANSFORM.PHOTOMETRIC_ON
    on_device = where == "device" or (where == "auto" and runtime.device.type == "cuda")
    space = label_space(cfg.DATASET.LABEL_SPACE) if cfg.DATASET.LABEL_SPACE else None
    source = build_dataset(
        cfg.DATASET.SOURCE[0],
        "train",
        cfg,
        label_space=space,
        transform=TrainTransform(cfg, on_device),
        seed=cfg.SEED,
    )
    centroids = []
    if cfg.DATASET.CLASS_UNIFORM_FRACTION > 0:
        options = (cfg.DATASET.CLASS_UNIFORM_TILE, cfg.DATASET.CACHE_DIR)
        if runtime.is_main:
            centroids = load_or_compute(source, *options, len(source.label_space), cfg.WORKERS)
        runtime.barrier()
        if not runtime.is_main:
            centroids = load_or_compute(source, *options, len(source.label_space), cfg.WORKERS)
    sampler = ClassUniformSampler(
        len(source),
        cfg.DATASET.CLASS_UNIFORM_FRACTION,
        centroids,
        cfg.SEED,
        runtime.rank,
        runtime.world_size,
        start,
    )
    return source, sampler
