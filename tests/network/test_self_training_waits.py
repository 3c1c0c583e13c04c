"""No block of self-training reads a tensor of the device, nor has a result whose size depends on
values; choices drawn on the host are not counted, since the device has no part in them."""

from collections import Counter

import pytest
import torch
from torch import nn

from network.decoders import decoder_class
from network.regions.cells import feature_distance
from network.regions.statistics import pure_cells
from network.self_training import contrast, mixing
from network.self_training.teacher import EMATeacher
from network.self_training.views import MultiScale, SingleScale
from network.trunks import build_trunk
from tests.engine.test_synchronisation import (
    CountCalls,
    CountOperations,
    leave_out_draws_of_the_host,
)
from transforms import strong

K = 19


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, K, 1)

    def forward(self, features):
        return self.conv(features[1])


@pytest.fixture
def counts(monkeypatch):
    counts = Counter()
    leave_out_draws_of_the_host(monkeypatch, counts)
    return counts


def step(view, student, teacher, distributions, batch, target):
    """All blocks in the order of a step."""
    images, labels = batch["image"], batch["label"]
    augmentation = strong.StrongAugmentation(jitter_probability=1.0, blur_probability=1.0)
    teacher.reset(student)
    source = view.train(student, images)
    losses = list(view.losses(student, source, labels, torch.ones_like(images[:, 0])).values())
    feature = source.features[4]
    cells = pure_cells(labels, feature.shape[-2:], K, purity=0.1)
    losses.append(feature_distance(feature, torch.zeros_like(feature), cells))
    with torch.no_grad():
        logits = view.predict(teacher.parts, target)
        top, left = contrast.choose_crop(logits.argmax(1), (32, 48), K)
        contrast.cut(target, top, left, (32, 48))
        found = mixing.pseudo_labels(logits, 0.9)
    weight = mixing.pixel_weights(found.share, labels.shape, (2, 3, 0, 0))
    mask = mixing.class_mask(labels, K)
    mixed = augmentation(mixing.paste(mask, images, target), augmentation.draw_switches())
    pairs = (labels, found.label), (1.0, weight)
    mix = view.train(student, mixed)
    losses += view.losses(student, mix, *(mixing.paste(mask, *pair) for pair in pairs)).values()
    hidden = view.train(student, mixing.hide_blocks(target, 16, 0.7))
    losses += view.losses(student, hidden, found.label, weight).values()
    embedding = student["projector"](mix.features)
    distributions.update(embedding, cells)
    losses.append(contrast.distribution_contrast(embedding, cells, distributions))
    sum(losses).backward()
    teacher.update(student, 0, 0.99)


@pytest.mark.parametrize("view", [SingleScale(), MultiScale((32, 48), stride=4)])
def test_blocks_do_not_wait(view, counts, settings, batch):
    trunk = build_trunk("resnet_mini", 16, "none")
    decoder = decoder_class("deeplabv3plus")(trunk, K, settings())
    attention = Attention(trunk.channels[1])
    projector = contrast.Projector(trunk.channels[4:], (4,), hidden=8, width=8)
    parts = {"trunk": trunk, "decoder": decoder, "attention": attention, "projector": projector}
    student = nn.ModuleDict(parts)
    teacher, distributions = EMATeacher(student), contrast.ClassDistributions(K, 8)
    batch = {name: value for name, value in batch.items() if name in ("image", "label")}
    target = torch.randn_like(batch["image"])
    with CountCalls(counts), CountOperations(counts):
        step(view, student, teacher, distributions, batch, target)
    assert not counts
    assert decoder.classifier.weight.grad.any() and projector.convs[0].weight.grad.any()
