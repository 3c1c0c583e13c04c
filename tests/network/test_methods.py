"""Every method with every trunk and decoder: trains all it should, predicts, saves, loads."""

import pytest
import torch
from torch import nn

from benchmarks.networks import FAMILIES, takes
from network.build import build_method, load_network
from network.methods import METHODS, baseline, method_class
from network.methods.baseline import Baseline
from network.trunks import TRUNKS
from tests.network import toy_trunks
from tests.networks import COVERING, PAIRS, REFUSED, losses_of
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
# Every pair with a plain trunk; each method and decoder with one whose layers have one stride, and
# with a transformer of several; a pair with each family.
PLAIN = ("resnet_mini", "patches16", "mit_mini")
NETWORKS = [(PLAIN[0], m, d) for m, d in PAIRS if takes(m, PLAIN[0])]
NETWORKS += [(t, m, d) for t in PLAIN[1:] for m, d in COVERING if takes(m, t)]
NETWORKS += [(t, m, d) for t in FAMILIES if t not in PLAIN for m, d in COVERING[:1] if takes(m, t)]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, builder in toy_trunks.REGISTRY.items():
        monkeypatch.setitem(TRUNKS, name, builder)


def train_step(method, batch):
    method.train()
    losses = losses_of(method, batch)
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize(("trunk", "name", "decoder"), NETWORKS)
def test_a_step_reaches_every_trainable_parameter(settings, batch, name, trunk, decoder):
    network = {"TRUNK__NAME": trunk, "DECODER__NAME": decoder}
    method, _ = build_method(settings(METHOD=name, **network, **SPACE))
    view = getattr(method, "view", method.trunk)
    size = (97, 131) if getattr(view, "unit", method.trunk.multiple) == 1 else (96, 128)
    odd = {"image": torch.randn(2, 3, *size), "label": torch.randint(0, 19, (2, *size))}
    odd["target"] = {"image": torch.randn(2, 3, *size)}
    losses = train_step(method, batch | odd)
    assert all(torch.isfinite(v) and v.ndim == 0 for v in losses.values())
    trainable = {n: p for n, p in method.named_parameters() if p.requires_grad}
    forgotten = [n for n, p in trainable.items() if p.grad is None]
    assert not forgotten
    grouped = [p for group in method.parameter_groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in trainable.values()}
    assert len(grouped) == len(trainable)


@pytest.mark.parametrize(("trunk", "name", "decoder"), NETWORKS)
def test_odd_sizes_and_saving(settings, trunk, name, decoder):
    """Also of the inference network alone, as an exported file holds it."""
    cfg = settings(METHOD=name, TRUNK__NAME=trunk, DECODER__NAME=decoder, **SPACE)
    method, _ = build_method(cfg)
    method.eval()
    images = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        logits = method(images)
        assert logits.shape == (1, 19, 97, 131)
        state = method.state_dict()
        parts = {k: v for k, v in state.items() if k.split(".")[0] in method.inference_parts}
        for saved in ({"method": state}, {"method": parts, "network_only": True}):
            loaded, _ = build_method(cfg, saved)
            assert torch.equal(loaded.eval()(images), logits)
        load_network(loaded, state, ("trunk", "decoder"))  # as --init does


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
def test_evaluation_does_not_depend_on_the_batch_size(settings, batch, name, decoder):
    method, _ = build_method(settings(METHOD=name, DECODER__NAME=decoder, **SPACE))
    train_step(method, batch)
    method.eval()
    images = torch.randn(3, 3, 64, 80)
    with torch.no_grad():
        together = method(images)
        apart = torch.cat([method(image[None]) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_images_are_padded_to_the_trunks_multiple_and_logits_cropped(settings):
    method, _ = build_method(settings(METHOD="baseline", TRUNK__NAME="patches32", **SPACE))
    images = torch.randn(2, 3, 50, 96)
    padded = torch.zeros(2, 3, 64, 96)
    padded[:, :, :50] = images
    found, whole = method.eval()(images), method(padded)
    assert found.shape == (2, 19, 50, 96) and torch.equal(found, whole[:, :, :50])
    features = method.trunk(padded)
    assert all(torch.equal(own, features[i]) for i, own in method.features(images).items())


def test_a_crop_that_is_no_multiple_names_the_next_one(settings, batch):
    method, _ = build_method(settings(METHOD="srha", TRUNK__NAME="patches32", **SPACE))
    message = "TRANSFORM.CROP_SIZE 64,80 is no multiple of 32, .* the next one is 64,96"
    with pytest.raises(UserError, match=message):
        method(batch)


def test_a_teacher_without_batch_norm_sees_the_original_stream_alone(settings, batch):
    method, _ = build_method(settings(METHOD="srha", TRUNK__NAME="patches16", **SPACE))
    seen = []
    method.teacher.register_forward_hook(lambda module, given, features: seen.append(given[0]))
    method.train()(batch)
    assert [len(x) for x in seen] == [2]


@pytest.mark.parametrize(("method", "trunk", "decoder", "idle"), [
    ("srha", "resnet_mini", "mask2former", ""),
    ("baseline", "mit_mini", "daformer", ""),
    ("baseline", "mit_mini", "mask2former", "TRAIN.SYNC_BATCH_NORM has"),
    ("srha", "mit_mini", "daformer", "TEACHER.BATCH_STATISTICS, TEACHER.STREAMS have"),
    ("srha", "mit_mini", "mask2former",
     "TRAIN.SYNC_BATCH_NORM, TEACHER.BATCH_STATISTICS, TEACHER.STREAMS have"),
])  # fmt: skip
def test_settings_of_batch_norms_that_are_not_there_are_said(
    settings, method, trunk, decoder, idle
):
    network = {"METHOD": method, "TRUNK__NAME": trunk, "DECODER__NAME": decoder}
    built, _ = build_method(settings(**network, **SPACE))
    expected = [f"no batch norm to act on: {idle} no effect"] if idle else []
    assert built.remarks(1) == expected


def test_a_checkpoint_of_another_network_is_refused(settings):
    small, _ = build_method(settings(METHOD="baseline", **SPACE))
    other = settings(METHOD="baseline", DECODER__CHANNELS=24, **SPACE)
    with pytest.raises(UserError, match="does not fit .* of another shape: decoder.aspp"):
        build_method(other, {"method": small.state_dict()})


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="unknown method 'shra'; did you mean srha?"):
        method_class("shra")


@pytest.mark.parametrize(("name", "decoder"), REFUSED)
def test_what_does_not_go_together_is_refused(settings, name, decoder):
    with pytest.raises(UserError, match=f"the decoder {decoder} has no .*; choose --decoder"):
        build_method(settings(METHOD=name, DECODER__NAME=decoder, **SPACE))


@pytest.mark.parametrize(("overrides", "message"), [
    ({"TRUNK__NAME": "mobilenet_v2"}, "toy does not work with --trunk mobilenet_v2; choose resnet"),
    ({"DATASET__SOURCE": ["gtav"]}, "toy needs 2 sources or more, and DATASET.SOURCE holds gtav "),
])  # fmt: skip
def test_what_a_method_declares_is_held(settings, monkeypatch, overrides, message):
    monkeypatch.setitem(METHODS, "toy", "tests.network.toy_methods:Toy")
    build_method(settings(METHOD="toy", **SPACE))
    with pytest.raises(UserError, match=f"--method {message}"):
        build_method(settings(METHOD="toy", **overrides, **SPACE))


@pytest.mark.parametrize(("name", "decoder"), COVERING)
def test_what_stands_behind_a_layer_acts_in_training_and_in_evaluation(
    settings, batch, name, decoder
):
    """Also behind layers that the method leaves alone."""
    method, _ = build_method(settings(METHOD=name, DECODER__NAME=decoder, **SPACE))
    own, seen = dict(method.after), []

    def behind(i):
        def act(x):
            seen.append(i)
            assert x.shape[1] == method.trunk.channels[i]
            return own[i](x) if i in own else x

        return act

    method.after = {i: behind(i) for i in range(4)}
    for mode in (True, False):
        method.train(mode)
        losses_of(method, batch) if mode else method(batch["image"])
        assert set(seen) == {0, 1, 2, 3}
        seen.clear()


class Act(nn.Module):
    def forward(self, x):
        return x

    act = forward


@pytest.mark.parametrize("parts", [("trunk", "decoder"), ("trunk", "decoder", "acts")])
@pytest.mark.parametrize("bound", [False, True])
def test_a_module_that_nothing_reaches_is_refused(settings, monkeypatch, bound, parts):
    """It would stay in training mode in evaluation; an exported network would lack it."""

    class Hooked(Baseline):
        inference_parts = parts

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.acts = Act()
            self.add(self.acts)

        def add(self, module):
            self.after = {1: module.act if bound else module}

    monkeypatch.setattr(baseline, "Baseline", Hooked)
    cfg = settings(METHOD="baseline", **SPACE)
    message = (
        r"Hooked.after\[1\] holds a Act that is in none of the parts trunk, decoder.*; make it"
    )
    if "acts" not in parts:
        with pytest.raises(UserError, match=message):
            build_method(cfg)
        return
    method, _ = build_method(cfg)
    assert not method.eval().acts.training
    method.add(Act())
    with pytest.raises(UserError, match=message):
        method.eval()
