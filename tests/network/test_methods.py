"""Every method with every trunk and decoder: trains all it should, predicts, saves, loads."""

import pytest
import torch

from network.build import build_method
from network.methods import method_class
from network.trunks import TRUNKS
from tests.conftest import PAIRS, REFUSED
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


def train_step(method, batch):
    method.train()
    losses = method(batch)
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_step_reaches_every_trainable_parameter(settings, batch, name, trunk, decoder):
    network = {"TRUNK__NAME": trunk, "DECODER__NAME": decoder}
    method, _ = build_method(settings(METHOD=name, **network, **SPACE))
    odd = {"image": torch.randn(2, 3, 97, 131), "label": torch.randint(0, 19, (2, 97, 131))}
    losses = train_step(method, batch | odd)
    assert all(torch.isfinite(v) and v.ndim == 0 for v in losses.values())
    trainable = {n: p for n, p in method.named_parameters() if p.requires_grad}
    forgotten = [n for n, p in trainable.items() if p.grad is None]
    assert not forgotten
    grouped = [p for group in method.parameter_groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in trainable.values()}
    assert len(grouped) == len(trainable)


@pytest.mark.parametrize(("name", "decoder"), PAIRS)
@pytest.mark.parametrize("trunk", TRUNKS)
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
