"""WildNet's content extension loss: in parts with its gradient, against its formula in autograd.

    python -m benchmarks.content_extension [--images 4] [--pixels 4096] [--channels 256]

Forward and backward of embeddings that are there; forms take turns; medians, on a CPU of its time
(run with OMP_NUM_THREADS=1). Memory is what a process of its own needs beyond the embeddings.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.reporting import ON_GPU, flags, in_own_process, peak_bytes, report, time_in_turns
from loss.content_extension import TEMPERATURE, content_extension
from utils.engine.allocator import keep_freed_memory
from utils.errors import run_script
from utils.labels import VOID


def main() -> None:
    """Measure both forms and report."""
    parser = flags(__doc__, images=4, pixels=4096, channels=256, rounds=3)
    options = parser.parse_args()
    sizes = (options.images, options.pixels, options.channels)
    keep_freed_memory()
    seconds = time_in_turns({form: step(form, *sizes) for form in FORMS}, options.rounds)
    inputs = in_own_process(memory_of, "", *sizes)
    extra = {form: in_own_process(memory_of, form, *sizes) - inputs for form in FORMS}
    rows = [
        [form, f"{1000 * own:.0f}", f"{own / seconds['formula']:.2f}", f"{extra[form] / 2**20:.0f}"]
        for form, own in seconds.items()
    ]
    about = f"{options.images} images of {options.pixels} pixels, {options.channels} channels"
    header = ["form", "ms", "/ formula", "MiB beyond the embeddings"]
    report(options, about, header, rows, {"about": about, "seconds": seconds, "bytes": extra})


def formula(
    source: Tensor, stylised: Tensor, labels: Tensor, nearest: Tensor, temperature: float
) -> Tensor:
    """Return what `content_extension` returns, by autograd, with all similarities in memory."""
    logits = (source @ stylised.transpose(1, 2)).clamp(-1, 1) / temperature
    number = labels.shape[1]
    alike = (labels[:, :, None] == labels[:, None]) | (labels == VOID)[:, None]
    own = torch.eye(number, dtype=torch.bool, device=labels.device)
    within = logits.masked_fill(alike & ~own, -1 / temperature)
    within = within.logsumexp(2) - logits.diagonal(dim1=1, dim2=2)
    wild = (source * nearest).sum(2).clamp(-1, 1) / temperature
    others = logits.masked_fill(alike, -torch.inf)
    beside = torch.cat([wild[..., None], others], dim=2).logsumexp(2) - wild
    valid = (labels != VOID).to(source.dtype)
    return (((within + beside) * valid).sum(1) / (valid.sum(1) + 1e-5)).mean()


FORMS: dict[str, Callable[..., Tensor]] = {"formula": formula, "in parts": content_extension}


def step(form: str, images: int, pixels: int, channels: int) -> Callable[[int], None]:
    """Return a function that runs a form forwards and backwards; "" does nothing."""
    device, generator = "cuda" if ON_GPU else "cpu", torch.Generator().manual_seed(0)
    s, t, nearest = (
        F.normalize(torch.randn(images, pixels, channels, generator=generator), dim=2).to(device)
        for _ in range(3)
    )
    labels = torch.randint(0, 19, (images, pixels), generator=generator).to(device)
    s, t = s.requires_grad_(), t.requires_grad_()

    def run(number: int) -> None:
        if form:
            FORMS[form](s, t, labels, nearest, TEMPERATURE).backward()
            s.grad = t.grad = None

    return run


def memory_of(form: str, images: int, pixels: int, channels: int) -> int:
    """Run a form twice and return this process's peak bytes."""
    run = step(form, images, pixels, channels)
    run(0)
    run(1)
    return peak_bytes()


if __name__ == "__main__":
    run_script(main)
