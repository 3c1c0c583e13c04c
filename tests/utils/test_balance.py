"""Gradients of the terms of a loss: they add up, scale with their weights, and make a table."""

import sys
from unittest.mock import patch

import pytest
import torch
from torch import nn

from network.build import open_run
from network.methods.mldg import split_sources
from tests.networks import COVERING, STEPS, losses_of
from transforms.photometric import Photometric
from utils import balance
from utils.balance import Term, batches, differentiate, measure_terms, terms_table
from utils.engine.runtime import Runtime
from utils.errors import UserError

SRHA_TERMS = {"ce", "aux", "global", "regional", "local", "consistency"}
HERE = Runtime(torch.device("cpu"), 0, 1, "float32")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["balance", *map(str, arguments)])
    balance.main()


@pytest.mark.parametrize(
    "name, overrides",
    [
        *((method, {"DECODER__NAME": decoder}) for method, decoder in COVERING if method in STEPS),
        ("srha", {"TEACHER__TRUNK": "resnet18", "TEACHER__WEIGHTS": "none",
                  "TRUNK__RECOMPUTE": [True] * 4}),
        ("spc", {"SPC__CE_WEIGHT": 0.0}),
    ],
)  # fmt: skip
def test_tables_of_methods_and_decoders(saved, batch, monkeypatch, capsys, name, overrides):
    _, method, folder = saved(name, **overrides)
    images = 4 if method.splits_sources else 2
    run(monkeypatch, "--snapshot", folder, "--batches", 1, "TRAIN.BATCH_SIZE", images)
    header, _, *rows = capsys.readouterr().out.splitlines()
    found = {row.split()[0]: row.split()[1:] for row in rows}
    parts = [part for part, group in method.parameter_groups().items() if group]
    assert losses_of(method.train(), batch).keys() <= found.keys()
    assert {len(row) for row in found.values()} == {1 + 3 * len(parts)}
    assert header.count("gradient") == len(parts)
    assert ("other: gradient" in header) == ("other" in parts)
    # A cross entropy of weight 0 pulls nowhere.
    pulls = overrides.get("SPC__CE_WEIGHT", 1)
    assert ("ce" in found and found["ce"][1:] == ["-"] * 6) == (not pulls)
    if "ce" not in found:
        assert any(f"over {term}" in header for term in ("class", "mask", "train"))


def test_batches_are_those_of_steps_from_the_checkpoint_on(saved):
    """Their strong colours, which MLDG draws by step, and the sources that it is tested on."""
    colours = {"MLDG__STRONG_COLOURS": "test", "TRANSFORM__JITTER_PROBABILITY": 0.0}
    cfg, method, _ = saved("mldg", **colours, TRANSFORM__PHOTOMETRIC_ON="worker")
    cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.BATCH_PER_PROCESS = 8, 4  # as of two processes
    strong = []
    apply = Photometric.apply
    with patch.object(Photometric, "apply", lambda own, image, drawn: strong.append(
            float(drawn[0]) >= 0) or apply(own, image, drawn)):  # fmt: skip
        found = list(batches(cfg, HERE, 6, step=3))
    assert [batch["step"] for batch in found] == [3, 3, 4, 4, 5, 5]
    assert all(len(batch["image"]) == 4 for batch in found)
    for batch, own in zip(found, zip(*[iter(strong)] * 4, strict=True), strict=True):
        _, tested = split_sources(cfg.SEED, batch["step"], 2)
        assert own == tuple(int(d) in tested for d in batch["domain"])


def test_gradients_of_terms_add_up_to_the_step(saved):
    cfg, method, _ = saved("srha")
    cfg.TRAIN.BATCH_SIZE = 2
    (batch,) = batches(cfg, HERE, 1, step=0)
    method.train()
    losses = method(batch)
    parts = method.parameter_groups()
    found = [differentiate(loss, parts) for loss in losses.values()]
    assert set(losses) == SRHA_TERMS
    sum(losses.values()).backward()
    for part in ("trunk", "decoder"):
        step = torch.cat([
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in parts[part]
        ])  # fmt: skip
        total = sum(gradients[part] for gradients in found if part in gradients)
        torch.testing.assert_close(total, step, rtol=1e-3, atol=1e-5 * float(step.abs().max()))
    assert "decoder" not in dict(zip(losses, found, strict=True))["local"]


def test_a_weight_scales_its_term_alone(saved):
    _, _, folder = saved("srha")
    found = {}
    for weight in ("10", "1"):
        cfg, state = open_run(folder, {"CONSISTENCY.WEIGHT": weight, "TRAIN.BATCH_SIZE": "2"})
        method, _ = balance.build_method(cfg, state)
        found[weight] = measure_terms(method, batches(cfg, HERE, 2, step=0), HERE)
    strong, weak = (found[weight]["consistency"] for weight in ("10", "1"))
    assert strong.value == pytest.approx(10 * weak.value, rel=1e-4)
    for part in ("trunk", "decoder"):
        assert strong.lengths[part] == pytest.approx(10 * weak.lengths[part], rel=1e-3)
        ce = [found[weight]["ce"].lengths[part] for weight in found]
        assert ce[0] == pytest.approx(ce[1], rel=1e-4)


class Slopes(nn.Module):
    """A method whose loss has the gradient (3, 4) times the slope of a batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def take_kept(self):
        return []

    def parameter_groups(self):
        return {"trunk": [self.weight], "decoder": [], "other": []}

    def forward(self, batch):
        pull = self.weight @ torch.tensor([3.0, 4.0]) * batch["slope"] + batch["slope"]
        return {"ce": pull, "idle": torch.zeros(())}


def test_lengths_are_means_over_batches_and_gradients_too():
    terms = measure_terms(Slopes(), [{"slope": 2.0}, {"slope": -1.0}], HERE)
    assert terms["ce"].value == 0.5
    assert terms["ce"].lengths == {"trunk": 7.5}
    torch.testing.assert_close(terms["ce"].gradients["trunk"], torch.tensor([1.5, 2.0]))
    assert terms["idle"] == Term(0.0, {}, {})
    with pytest.raises(UserError, match="unknown term 'local'.*ce, idle"):
        measure_terms(Slopes(), iter([{"slope": 1.0}]), HERE, over="local")


def test_the_table_compares_with_the_reference():
    along, against = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.0])
    terms = {
        "ce": Term(1.5, {"trunk": 4.0}, {"trunk": along}),
        "local": Term(6.0, {"trunk": 12.0, "decoder": 1.0}, {"trunk": against, "decoder": along}),
    }
    lines = [line.split() for line in terms_table(terms, "ce").splitlines()]
    assert lines[2] == ["ce", "1.5", "4", "1.00", "+1.00", "-", "-", "-"]
    assert lines[3] == ["local", "6", "12", "3.00", "-1.00", "1", "-", "-"]
    assert "over local" in terms_table(terms, "local").splitlines()[0]


def test_what_is_refused(saved, monkeypatch, tmp_path):
    cfg, _, folder = saved("baseline")
    with pytest.raises(UserError, match="unknown term 'local'.*ce"):
        run(monkeypatch, "--snapshot", folder, "--batches", 1, "--over", "local")
    with pytest.raises(UserError, match="at least 1"):
        run(monkeypatch, "--snapshot", folder, "--batches", 0)
    with pytest.raises(UserError, match="no checkpoint"):
        run(monkeypatch, "--snapshot", tmp_path / "none.pth")
    monkeypatch.setattr(balance, "open_run", lambda path, overrides: (cfg, {"network_only": True}))
    with pytest.raises(UserError, match="a loss needs a checkpoint of training"):
        run(monkeypatch, "--snapshot", folder)
