"""Memory of a step, computed without running it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import memory
from benchmarks.recipes import plan_of, scripts, settings_of_script

SIZE = {"TRUNK.NAME": "resnet_mini", "TRANSFORM.CROP_SIZE": "64,64", "DEVICE": "cpu"}


def test_what_lives_at_once_is_counted():
    living = memory.Living()
    with FakeTensorMode(), living:
        a = torch.zeros(1000)
        b = a + 1
        view = b[:10]
        del a
        c = torch.zeros(500)
        del b, view
    assert living.peak == 4 * 2000 and living.now == 4 * 500
    del c
    assert living.now == 0


def test_a_step_holds_weights_gradients_momentum_and_activations():
    found = {}
    for images in (4, 8):
        own = SIZE | {"TRAIN.BATCH_SIZE": images, "TRAIN.BATCH_PER_PROCESS": images}
        cfg = settings_of_script("train_mobile_gtav_robustnet_base", own)
        found[images] = memory.computed(cfg)
    assert found[4]["states"] == found[8]["states"]
    assert found[8]["flop"] == pytest.approx(2 * found[4]["flop"], rel=1e-6)
    activations = found[8]["peak"] - found[4]["peak"]
    # What does not grow with the batch: weights, gradients, momentum, each of the weights' size.
    rest = found[4]["peak"] - activations
    assert 2.5 * found[4]["states"] < rest < 4.5 * found[4]["states"]


def test_the_settings_of_every_script_that_trains():
    for name in scripts():
        cfg = settings_of_script(name, {})
        plan = plan_of(cfg)
        assert plan.images * plan.passes == cfg.TRAIN.BATCH_SIZE
