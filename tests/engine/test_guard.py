"""What is not finite never reaches the weights, in no process, and the run says what it was."""

import copy
import json

import pytest
import torch

from datasets.dataset import SegmentationDataset
from network.build import build_method
from network.methods.method import Method
from tests.engine.processes import Training, load, same
from utils.engine.guard import StepGuard
from utils.engine.interruption import Interruption
from utils.engine.optimization import build_optimizer
from utils.engine.runtime import Runtime
from utils.errors import UserError

READ = SegmentationDataset.__getitem__
# Position 10 of the endless order: the third of the four images of step 2.
OPTIONS = ["--method", "baseline", "--exp", "bad", "TRAIN.MAX_ITER", 6, "LOG.EVERY", 100,
           "LOG.CHECKPOINT_EVERY", 2, "VALID.EVERY", 0]  # fmt: skip


def spoil(dataset, key):
    sample = READ(dataset, key)
    if isinstance(key, tuple) and key[0] == 10:
        sample["image"] = sample["image"].float()
        sample["image"][:, 5, 5] = torch.nan
    return sample


def spoil_in_all(rank):
    SegmentationDataset.__getitem__ = spoil


@pytest.fixture
def guarded(settings, batch, tmp_path):
    """Return `guarded(kind)` → (method, optimizer, guard, step), on the CPU in this process."""

    class Source:
        def files(self, indices):
            return [("first.png", "second.png")[i] for i in indices["source"].tolist()]

    def make(kind):
        method, _ = build_method(settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19"))
        optimizer = build_optimizer(method, settings())
        if kind == "adamw":
            optimizer = torch.optim.AdamW(optimizer.param_groups, fused=True)
        runtime = Runtime(torch.device("cpu"), 0, 1, "float32")
        guard = StepGuard(method, optimizer, Source(), runtime, Interruption(), tmp_path)

        def step(number, **changes):
            losses = method(batch | changes)
            sum(losses.values()).backward()
            guard.add(losses)
            guard.saw({"source": batch["index"]}, {})
            guard.agree(number)
            optimizer.step()
            optimizer.zero_grad()

        return method, optimizer, guard, step

    return make


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_step_and_those_after_it_change_nothing(guarded, batch, tmp_path, kind, what):
    method, optimizer, guard, step = guarded(kind)
    step(0)
    assert guard.check(now=False) == 0
    weights = {n: p.detach().clone() for n, p in method.named_parameters()}
    momentum = copy.deepcopy(optimizer.state_dict()["state"])
    assert momentum
    if what == "loss":
        image = batch["image"].clone()
        image[1, 0, 3, 3] = torch.inf
        step(1, image=image)
    else:
        hook = method.decoder.classifier.weight.register_hook(lambda gradient: gradient / 0)
        step(1)
        hook.remove()
    # The host has not looked yet, and a sound step follows.
    assert guard.check(now=False) == 0
    step(2)
    assert all(torch.equal(p, weights[n]) for n, p in method.named_parameters())
    assert same(optimizer.state_dict()["state"], momentum)
    with pytest.raises(UserError, match=f"the {what} is not finite in step 1 .*first.png") as error:
        guard.check(now=False)
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["what"] == what and report["step"] == 1
    process = report["processes"][0]
    assert process["images"] == ["first.png", "second.png"]
    assert process["losses"].keys() == {"ce", "aux"}
    if what == "gradient":
        assert process["gradients_not_finite"] == ["decoder.classifier.weight"]
        assert "1 parameters: decoder.classifier.weight" in str(error.value)


def test_large_gradients_are_no_fault(guarded):
    method, _, guard, step = guarded("sgd")
    hook = method.decoder.classifier.weight.register_hook(lambda g: g.sign() * 1e30)
    step(0)
    hook.remove()
    assert guard.check(now=True) == 0


def test_the_step_is_that_of_plain_sgd(guarded, settings, batch):
    """In the channels-last layout too, whose elements lie in another order."""
    method, optimizer, _, step = guarded("sgd")
    method.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(method)
    reference = torch.optim.SGD(build_optimizer(plain, settings()).param_groups, fused=False)
    for number in range(3):
        torch.manual_seed(number)
        step(number, image=batch["image"].contiguous(memory_format=torch.channels_last))
        torch.manual_seed(number)
        sum(plain(batch).values()).backward()
        reference.step()
        reference.zero_grad()
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-4, atol=1e-5)


def test_nan_in_one_image(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SegmentationDataset, "__getitem__", spoil)
    steps = []
    monkeypatch.setattr(Method, "after_step", lambda method, step: steps.append(step))
    with pytest.raises(UserError, match=r"step 2 .*images .*GTAV.*png; rates trunk 0\.0"):
        run(*OPTIONS)
    assert steps == [0, 1, 2, 3], "one step later"
    folder = tmp_path / "logs/bad"
    assert load(folder / "last.pth")["step"] == 2
    assert "nan" not in (folder / "metrics.jsonl").read_text().lower()
    report = json.loads((folder / "nonfinite.json").read_text())
    assert report["processes"][0]["losses"]["ce"] == "nan" and report["precision"] == "float32"
    assert len(report["processes"][0]["images"]) == 4


def test_nothing_is_saved_of_a_bad_step(run, tmp_path, monkeypatch):
    """The step's own checkpoint waits for its verdict, and so does the log."""
    monkeypatch.setattr(SegmentationDataset, "__getitem__", spoil)
    with pytest.raises(UserError, match="not finite in step 2"):
        run(*OPTIONS, "LOG.CHECKPOINT_EVERY", 1, "LOG.EVERY", 1, "LOG.PICTURES_EVERY", 1,
            "TRAIN.EMA", 0.5)  # fmt: skip
    folder = tmp_path / "logs/bad"
    state = load(folder / "last.pth")
    assert state["step"] == 2
    assert all(v.isfinite().all() for key in ("method", "average") for v in state[key].values())
    assert [json.loads(x)["step"] for x in (folder / "metrics.jsonl").open()] == [1, 2]


def test_nan_in_one_process(miniature, tmp_path):
    training = Training(tmp_path, miniature, *OPTIONS, world_size=2, prepare=spoil_in_all)
    assert training.wait() == [2, 2], training.output()
    # Position 10 goes to process 0; process 1 stops at the same step without a word of its own.
    report = json.loads((tmp_path / "logs/bad/nonfinite.json").read_text())
    assert (report["step"], report["what"]) == (2, "loss")
    assert [process["process"] for process in report["processes"]] == [0]
    assert "stopped with the main process" in training.outputs[1].read_text()
    assert "Traceback" not in training.output()
    state = load(tmp_path / "logs/bad/last.pth")
    assert state["step"] == 2
    assert all(v.isfinite().all() for v in state["method"].values())
