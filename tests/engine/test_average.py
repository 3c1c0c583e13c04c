"""The moving average of the weights: what it is, that training does not notice it, who reads it."""

import json

import pytest
import torch

import network
from network.build import build_method, resolve
from network.checkpoint import load_checkpoint
from tests.engine.processes import load
from utils.engine.average import Average
from utils.engine.runtime import Runtime
from utils.evaluate.evaluation import evaluate, open_domain

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
RUN = ["--method", "baseline", "--exp", "one", "LOG.CHECKPOINT_EVERY", 1]
AVERAGE = ["TRAIN.EMA", 0.5, "TRAIN.EMA_START", 2]


@pytest.fixture
def averaged(settings):
    """Return `averaged(decay, start)` → (method, average, change), before the first step."""

    def make(decay, start):
        cfg = settings(METHOD="baseline", TRAIN__EMA=decay, TRAIN__EMA_START=start, **SPACE)
        method, _ = build_method(cfg)

        @torch.no_grad()
        def change():
            for parameter in method.parameters():
                parameter += torch.randn_like(parameter)

        return method, Average(method, cfg, 0), change

    return make


@pytest.mark.parametrize("start", [0, 3])
def test_a_copy_that_follows_the_weights(averaged, start):
    """Against the sum in float64."""
    method, average, change = averaged(0.9, start)
    expected = None
    for step in range(7):
        if step:
            change()
            average.update(step)
        weights = {name: p.detach().double() for name, p in method.named_parameters()}
        if step == start:
            expected = weights
        elif step > start:
            expected = {name: 0.9 * expected[name] + 0.1 * weights[name] for name in weights}
        assert average.weights.keys() == (expected or {}).keys()
        for name, own in average.weights.items():
            torch.testing.assert_close(own.double(), expected[name], rtol=0, atol=1e-5)


def test_there_is_none_unasked(averaged):
    _, average, change = averaged(0, 0)
    change()
    average.update(1)
    assert average.weights == {}


@pytest.mark.parametrize("method, left_out", [("srha", "teacher"), ("wildnet", "projector")])
def test_what_is_trained_and_deployed_is_averaged(settings, method, left_out):
    cfg = settings(METHOD=method, TRAIN__EMA=0.9, **SPACE)
    method, _ = build_method(cfg)
    names = Average(method, cfg, 0).weights.keys()
    assert any(name.startswith(left_out) for name, _ in method.named_parameters())
    assert names == {
        name
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and name.startswith(("trunk", "decoder"))
    }


def test_it_takes_the_weights_place_for_a_while(averaged, batch):
    """To the bit, also where an error ends it."""
    method, average, change = averaged(0.9, 0)
    method.eval()
    change()
    average.update(1)
    held = {name: own.clone() for name, own in average.weights.items()}
    weights = {name: p.detach().clone() for name, p in method.named_parameters()}
    places = [p.data_ptr() for p in method.parameters()]
    with torch.no_grad():
        before = method(batch["image"])
        with pytest.raises(ZeroDivisionError), average.applied():
            assert all(torch.equal(p, held[name]) for name, p in method.named_parameters())
            inside = method(batch["image"])
            raise ZeroDivisionError
        assert torch.equal(method(batch["image"]), before)
    assert [p.data_ptr() for p in method.parameters()] == places
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, weights[name]) and torch.equal(
            average.weights[name], held[name]
        )
    with torch.no_grad():
        method.load_state_dict(method.state_dict() | held)
        assert torch.equal(method(batch["image"]), inside) and not torch.equal(before, inside)


def test_it_is_what_is_judged_and_read(run, tmp_path, miniature):
    """Results and the choice of the best are of the network that others read from the files."""
    run(*RUN, *AVERAGE, "TRAIN.MAX_ITER", 4, "VALID.EVERY", 1)
    folder = tmp_path / "logs/one"
    results = json.loads((folder / "results.json").read_text())
    scores = {4: results["domains"]["gtav"]["means"]["mIoU"]}
    scores[results["best"]["step"]] = results["best"]["mIoU"]
    for path in (folder / "last.pth", folder / "best.pth"):
        stored, read = load(path), load_checkpoint(path)
        assert "average" not in read and bool(stored["average"]) == (stored["step"] >= 2)
        for name, weights in read["method"].items():
            expected = stored["average"].get(name, stored["method"][name])
            assert torch.equal(weights, expected)
        cfg = resolve(stored["settings"])
        method, space = build_method(cfg, read)
        domain = open_domain("gtav", cfg, space)
        runtime = Runtime(torch.device("cpu"), 0, 1, "float32")
        found = evaluate(method, domain, space, cfg, runtime)["means"]["mIoU"]
        assert found == pytest.approx(scores[stored["step"]], abs=1e-12)
    opened = network.load(folder, device="cpu").method.state_dict()
    name, average = next(iter(load(folder / "last.pth")["average"].items()))
    assert torch.equal(opened[name], average)


def test_it_begins_where_a_run_is_resumed_with_it(run, tmp_path):
    """Also from a checkpoint of an earlier version, which has no such key."""
    path = tmp_path / "logs/one/last.pth"
    run(*RUN, "TRAIN.MAX_ITER", 2, "VALID.EVERY", 0)
    older = load(path, "average")
    torch.save(older, path)
    assert all(
        torch.equal(v, older["method"][k]) for k, v in load_checkpoint(path)["method"].items()
    )
    run(*RUN, *AVERAGE, "TRAIN.MAX_ITER", 3, "VALID.EVERY", 0, "--resume")
    state = load(path)
    for name, own in state["average"].items():
        expected = 0.5 * (older["method"][name] + state["method"][name])
        torch.testing.assert_close(own, expected)
