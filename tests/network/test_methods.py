"""Every method with every trunk and decoder: trains all it should, predicts, saves, loads."""

import pytest
import torch

from network.build import build_method
from network.methods import method_class
from network.trunks import TRUNKS
from tests.conftest import PAIRS, REFUSED
from tests.network import toy_trunks
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
# A plain one, one of other strides, one whose layers all have the same; test_trunks.py has all.
KINDS = ["resnet_mini", "shufflenet_v2_x0_5", "patches16"]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, builder in toy_trunks.REGISTRY.items():
        monkeypatch.setitem(TRUNKS, name, builder)


def train_step(method, batch):
    method.train()
    losses = method(batch)
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
@pytest.mark.parametrize("trunk", KINDS)
def test_a_step_reaches_every_trainable_parameter(settings, batch, name, trunk, decoder):
    network = {"TRUNK__NAME": trunk, "DECODER__NAME": decoder}
    method, _ = build_method(settings(METHOD=name, **network, **SPACE))
    size = (97, 131) if method.trunk.multiple == 1 else (96, 128)
    odd = {"image": torch.randn(2, 3, *size), "label": torch.randint(0, 19, (2, *size))}
    losses = train_step(method, batch | odd)
    assert all(torch.isfinite(v) and v.ndim == 0 for v in losses.values())
    trainable = {n: p for n, p in method.named_parameters() if p.requires_grad}
    forgotten = [n for n, p in trainable.items() if p.grad is None]
    assert not forgotten
    grouped = [p for group in method.parameter_groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in trainable.values()}
    assert len(grouped) == len(trainable)


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
@pytest.mark.parametrize("trunk", KINDS)
def test_odd_sizes_and_saving(settings, name, trunk, decoder):
    cfg = settings(METHOD=name, TRUNK__NAME=trunk, DECODER__NAME=decoder, **SPACE)
    method, _ = build_method(cfg)
    method.eval()
    images = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        logits = method(images)
        assert logits.shape == (1, 19, 97, 131)
        loaded, _ = build_method(cfg, {"method": method.state_dict()})
        assert torch.equal(loaded.eval()(images), logits)


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


def test_a_checkpoint_of_another_network_is_refused(settings):
    small, _ = build_method(settings(METHOD="baseline", **SPACE))
    other = settings(METHOD="baseline", DECODER__CHANNELS=24, **SPACE)
    with pytest.raises(UserError, match="does not fit .* of another shape: decoder.aspp"):
        build_method(other, {"method": small.state_dict()})


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="unknown method 'shra'; did you mean srha?"):
        method_class("shra")


@pytest.mark.parametrize(("name", "decoder"), sorted(REFUSED))
def test_what_does_not_go_together_is_refused(settings, name, decoder):
    with pytest.raises(UserError, match=f"the decoder {decoder} has no .*; choose --decoder"):
        build_method(settings(METHOD=name, DECODER__NAME=decoder, **SPACE))
