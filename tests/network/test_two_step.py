"""Losses a step ahead: against two backward passes written out, alone and in two processes."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.build import build_method
from network.methods.mldg import split_sources
from network.two_step import at, gradients, with_gradient
from tests.test_distributed import in_processes
from utils.engine.optimization import build_optimizer, decay_at, rates_at, set_rates
from utils.engine.runtime import Runtime
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
EXACT = {"rtol": 1e-12, "atol": 1e-12}
OPTIONS = {
    **SPACE, "DATASET__SOURCE": ["gtav", "synthia"], "DECODER__AUX_DROPOUT": 0,
    "TRAIN__LR_ENCODER": 0.02, "TRAIN__LR_DECODER": 0.05, "TRAIN__MAX_ITER": 10,
}  # fmt: skip
MEMORY = {"MEMORY__GUMBEL": "never"}


class Line(nn.Module):
    """L_train = ½ (θ − 1)², L_test = ½ (θ − 3)²."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(()))

    def loss(self, goal):
        self.calls += 1
        return (self.theta - goal) ** 2 / 2


def test_a_scalar():
    line = Line()
    parameters = dict(line.named_parameters())
    inner = line.loss(1)
    found = gradients(inner, parameters)
    assert line.theta.grad is None and found == {"theta": -1}
    outer = at(line, {"theta": line.theta - 0.1 * found["theta"]}, line.loss, 3)
    carried = with_gradient(inner, parameters, found)
    assert (float(carried), float(outer)) == (0.5, pytest.approx(2.9**2 / 2))
    (carried + outer).backward()
    # Of second order it would be -3.61.
    assert line.theta.grad == pytest.approx(-3.9, abs=1e-15)
    assert line.calls == 1, "buffers at the other weights are copies"


def test_a_parameter_that_the_loss_does_not_know():
    line, other = Line(), nn.Parameter(torch.ones(2))
    found = gradients(line.loss(1), {"theta": line.theta, "other": other})
    assert torch.equal(found["other"], torch.zeros(2))


def test_gradients_are_kept_no_longer_than_the_backward_pass():
    line = Line()
    given = {"theta": torch.ones((), dtype=torch.float64)}
    kept = weakref.ref(given["theta"])
    loss = with_gradient(torch.zeros(()), {"theta": line.theta}, given)
    del given
    assert kept() is not None
    loss.backward()
    gc.collect()
    assert kept() is None and loss == 0 and line.theta.grad == 1


def images_and_labels(number=4, size=64):
    """As many images of each of two sources, with some void, and a class that two lack."""
    labels = torch.randint(0, 6, (number, size // 8, size // 8))
    labels[0, :3] = 255
    labels[1][labels[1] == 5] = 4
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return {"image": torch.randn(number, 3, size, size, dtype=torch.float64), "label": labels,
            "domain": torch.tensor([0, 1]).repeat(number // 2)}  # fmt: skip


def built(settings, name, **changes):
    cfg = settings(METHOD=name, **(OPTIONS | (MEMORY if name == "pinmem" else {}) | changes))
    method = build_method(cfg)[0].double().train()
    if name == "pinmem":
        method.memory.fill(F.normalize(torch.randn_like(method.memory.vectors), dim=1))
    return method, cfg


def plain_losses(network, half):
    output = network.decoder(network.trunk(half["image"]), half["image"].shape[-2:])
    return [F.cross_entropy(output.logits, half["label"], ignore_index=255), 0.4 * F.cross_entropy(
        output.auxiliary, F.interpolate(half["label"][:, None].double(),
        output.auxiliary.shape[-2:]).long()[:, 0], ignore_index=255)]  # fmt: skip


def reading(scores, labels):
    large = F.interpolate(scores, labels.shape[1:], mode="bilinear", align_corners=True)
    return 0.02 * F.cross_entropy(large, labels, ignore_index=255)


def written(memory, vectors, feature, labels):
    """The vectors after `feature` was written, class by class."""
    e = F.normalize(torch.relu(feature + memory.writer(feature)), dim=1)
    moved = []
    for k, vector in enumerate(vectors):
        mask = (labels == k).double()[:, None]
        share = F.interpolate(mask, e.shape[-2:], mode="bilinear", align_corners=True)
        if share.sum() > 0:
            mean = (share * e).sum((0, 2, 3)) / share.sum()
            vector = 0.8 * vector + 0.2 * mean
        moved.append(F.normalize(vector, dim=0))
    return torch.stack(moved)


def deep(network, images):
    return network.decoder.bot_aspp(network.decoder.aspp(network.trunk(images)[4]))


def inner_losses(network, half):
    losses = plain_losses(network, half)
    if hasattr(network, "memory"):
        feature, scores = network.memory.take()
        losses.append(reading(scores, half["label"]))
        m = written(network.memory, network.memory.vectors, feature, half["label"])
        pairs = [(i, j) for i in range(19) for j in range(19) if i != j]
        losses.append(0.4 * sum(torch.relu(m[i] @ m[j]) for i, j in pairs) / len(pairs))
        named = network.memory.classifier(m).log_softmax(1)
        losses.append(-0.2 * sum(named[k, k] for k in range(19)) / 19)
    return losses


def outer_losses(network, half, trained):
    if not hasattr(network, "memory"):
        return plain_losses(network, half)
    memory = network.memory
    with torch.no_grad():
        feature = deep(network, trained["image"])
    memory.reading = written(memory, memory.vectors, feature, trained["label"])
    losses = plain_losses(network, half)
    memory.reading = None
    return [*losses, reading(memory.take().scores, half["label"])]


def by_hand(network, momentum, batch, step, cfg):
    """One step as the published code takes it: two networks, two backward passes, SGD."""
    halves = []
    for sources in split_sources(cfg.SEED, step, 2):
        chosen = [i for i in range(len(batch["image"])) if int(batch["domain"][i]) in sources]
        halves.append({name: batch[name][chosen] for name in ("image", "label")})
    trained, tested = halves
    factor = (1 - step / 10) ** 0.9
    rates = {n: (0.02 if n.startswith("trunk") else 0.05) * factor
             for n, _ in network.named_parameters()}  # fmt: skip
    network.zero_grad()
    second = copy.deepcopy(network)  # running statistics as before the step
    inner = inner_losses(network, trained)
    sum(inner).backward()
    own = dict(network.named_parameters())
    for name, p in second.named_parameters():
        alpha = rates[name] / 4 if step else 0.001
        p.data = own[name].data - alpha * own[name].grad
    outer = outer_losses(second, tested, trained)
    sum(outer).backward()
    for name, p in second.named_parameters():
        if p.grad is not None:
            own[name].grad += p.grad
    found = {name: p.grad.clone() for name, p in own.items()}
    for name, p in own.items():
        momentum[name] = 0.9 * momentum.get(name, 0) + p.grad + 5e-4 * p.data
        p.data -= rates[name] * momentum[name]
    if hasattr(network, "memory"):
        with torch.no_grad():
            feature = deep(network.eval(), trained["image"])
            memory = network.memory
            memory.vectors.copy_(written(memory, memory.vectors, feature, trained["label"]))
        network.train()
    return [float(v.detach()) for v in (*inner, *outer)], found


@pytest.mark.parametrize("name", ["mldg", "pinmem"])
def test_whole_steps_against_two_networks(settings, name):
    method, cfg = built(settings, name)
    other, momentum = copy.deepcopy(method), {}
    optimizer = build_optimizer(method, cfg)
    for step in range(3):
        batch, rates = images_and_labels(12, 48), rates_at(step, cfg)
        set_rates(optimizer, rates, decay_at(step, cfg))
        losses = method(batch | {"step": step, "rate": rates})
        sum(losses.values()).backward()
        values, expected = by_hand(other, momentum, batch, step, cfg)
        figures = method.take_figures()
        terms = ["ce", "aux"] + (["read"] if name == "pinmem" else [])
        inner = terms + (["diversity", "classes"] if name == "pinmem" else [])
        logged = [*(figures[f"train/{t}"] for t in inner), *(losses[f"test_{t}"] for t in terms)]
        assert [float(v) for v in logged] == pytest.approx(values, rel=1e-12)
        assert float(losses["train"]) == pytest.approx(sum(values[: len(inner)]), rel=1e-12)
        found = {n: p.grad for n, p in method.named_parameters()}
        torch.testing.assert_close(found, expected, **EXACT)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step)
        # Parameters, running statistics, the memory.
        torch.testing.assert_close(method.state_dict(), other.state_dict(), **EXACT)
        assert method.training


def shared_step(cfg, weights, batches, rank, world_size):
    """What a step leaves of each process's share of a batch, batch norms on fixed statistics."""
    method = build_method(cfg)[0].double()
    method.load_state_dict(weights)
    runtime = Runtime(torch.device("cpu"), rank, world_size, "float32")
    wrapped = runtime.wrap(method, sync_batch_norm=True)
    wrapped.train()
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    optimizer = build_optimizer(method, cfg)
    losses = wrapped(batches[rank] | {"step": 1, "rate": rates_at(1, cfg)})
    sum(losses.values()).backward()
    found = {n: p.grad.clone() for n, p in method.named_parameters()}
    optimizer.step()
    method.after_step(1)
    return found, method.state_dict()


@pytest.mark.parametrize("name", ["mldg", "pinmem"])
def test_two_processes_are_one(settings, tmp_path, name):
    """Also where each has other classes than the other, but for void."""
    method, cfg = built(settings, name)
    batch = images_and_labels(8)
    batch["label"] = torch.where(torch.arange(64) < 16, 255, batch["label"] % 6)
    batch["label"][4:, 40:, 16:] = 9
    halves = [{key: value[part] for key, value in batch.items()}
              for part in (slice(4), slice(4, 8))]  # fmt: skip
    alone = shared_step(cfg, method.state_dict(), [batch], 0, 1)
    both = in_processes(2, tmp_path, shared_step, cfg, method.state_dict(), halves)
    for found, expected in zip(both, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_under_bfloat16_losses_are_float32(settings):
    method, _ = built(settings, "pinmem")
    method.float()
    batch = images_and_labels() | {
        "step": 1,
        "rate": dict.fromkeys(("trunk", "decoder", "other"), 0),
    }
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(batch | {"image": batch["image"].float()})
    found = [*losses.values(), *method.take_figures().values()]
    assert len(found) == 4 + 5 and {value.dtype for value in found} == {torch.float32}
    assert method.take_kept() and not method.take_kept()


def test_sources_are_parted_the_same_way_everywhere_and_in_every_way():
    splits = [split_sources(304, step, 3) for step in range(300)]
    for trained, tested in splits:
        assert trained and tested and sorted(trained + tested) == [0, 1, 2]
    assert len({tuple(trained) for trained, _ in splits}) == 6
    assert 110 < sum(len(trained) == 1 for trained, _ in splits) < 190
    assert splits == [split_sources(304, step, 3) for step in range(300)]
    assert splits != [split_sources(305, step, 3) for step in range(300)]


def test_halves_follow_the_sources_wherever_they_stand(settings):
    method, cfg = built(settings, "mldg", DATASET__SOURCE=["gtav", "synthia", "idd"])
    batch = images_and_labels(6) | {"domain": torch.tensor([2, 0, 1, 1, 0, 2]), "step": 4}
    for half, sources in zip(method._halves(batch), split_sources(cfg.SEED, 4, 3), strict=True):
        places = [i for s in sources for i in range(6) if batch["domain"][i] == s]
        assert torch.equal(half["image"], batch["image"][places])
        assert torch.equal(half["label"], batch["label"][places])


@pytest.mark.parametrize(("changes", "message"), [
    ({"TRUNK__RECOMPUTE": "off,off,on,off"}, "would get the wrong ones; set TRUNK.RECOMPUTE to"),
    ({"DATASET__MIXING": "proportional"}, "takes batches apart by source; set DATASET.MIXING to"),
    ({"DATASET__SOURCE": ["gtav"]}, "needs 2 sources or more, .* or name it twice"),
])  # fmt: skip
def test_what_does_not_go_with_it_is_refused(settings, changes, message):
    with pytest.raises(UserError, match=message):
        build_method(settings(METHOD="mldg", **(OPTIONS | changes)))
