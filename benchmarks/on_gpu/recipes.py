"""Hours and memory of each recipe on one GPU, extrapolated from its step."""

from collections.abc import Iterator

import torch

from benchmarks.on_gpu.checks import Check, DoesNotApply, Figures, Sizes
from benchmarks.recipes import plan_of, scripts, settings_of_script, step_of
from benchmarks.reporting import ON_GPU, peak_bytes, time_in_turns
from utils.engine.runtime import Runtime
from utils.errors import UserError
from utils.extras import import_extra

FIRST = ("train_r50os16_gtav_srha", "train_r101os16_gtav_srha", "train_mobile_gtav_srha",
         "train_dinov2l_gtav_soma_srha", "train_r50os16_gtav_isw", "train_mitb5_gtav_didex_mic",
         "train_r50m2f_gtav_srha", "train_r50os16_gtav_spc")  # fmt: skip
# A recipe whose step cannot be told from another's by time: the source, or the number of steps.
ALIKE = ("_city_", "_gtav_gtav_", "robustnet_base")


def checks(sizes: Sizes) -> Iterator[Check]:
    """A step of each recipe, the most used first."""
    names = sizes.recipes or tuple(
        name for name in scripts() if not any(part in name for part in ALIKE)
    )
    for name in sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        yield Check(name, lambda left, name=name: hours(name, sizes))


def hours(script: str, sizes: Sizes) -> Figures:
    """Time a pass and the optimizer; a step is that many passes, without loading of data."""
    overrides = {"PRECISION": "bfloat16"}
    if not ON_GPU:
        overrides = {"TRUNK.NAME": sizes.trunk, "TRANSFORM.CROP_SIZE": f"{sizes.crop},{sizes.crop}"}
    cfg = settings_of_script(script, overrides)
    if cfg.DECODER.NAME == "mask2former" or cfg.TRUNK.NAME.startswith("mit"):
        try:
            import_extra("this recipe", "transformers")
        except UserError as error:
            raise DoesNotApply(str(error)) from None
    device = torch.device("cuda" if ON_GPU else "cpu")
    before = torch.cuda.memory_allocated() if ON_GPU else 0
    step, _ = step_of(cfg, Runtime(device, 0, 1, cfg.PRECISION, cfg.CHANNELS_LAST))
    step(0)
    if ON_GPU:
        # The first step tried out algorithms, whose working memory is no need of the recipe.
        torch.cuda.reset_peak_memory_stats()
    seconds = time_in_turns({script: step}, max(sizes.rounds // 2, 1))[script]
    plan, steps = plan_of(cfg), cfg.TRAIN.MAX_ITER
    figures: Figures = {
        "images a pass": plan.images,
        "passes": plan.passes,
        "pass, ms": round(1000 * seconds, 1),
        "images/s": round(plan.images / seconds, 2),
        "hours": round(seconds * plan.passes * steps / 3600, 1),
        "precision": cfg.PRECISION,
    }
    if ON_GPU:
        figures["peak GiB"] = round((peak_bytes() - before) / 2**30, 2)
    return figures
