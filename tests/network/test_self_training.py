"""The step of the self-training family against a plain form of it, and what its parts hold to."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.build import build_method, initialise
from network.methods import METHODS, method_class
from network.methods import self_training as module
from network.methods.self_training import SelfTraining
from network.regions.statistics import pure_cells
from network.self_training.mixing import hide_blocks
from tests.networks import losses_of
from utils.errors import UserError

FAMILY = [name for name in METHODS if issubclass(method_class(name), SelfTraining)]
SPACE = {"DATASET__LABEL_SPACE": "cityscapes19", "DECODER__NAME": "daformer"}
QUIET = {"STRONG__JITTER_PROBABILITY": 0.0, "STRONG__BLUR_PROBABILITY": 0.0}
K = 19


@pytest.fixture
def make(settings):
    """Return `make(name, …)` → a method in float64 and training mode without dropout, whose random
    networks are sure of a part of the pixels."""

    def make(name, **overrides):
        cfg = settings(METHOD=name, DECODER__DROPOUT=0.0, **(SPACE | QUIET | overrides))
        method, _ = build_method(cfg)
        with torch.no_grad():
            nn.init.normal_(method.decoder.classifier.weight, std=1.0)
        method.double().train()
        for dropout in (m for m in method.modules() if isinstance(m, nn.Dropout2d)):
            dropout.p = 0.0
        return method

    return make


@pytest.fixture
def batch(batch):
    """In float64, with a class for which DAFormer keeps features near, and a border of blocks."""
    labels = batch["label"].clone()
    labels[labels == 4] = 13
    target = {"image": batch["target"]["image"].double()}
    return batch | {"image": batch["image"].double(), "label": labels, "target": target}


def entropy(logits, labels, weight):
    """The mean over all pixels; void is 0."""
    logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    return (F.cross_entropy(logits, labels, ignore_index=255, reduction="none") * weight).mean()


def scores(parts, images):
    return parts["decoder"](parts["trunk"](images), images.shape[-2:]).small


def labelled(method, images, threshold):
    """Pseudo-labels and q of a teacher that is a copy of the student."""
    teacher = copy.deepcopy(nn.ModuleDict({"trunk": method.trunk, "decoder": method.decoder}))
    with torch.no_grad():
        small = scores(teacher, images)
    size = images.shape[-2:]
    found = F.interpolate(small, size, mode="bilinear", align_corners=False).softmax(1)
    return found.argmax(1), (found.amax(1) >= threshold).double().mean()


def plain_step(method, batch, mask, threshold, hidden=None):
    """DACS, and MIC's masked images, in the order of the paper."""
    image, label, target = batch["image"], batch["label"], batch["target"]["image"]
    pseudo, q = labelled(method, target, threshold)
    parts = {"trunk": method.trunk, "decoder": method.decoder}
    losses = {"ce": entropy(scores(parts, image), label, 1.0)}
    mixed, labels = target.clone(), pseudo.clone()
    weight = torch.full(label.shape, float(q), dtype=torch.float64)
    for b, row, column in mask.nonzero().tolist():
        mixed[b, :, row, column] = image[b, :, row, column]
        labels[b, row, column] = label[b, row, column]
        weight[b, row, column] = 1
    losses["mix_ce"] = entropy(scores(parts, mixed), labels, weight)
    if hidden is not None:
        losses["masked_ce"] = entropy(scores(parts, hidden), pseudo, q)
    return losses, q


def gradients(method):
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["dacs", "mic"])
def test_a_step_against_a_plain_form(make, batch, monkeypatch, name):
    options = {"TEACHER__THRESHOLD": 0.5, "FEATURE_DISTANCE__WEIGHT": 0.0, "HRDA__DETAIL": [0, 0]}
    method = make(name, **options)
    mask = torch.rand(2, 64, 80) < 0.4
    monkeypatch.setattr(module, "class_mask", lambda *_: mask)
    hidden = None
    if name == "mic":
        torch.manual_seed(5)
        hidden = hide_blocks(batch["target"]["image"], 16, 0.7)
        monkeypatch.setattr(module, "hide_blocks", lambda images, block, ratio: hidden)
    expected, q = plain_step(copy.deepcopy(method), batch, mask, 0.5, hidden)
    assert 0.05 < q < 0.95

    plain = copy.deepcopy(method)
    sum(plain_step(plain, batch, mask, 0.5, hidden)[0].values()).backward()
    found = {}
    for losses in method(batch):
        sum(losses.values()).backward()  # a graph after the other
        found |= {name: loss.detach() for name, loss in losses.items()}
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(method.take_figures()["q"].double(), q)
    assert gradients(method).keys() == gradients(plain).keys()
    for key, value in gradients(plain).items():
        torch.testing.assert_close(method.get_parameter(key).grad, value, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("counted", [True, False])
def test_what_masked_images_leave_in_running_statistics(make, batch, counted):
    """Source and mixed images always count."""
    method = make("mic", MASK__STATISTICS=counted)
    student = [*method.trunk.named_buffers(), *method.decoder.named_buffers()]
    states = []
    for losses in method(batch):
        sum(losses.values()).backward()
        states.append([buffer.clone() for name, buffer in student if "running" in name])
    for source, mixed, masked in zip(*states, strict=True):
        assert not torch.equal(source, mixed) and torch.equal(mixed, masked) != counted


@pytest.mark.parametrize("name", FAMILY)
def test_graphs_add_up_to_one(make, batch, name):
    apart = make(name, TEACHER__THRESHOLD=0.5)
    together = copy.deepcopy(apart)
    number = 0
    torch.manual_seed(1)
    for losses in apart(batch):
        sum(losses.values()).backward()
        number += 1
    torch.manual_seed(1)
    sum(losses_of(together, batch).values()).backward()
    assert number == (3 if name == "mic" else 2)
    for key, value in gradients(together).items():
        torch.testing.assert_close(gradients(apart)[key], value, rtol=1e-9, atol=1e-12)


def test_the_methods_differ_in_defaults_alone():
    for name in FAMILY:
        own = {key for key in vars(method_class(name)) if not key.startswith("__")}
        assert own <= {"defaults", "small", "mixes_batch"}
    assert len(FAMILY) == 5


@pytest.mark.parametrize("name", FAMILY)
def test_the_teacher_starts_as_the_student_and_follows_it(make, batch, name):
    method = make(name, TEACHER__ALPHA=0.6)
    parts = method._student()
    with torch.no_grad():
        for parameter in method.trunk.parameters():
            parameter.add_(1e-3)  # as --init would
    losses_of(method, batch | {"step": 3})
    trunk, others = method.teacher.parts["trunk"], parts["trunk"].parameters()
    differ = [not torch.equal(*p) for p in zip(trunk.parameters(), others, strict=True)]
    assert all(differ), "it is reset at step 0 alone"
    losses_of(method, batch)
    kept = {}
    for part in parts:
        own = method.teacher.parts[part].parameters()
        for a, b in zip(own, parts[part].parameters(), strict=True):
            assert torch.equal(a, b) and not a.requires_grad
            kept[a] = a.clone()
    with torch.no_grad():
        for parameter in (p for p in method.parameters() if p.requires_grad):
            parameter.add_(1.0)
    for step, moved in ((0, 0.5), (1, 0.6 * 0.5 + 0.4)):
        method.after_step(step)
        for a, before in kept.items():
            torch.testing.assert_close(a, before + moved)
    state = method.state_dict()
    assert any(key.startswith("teacher.parts.trunk") for key in state)
    assert not [k for k in state if k.startswith("teacher") and k.split(".")[2] not in parts]


def test_weights_of_init_reach_the_teacher(settings, batch, tmp_path):
    names = {"METHOD": "sepico", **SPACE}
    first, _ = build_method(settings(**names))
    torch.save({"settings": {}, "step": 1, "method": first.state_dict()}, tmp_path / "last.pth")
    cfg = settings(**names, INIT=str(tmp_path))
    method, _ = build_method(cfg)
    initialise(method.double().train(), cfg)
    losses_of(method, batch)
    for part in ("trunk", "decoder"):
        own = method.teacher.parts[part].parameters()
        for a, b in zip(own, getattr(first, part).parameters(), strict=True):
            assert torch.equal(a, b.double())


def test_without_decay_the_teacher_is_the_student(make, batch):
    method = make("dacs", TEACHER__ALPHA=0.0)
    losses_of(method, batch)
    with torch.no_grad():
        next(method.trunk.layer1.parameters()).add_(1.0)
    method.after_step(7)
    student, teacher = method._student(), method.teacher.parts
    for part in teacher:
        for a, b in zip(teacher[part].parameters(), student[part].parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_teacher_stays_in_its_mode(make):
    method = make("sepico")
    for mode in (True, False):
        method.train(mode)
        modes = {type(m).__name__: m.training for m in method.teacher.modules()}
        assert modes["BatchNorm2d"] and not modes["Dropout2d"] and not modes["Conv2d"]


@pytest.mark.parametrize("void_counts", [True, False])
def test_void_in_the_mean_of_the_source(make, batch, void_counts):
    method = make("dacs", VOID_COUNTS=void_counts).eval()
    found = next(method.training_losses(batch))["ce"]
    labels = batch["label"]
    small = scores({"trunk": method.trunk, "decoder": method.decoder}, batch["image"])
    logits = F.interpolate(small, labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, labels, ignore_index=255, reduction="sum")
    number = labels.numel() if void_counts else (labels != 255).sum()
    torch.testing.assert_close(found, total / number)


def test_feature_distance_of_things(make, batch):
    """From the features of the weights it began with, at their running statistics."""
    batch |= {"label": torch.tensor([13, 2, 3, 255]).repeat_interleave(20).expand(2, 64, 80)}
    method = make("daformer", FEATURE_DISTANCE__WEIGHT=0.5, FEATURE_DISTANCE__CLASSES=[13, 2])
    with torch.no_grad():
        next(method.trunk.layer4.parameters()).mul_(1.5)
    before = copy.deepcopy(method.reference.state_dict())
    own = copy.deepcopy(method).trunk(batch["image"])[4]
    other = method.reference(batch["image"])[4]
    cells = pure_cells(batch["label"], own.shape[-2:], K, 0.75)
    distances = [
        (own[b, :, i, j] - other[b, :, i, j]).square().sum().sqrt()
        for b, i, j in (cells != 255).nonzero().tolist()
        if cells[b, i, j] in (13, 2)
    ]
    assert distances
    found = losses_of(method, batch)["feature_distance"]
    torch.testing.assert_close(found, 0.5 * torch.stack(distances).mean())
    assert all(torch.equal(v, before[k]) for k, v in method.reference.state_dict().items())


def test_the_contrast_starts_late_and_counts_from_the_beginning(make, batch):
    label = torch.tensor([0, 3]).repeat_interleave(40).expand(2, 64, 80).contiguous()
    batch |= {"label": label}
    method = make("sepico", CONTRAST__START=2, STRONG__SOURCE=False)
    amounts = []
    for step in range(3):
        losses = losses_of(method, batch | {"step": step})
        amounts.append(method.distributions.amount.clone())
        assert ("contrast" in losses) == (step == 2)
    features = method.view.features(method._student(), batch["image"])
    cells = pure_cells(label, features[4].shape[-2:], K, 0.75)
    for number in (0, 3):
        own = int((cells == number).sum())
        assert [float(a[number]) for a in amounts] == [own, 2 * own, 3 * own] and own > 0
    assert losses["contrast"] != 0 and losses["contrast"].requires_grad


@pytest.mark.parametrize("q", [0.0, 0.5])
def test_pseudo_labels_that_do_not_count_are_not_contrasted(make, batch, monkeypatch, q):
    seen = []
    contrast = module.distribution_contrast

    def note(features, cells, *others):
        seen.append(cells)
        return contrast(features, cells, *others)

    monkeypatch.setattr(module, "distribution_contrast", note)
    found = (torch.full((2, 64, 80), 3), torch.tensor(q, dtype=torch.float64))
    monkeypatch.setattr(module, "pseudo_labels", lambda *_: found)
    losses_of(make("sepico", TARGET__BORDER=[0, 32, 0, 0]), batch)
    _, target = seen[0].chunk(2)
    assert (target[:, :2] == (3 if q else 255)).all() and (target[:, 2:] == 255).all()


def test_the_richest_crop_of_a_larger_target_is_learned(make, monkeypatch):
    method = make("sepico")
    large = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    choose, seen = module.choose_crop, []

    def note(labels, size, classes):
        seen.append((tuple(labels.shape), size, choose(labels, size, classes)))
        return seen[0][2]

    monkeypatch.setattr(module, "choose_crop", note)
    target = method._labelled(large, (64, 80))
    assert seen[0][:2] == ((2, 96, 128), (64, 80))
    for b, (top, left) in enumerate(zip(*seen[0][2], strict=True)):
        assert torch.equal(target.image[b], large[b, :, top : top + 64, left : left + 80])
    assert target.label.shape == target.weight.shape == (2, 64, 80)


@pytest.mark.parametrize("everything", [False, True])
def test_what_the_mixed_loss_is_at_its_ends(make, batch, monkeypatch, everything):
    """Of an unsure teacher the target counts nothing, with a gradient; a mask of everything leaves
    the source."""
    monkeypatch.setattr(module, "class_mask", lambda x, *_: torch.full_like(x, everything).bool())
    losses = losses_of(make("dacs", TEACHER__THRESHOLD=1.0), batch)
    expected = losses["ce"] if everything else torch.zeros_like(losses["ce"])
    torch.testing.assert_close(losses["mix_ce"], expected)
    assert losses["mix_ce"].requires_grad


@pytest.mark.parametrize("name, overrides, message", [
    ("dacs", {"DATASET__TARGET": ""}, "dacs adapts to images without labels: set DATASET.TARGET"),
    ("sepico", {"TARGET__CROP_SIZE": [64, 40]}, "TARGET.CROP_SIZE 64,40 is smaller than TRANSFORM"),
    ("mic", {"TARGET__BOX": [128, 40]}, "TARGET.BOX 128,40 holds no crop of 64,64"),
    ("mic", {"TARGET__BORDER": [30, 34, 0, 0]}, "TARGET.BORDER 30,34,0,0 leaves nothing of a crop"),
    ("dacs", {"STRONG__BLUR_SIGMA": [1.2, 0.2]}, "STRONG.BLUR_SIGMA runs from low to high, not"),
    ("dacs", {"STRONG__BLUR_SIGMA": [20, 30]}, "too small for a blur of STRONG.BLUR_SIGMA 30"),
])  # fmt: skip
def test_targets_that_are_refused(settings, name, overrides, message):
    cfg = settings(METHOD=name, TRANSFORM__CROP_SIZE=[64, 64], **overrides)
    with pytest.raises(UserError, match=message):
        method_class(name).streams(cfg)


@pytest.mark.parametrize("overrides, message", [
    ({"FEATURE_DISTANCE__CLASSES": [3, 19]}, "CLASSES holds 19, .* has train ids 0 to 18"),
    ({"HRDA__DETAIL": [30, 40]}, "HRDA.DETAIL 30,40 is no multiple of 8"),
    ({"HRDA__DETAIL": [32, 0]}, "HRDA.DETAIL is .32, 0.: give both sides"),
])  # fmt: skip
def test_networks_that_are_refused(settings, overrides, message):
    with pytest.raises(UserError, match=message):
        build_method(settings(METHOD="hrda", **SPACE, **overrides))


def test_a_crop_that_two_scales_cannot_share(make, batch):
    method = make("hrda")
    batch |= {"image": batch["image"][..., :60, :], "label": batch["label"][:, :60]}
    with pytest.raises(UserError, match="TRANSFORM.CROP_SIZE 60,80 is no multiple of 8"):
        losses_of(method, batch)
