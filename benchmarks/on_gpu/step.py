"""What a step of SRHA costs at the ResNet-50 recipe, and its regions by number of classes."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import region_statistics, train_step
from benchmarks.inputs import labels_of
from benchmarks.on_gpu.checks import Check, DoesNotApply, Figures, Sizes
from benchmarks.on_gpu.loops import by_loops
from benchmarks.reporting import ON_GPU, in_own_process, peak_bytes, time_in_turns
from network.regions import alignment, statistics
from network.regions.rearrangement import SemanticRearrangement
from utils.chunks import ELEMENTS

LOOPS = "published loops"
TIMED = ("regional", "all")
MOST_OF_SUMS = 1e-5  # of the size of sums: tensor cores round where they carry on
FIRST = ("floor", "srha", "baseline", LOOPS)


def checks(sizes: Sizes) -> Iterator[Check]:
    """Time and memory of forms of a step, the most important first."""
    yield Check("time of a step", lambda left: times(sizes, FIRST))
    for form in FIRST:
        yield Check(f"memory: {form}", lambda left, form=form: memory(sizes, form))
    yield Check("share of regions", lambda left: shares(sizes))
    others = ("srha", "contiguous layout", "float32", "recomputed layers")
    yield Check("pieces of restyling", lambda left: pieces(sizes))
    yield Check("CUDA graph", lambda left: graph(sizes))
    yield Check("compiled", lambda left: compiled(sizes))
    yield Check("layout and precision", lambda left: times(sizes, others))


def build(sizes: Sizes, form: str) -> Callable[[int], None]:
    """Return the step of a form."""
    own, changed = ("srha", by_loops) if form == LOOPS else (form, None)
    return train_step.build_step(
        own, sizes.trunk, "deeplabv3plus", sizes.crop, sizes.batch, 19, changed
    )


def times(sizes: Sizes, forms: tuple[str, ...]) -> Figures:
    """Time forms in turns; ratios are to the first."""
    steps = {form: build(sizes, form) for form in forms}
    seconds = time_in_turns(steps, sizes.rounds)
    found: Figures = {}
    for form, own in seconds.items():
        found[f"{form}, ms"] = round(1000 * own, 2)
        found[f"{form} / {forms[0]}"] = round(own / seconds[forms[0]], 3)
        found[f"{form}, images/s"] = round(sizes.batch / own, 2)
    return found


def memory(sizes: Sizes, form: str) -> Figures:
    """Return the peak of a step beyond what was there before its form was built, in MiB; the first
    two try out algorithms, whose working memory is no need of the step."""
    if not ON_GPU:
        raise DoesNotApply("the memory of a process on the CPU holds earlier checks")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    step = build(sizes, form)
    for number in range(2):
        step(number)
    torch.cuda.reset_peak_memory_stats()
    step(2)
    return {"MiB": round((peak_bytes() - before) / 2**20)}


def shares(sizes: Sizes) -> Figures:
    """Return what statistics, restyling and alignment take of an SRHA step."""
    whole = time_in_turns({"srha": build(sizes, "srha")}, sizes.rounds)["srha"]
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    own = regions(sizes, dtype, [19])[19]
    return {
        "restyling": round(own["restyle"] / whole, 4),
        "restyling and alignment": round(own["all"] / whole, 4),
        "restyling / copy": round(own["restyle"] / own["copy"], 2),
        "regional / local": round(own["regional"] / own["local"], 2),
    }


def pieces(sizes: Sizes) -> Figures:
    """Time what SRM does on layer 0, piece by piece, in ms."""
    side, device = sizes.crop // 4, "cuda" if ON_GPU else "cpu"
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    feature = torch.randn(sizes.batch, 64, side, side, device=device, dtype=dtype)
    feature = feature.contiguous(memory_format=torch.channels_last)
    labels, srm = labels_of(19, sizes.batch, sizes.crop).to(device), SemanticRearrangement(19)
    found = statistics.find_regions(labels, (side, side), 19)
    own = statistics.region_statistics(feature, found)
    forms = {
        "regions": lambda _: statistics.find_regions(labels, (side, side), 19),
        "first pixels": lambda _: statistics.first_pixels(found),
        "statistics": lambda _: statistics.region_statistics(feature, found),
        "weights": lambda _: srm.draw(found.present),
        "new style": lambda _: statistics.restyle(feature, found, own, own.mean, own.std),
        "all": lambda _: srm(feature, labels),
    }
    seconds = time_in_turns(forms, sizes.rounds, warm=True)
    return {f"{name}, ms": round(1000 * own, 3) for name, own in seconds.items()}


def regions(sizes: Sizes, dtype: torch.dtype, classes: list[int]) -> dict[int, dict[str, float]]:
    """Return seconds of restyling and alignment by number of classes."""
    options = Namespace(
        batch=sizes.batch, crop=sizes.crop, classes=classes, rounds=max(sizes.rounds // 2, 1)
    )
    return region_statistics.measure(options, dtype)


def graph(sizes: Sizes) -> Figures:
    """Capture a step in a CUDA graph and time it beside the eager one, in a process of its own: a
    capture that is broken off leaves its process unusable."""
    if not ON_GPU:
        raise DoesNotApply("CUDA graphs need a GPU")
    return in_own_process(captured_step, sizes)


def captured_step(sizes: Sizes) -> Figures:
    """Return the times of an eager and a captured step."""
    step = build(sizes, "srha")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for number in range(3):
            step(number)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step(0)
    forms = {"eager": build(sizes, "srha"), "graph": lambda number: captured.replay()}
    return ratio(time_in_turns(forms, sizes.rounds))


def compiled(sizes: Sizes) -> Figures:
    """Time a compiled step beside the eager one."""
    if not ON_GPU:
        raise DoesNotApply("compiling takes minutes on a CPU; benchmarks.train_step does it")
    return ratio(time_in_turns({f: build(sizes, f) for f in ("srha", "compiled")}, sizes.rounds))


def ratio(seconds: dict[str, float]) -> Figures:
    """Return two times in ms, and the second over the first."""
    (first, own), (second, other) = seconds.items()
    figures = {f"{first}, ms": round(1000 * own, 2), f"{second}, ms": round(1000 * other, 2)}
    return figures | {f"{second} / {first}": round(other / own, 3)}


def class_checks(sizes: Sizes) -> Iterator[Check]:
    """Regions by number of classes: sums as a scatter and as a product with the labels."""
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        for classes in sizes.classes:
            run = partial(forms_of_sums, sizes, dtype, classes)
            yield Check(f"K = {classes}, {name}", lambda left, run=run: run())
    yield Check("sums of halves", lambda left: sums_of_halves(sizes))
    yield Check("size of parts", lambda left: sizes_of_parts(sizes))


def forms_of_sums(sizes: Sizes, dtype: torch.dtype, classes: int) -> Figures:
    """Time the regional term, and SRM with all of alignment, with both forms of sums."""
    found = {}
    # On CPUs no product of halves is added in float32.
    for form in ("scatter", "product") if ON_GPU or dtype == torch.float32 else ("scatter",):
        with forced(form):
            own = regions(sizes, dtype, [classes])[classes]
        for name in TIMED:
            found[f"{name}, {form}, ms"] = round(1000 * own[name], 2)
    return found


@contextmanager
def forced(form: str) -> Iterator[None]:
    """Take sums over regions as a "scatter" or as a "product", whatever would be chosen."""

    def chosen(*_: Any) -> bool:
        return form == "product"

    with patch.object(statistics, "sums_by_product", chosen):
        with patch.object(alignment, "sums_by_product", chosen):
            yield


def sums_of_halves(sizes: Sizes) -> Figures:
    """Compare sums of halves over regions, a product on GPUs, with those in float64; twice."""
    device, found = "cuda" if ON_GPU else "cpu", {}
    labels = labels_of(19, sizes.batch, sizes.crop).to(device)
    own = statistics.find_regions(labels, (sizes.crop // 8, sizes.crop // 8), 19)
    for dtype in (torch.bfloat16, torch.float16):
        # Rounded last: numbers near 0 have bits that float32 sums cannot hold.
        rows = (torch.randn(len(own.slot), 64, device=device) + 1).to(dtype)
        first, second = (statistics.region_sums(own, [rows])[0] for _ in range(2))
        (exact,) = statistics.region_sums(own, [rows.double()])
        error = float((first - exact).norm() / exact.norm())
        name = str(dtype).removeprefix("torch.")
        found |= {f"error, {name}": f"{error:.1e}", f"repeats, {name}": torch.equal(first, second)}
        if not error <= MOST_OF_SUMS:
            raise ArithmeticError(f"sums of {name} differ by {error:.1e} of their size")
    return found


def sizes_of_parts(sizes: Sizes) -> Figures:
    """Time the regional term, and SRM with all of alignment, by the number of elements that are
    handled at once: few stay in the cache of a GPU, many need fewer launches."""
    dtype, found = torch.bfloat16 if ON_GPU else torch.float32, {}
    for exponent in (21, 22, 23, 25):
        with patch.dict(ELEMENTS, {"cuda" if ON_GPU else "cpu": 2**exponent}):
            own = regions(sizes, dtype, [19])[19]
        found |= {f"{name}, 2^{exponent}, ms": round(1000 * own[name], 2) for name in TIMED}
    return found
