"""One process, two gloo processes, accumulated passes: the same losses and gradients.

Under the conditions in which the means of a batch split over processes and passes: labels with
equal void and region counts in every image, given SRM weights, points of masks, mixed classes,
hidden blocks and detail crops, batch norms on fixed statistics, no dropout. In float64, so that
only rounding is left.
"""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from benchmarks.networks import takes
from datasets.dataset import SegmentationDataset
from loss.mask_classification import number_of_targets
from network.build import build_method
from network.decoders import decoder_class
from network.methods import method_class
from network.self_training.boxes import Box
from network.self_training.mixing import PseudoLabels
from tests.conftest import PRELOAD
from tests.networks import COVERING, some_tuned
from transforms.strong import Switches
from utils.engine.guard import StepGuard
from utils.engine.interruption import Interruption
from utils.engine.optimization import build_optimizer
from utils.engine.runtime import Runtime
from utils.evaluate.evaluation import evaluate


def global_batch():
    """Four images; each label holds the same classes equally often, in another arrangement."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    quadrants = [torch.tensor([0, 3, 7, 255]).roll(i).view(2, 2) for i in range(4)]
    labels = torch.stack([q.repeat_interleave(32, 0).repeat_interleave(32, 1) for q in quadrants])
    # Every share that is made of them has an image of each of two sources.
    domain = torch.tensor([0, 0, 1, 1])
    batch = {"image": images, "label": labels, "domain": domain, "step": 0}
    streams = {n: torch.randn(4, 3, 64, 64, generator=generator) for n in ("target", "wild")}
    return batch | {name: {"image": images} for name, images in streams.items()}


def next_region(present):
    """SRM weights by which each region present takes the style of the next one."""
    number = present.shape[1]
    weights = torch.zeros(len(present), number, number)
    for image, row in enumerate(present):
        regions = row.nonzero().flatten()
        weights[image, regions, regions.roll(-1)] = 1
    return weights


def same_points(number, points, two, **options):
    """In place of random points at which masks are compared: the same ones for each."""
    generator = torch.Generator().manual_seed(points)
    fixed = torch.empty(points, two, dtype=torch.float64).uniform_(generator=generator)
    return fixed.expand(number, points, two).clone()


def given_draws():
    """In place of what methods draw or find: the same for every image and pass."""
    stripes = torch.tensor([5, 9]).repeat(32)
    masked = torch.arange(64, dtype=torch.float64) % 16 < 8
    draws = {
        "network.methods.self_training.class_mask": lambda labels, *_: (
            (labels == 3) | (labels == 7)
        ),
        "network.methods.self_training.pseudo_labels": lambda logits, *_: PseudoLabels(
            stripes.expand(len(logits), 64, 64), logits.new_tensor(0.5)
        ),
        "network.methods.self_training.hide_blocks": lambda images, *_: images * masked,
        "network.methods.shade.dirichlet": lambda alpha, allowed: allowed / allowed.shape[1],
        "network.self_training.views.draw_box": lambda detail, *_: Box(16, 8, *detail),
        "transforms.strong.StrongAugmentation.draw_switches": lambda self: Switches(False, False),
    }
    stack = ExitStack()
    for name, draw in draws.items():
        stack.enter_context(patch(name, draw))
    return stack


def losses_and_gradients(cfg, passes, rank, world_size):
    """Return them for this process's share of the global batch, in `passes`, as train.py does."""
    with given_draws():
        return _losses_and_gradients(cfg, passes, rank, world_size)


def _losses_and_gradients(cfg, passes, rank, world_size):
    torch.manual_seed(0)
    method, _ = build_method(cfg)
    runtime = Runtime(torch.device("cpu"), rank, world_size, "float32")
    wrapped = runtime.wrap(method.double(), sync_batch_norm=True)
    wrapped.train()
    for module in method.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout2d)):
            module.eval()
    if method.rearrangement is not None:
        method.rearrangement.draw = next_region
    if hasattr(method.decoder, "criterion"):
        method.decoder.criterion.draw = same_points
    optimizer = build_optimizer(method, cfg)
    guard = StepGuard(method, optimizer, None, runtime, Interruption(), None)
    whole = global_batch()
    for number in range(passes):
        part = slice(rank + number * world_size, None, world_size * passes)
        share = {k: v[part] if torch.is_tensor(v) else v for k, v in whole.items()}
        share["image"] = share["image"].double()
        for name in ("target", "wild"):
            share[name] = {"image": whole[name]["image"][part].double()}
        with runtime.gradient_sync(wrapped, last_pass=number == passes - 1):
            for losses in runtime.graphs(wrapped, share):
                losses = {name: value / passes for name, value in losses.items()}
                sum(losses.values()).backward()
                guard.add(losses)
        guard.saw({"source": torch.arange(len(share["image"]))}, {})
    runtime.average_gradients(method)
    values = guard.agree(0)
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return values, gradients


def in_process(rank, world_size, rendezvous, work, arguments, out):
    torch.set_num_threads(1)
    address = f"file://{rendezvous}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    result = work(*arguments, rank, world_size)
    if rank == 0:
        torch.save(result, out)
    dist.destroy_process_group()


def in_processes(world_size, tmp_path, work, *arguments):
    """Run `work(*arguments, rank, world_size)` in gloo processes; return what rank 0 returned."""
    out = tmp_path / "out.pt"
    options = (world_size, tmp_path / "rendezvous", work, arguments, out)
    # Forked from a server that has imported everything, which takes seconds.
    mp.get_context("forkserver").set_forkserver_preload(PRELOAD)
    mp.start_processes(in_process, options, nprocs=world_size, start_method="forkserver")
    return torch.load(out, weights_only=True)


def split(name: str) -> bool:
    """Whether a batch of a method can be split at all."""
    return method_class(name).mixes_batch is not True


TUNED = some_tuned(("srha", "plain", "dinov2_mini", "soma"),
                   ("baseline", "mask2former", "convnext_mini", "rein"))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "decoder", "trunk", "tuning"),
    [
        *((m, d, "resnet_mini", "full") for m, d in COVERING if split(m)),
        *(each for each in TUNED if split(getattr(each, "values", each)[0])),
    ],
)
def test_losses_and_gradients_do_not_depend_on_how_a_batch_is_split(
    settings, tmp_path, name, decoder, trunk, tuning
):
    """One process with four images, with two passes of two, and two processes with two."""
    overrides = {"METHOD": name, "DECODER.NAME": decoder, "DATASET.LABEL_SPACE": "cityscapes19"}
    if takes(name, trunk):
        overrides |= {"TRUNK.NAME": trunk, "TRUNK.TUNING": tuning}
        if trunk != "resnet_mini" and name in ("hrda", "mic"):
            overrides["HRDA.DETAIL"] = [32, 32]
    overrides |= decoder_class(decoder).without_dropout | (method_class(name).mixes_batch or {})
    cfg = settings(**overrides, DATASET__SOURCE=["gtav", "idd"])
    losses, gradients = losses_and_gradients(cfg, 1, 0, 1)
    # Distances from the untuned network are 0 at the start: those of what is tuned, and of networks
    # without batch norms.
    zero = {loss for loss, value in losses.items() if value <= 0}
    distance = {"loss/feature_distance"} if trunk != "resnet_mini" else set()
    assert len(gradients) > 10 and (tuning != "full" or zero <= distance)
    accumulated = losses_and_gradients(cfg, 2, 0, 1)
    shared = in_processes(2, tmp_path, losses_and_gradients, cfg, 1)
    for other_losses, other_gradients in (accumulated, shared):
        torch.testing.assert_close(other_losses, losses, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(other_gradients, gradients, rtol=1e-9, atol=1e-13)


def targets_of(presence, rank, world_size):
    return number_of_targets(torch.tensor(presence[rank]))


def test_the_number_of_targets_is_a_mean_over_processes(tmp_path):
    presence = [[[1.0, 1, 1], [1, 1, 0]], [[0.0, 1, 0], [1, 0, 0]]]
    assert in_processes(2, tmp_path, targets_of, presence) == 3.5
    assert [targets_of(presence, rank, 1) for rank in range(2)] == [5, 2]
    assert targets_of([[[0.0, 0]]], 0, 1) == 1


class SevenImages(SegmentationDataset):
    """Random images of several sizes; seven do not divide over two or three processes."""

    title = "seven"
    split_rule = label_map = "none"
    label_maps = {}

    def __init__(self):
        self.means = {"mIoU": tuple(range(19))}

    def __len__(self):
        return 7

    def relative_list(self):
        return [str(i) for i in range(7)]

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        size = (64, 64 + 16 * (index % 3))
        return {
            "image": torch.randn(3, *size, generator=generator),
            "label": torch.randint(0, 19, size, generator=generator),
        }


def run_evaluation(cfg, rank, world_size):
    torch.manual_seed(0)
    method, space = build_method(cfg)
    runtime = Runtime(torch.device("cpu"), rank, world_size, "float32")
    return evaluate(method, SevenImages(), space, cfg, runtime)["confusion"]


@pytest.mark.parametrize("world_size, batch_size", [(2, 1), (3, 2)])
def test_every_image_is_evaluated_once_whatever_the_processes(
    settings, tmp_path, world_size, batch_size
):
    cfg = settings(DATASET__LABEL_SPACE="cityscapes19", WORKERS=0, VALID__BATCH_SIZE=batch_size)
    alone = run_evaluation(cfg, 0, 1)
    assert sum(map(sum, alone)) == sum(SevenImages()[i]["label"].numel() for i in range(7))
    assert in_processes(world_size, tmp_path, run_evaluation, cfg) == alone
