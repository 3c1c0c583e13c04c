"""Gradients of the terms of a loss: they add up, scale with their weights, and make a table."""

import sys

import pytest
import torch

from network.methods import METHODS
from utils import balance
from utils.balance import Term, batches, differentiate, measure, table
from utils.checkpoint import open_run
from utils.distributed import Runtime
from utils.errors import UserError

HERE = Runtime(torch.device("cpu"), 0, 1, "float32")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["balance", *map(str, arguments)])
    balance.main()


@pytest.mark.parametrize("name", METHODS)
def test_a_table_for_every_method(saved, monkeypatch, capsys, name):
    _, _, folder = saved(name)
    run(monkeypatch, "--snapshot", folder, "--batches", 1, "TRAIN.BATCH_SIZE", 2)
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert "trunk: gradient" in header and "over ce" in header
    own = next(row.split() for row in rows if row.startswith("ce "))
    assert own[3:5] == ["1.00", "+1.00"]


def test_gradients_of_terms_add_up_to_the_step(saved):
    cfg, method, _ = saved("srha")
    cfg.TRAIN.BATCH_SIZE = 2
    (batch,) = batches(cfg, HERE, 1)
    method.train()
    losses = method(batch)
    parts = method.parameter_groups()
    found = [differentiate(loss, parts) for loss in losses.values()]
    assert set(losses) == {"ce", "aux", "global", "regional", "local", "consistency"}
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
        found[weight] = measure(method, batches(cfg, HERE, 2), HERE)
    strong, weak = (found[weight]["consistency"] for weight in ("10", "1"))
    assert strong.value == pytest.approx(10 * weak.value, rel=1e-4)
    for part in ("trunk", "decoder"):
        assert strong.lengths[part] == pytest.approx(10 * weak.lengths[part], rel=1e-3)
        ce = [found[weight]["ce"].lengths[part] for weight in found]
        assert ce[0] == pytest.approx(ce[1], rel=1e-4)


def test_lengths_are_of_batches_and_cosines_of_their_mean():
    along, against = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.0])
    terms = {
        "ce": Term(1.5, {"trunk": 4.0}, {"trunk": along}),
        "local": Term(6.0, {"trunk": 12.0, "decoder": 1.0}, {"trunk": against, "decoder": along}),
    }
    lines = [line.split() for line in table(terms, "ce").splitlines()]
    assert lines[2] == ["ce", "1.5", "4", "1.00", "+1.00", "-", "-", "-"]
    assert lines[3] == ["local", "6", "12", "3.00", "-1.00", "1", "-", "-"]
    assert "over local" in table(terms, "local").splitlines()[0]


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
