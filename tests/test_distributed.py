"""Two gloo processes and one process: the same losses and gradients on the same global batch.

Under the conditions in which the means of a batch split over processes: labels with equal void and
region counts in every image, given SRM weights, batch norms on fixed statistics, no dropout.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from datasets.dataset import SegmentationDataset
from datasets.sampling import SequentialShard
from network.methods import METHODS
from utils.checkpoint import build_method
from utils.distributed import Runtime
from utils.evaluation import evaluate


def global_batch():
    """Four images; each label holds the same classes equally often, in another arrangement."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    quadrants = [torch.tensor([0, 3, 7, 255]).roll(i).view(2, 2) for i in range(4)]
    labels = torch.stack([q.repeat_interleave(32, 0).repeat_interleave(32, 1) for q in quadrants])
    return {"image": images, "label": labels, "step": 0}


def next_region(present):
    """SRM weights by which each region present takes the style of the next one."""
    number = present.shape[1]
    weights = torch.zeros(len(present), number, number)
    for image, row in enumerate(present):
        regions = row.nonzero().flatten()
        weights[image, regions, regions.roll(-1)] = 1
    return weights


def losses_and_gradients(cfg, rank, world_size):
    torch.manual_seed(0)
    method, _ = build_method(cfg)
    here = Runtime(torch.device("cpu"), rank, world_size, "float32")
    wrapped = here.wrap(method, sync_batch_norm=True)
    wrapped.train()
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    if hasattr(method, "rearrangement"):
        method.rearrangement.draw = next_region
    share = {k: v[rank::world_size] if torch.is_tensor(v) else v for k, v in global_batch().items()}
    losses = wrapped(share)
    sum(losses.values()).backward()
    values = here.sum(torch.stack([v.detach() for v in losses.values()])) / world_size
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return dict(zip(losses, values, strict=True)), gradients


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
    mp.spawn(in_process, options, nprocs=world_size)
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradients_are_those_of_one_process(settings, tmp_path, name):
    overrides = {"METHOD": name, "DATASET__LABEL_SPACE": "cityscapes19"}
    overrides |= {"DECODER__AUX_DROPOUT": 0.0}
    if name == "srha":
        overrides["TEACHER__BATCH_STATISTICS"] = False
    cfg = settings(**overrides)
    losses, gradients = losses_and_gradients(cfg, 0, 1)
    shared_losses, shared_gradients = in_processes(2, tmp_path, losses_and_gradients, cfg)
    torch.testing.assert_close(shared_losses, losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared_gradients, gradients, rtol=1e-4, atol=1e-6)
    assert len(gradients) > 20


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


def judge(cfg, rank, world_size):
    torch.manual_seed(0)
    method, space = build_method(cfg)
    here = Runtime(torch.device("cpu"), rank, world_size, "float32")
    return evaluate(method, SevenImages(), space, cfg, here)["confusion"]


@pytest.mark.parametrize("world_size, batch_size", [(2, 1), (3, 2)])
def test_every_image_is_judged_once_whatever_the_processes(
    settings, tmp_path, world_size, batch_size
):
    cfg = settings(DATASET__LABEL_SPACE="cityscapes19", WORKERS=0, VALID__BATCH_SIZE=batch_size)
    alone = judge(cfg, 0, 1)
    assert sum(map(sum, alone)) == sum(SevenImages()[i]["label"].numel() for i in range(7))
    assert in_processes(world_size, tmp_path, judge, cfg) == alone
    assert list(SequentialShard(7, 0, 3)) == [0, 3, 6]
