"""A domain's statistics moved to another's: exact, and only where nothing takes them away."""

import sys

import pytest
import torch

from studies import moved_styles
from utils.errors import UserError


def features(batch=3):
    generator = torch.Generator().manual_seed(3)
    scale = torch.tensor([0.5, 2.0, 7.0])[:, None, None]
    return scale * torch.randn(batch, 3, 6, 5, dtype=torch.float64, generator=generator) + 4 * scale


def test_what_is_moved_has_the_statistics_of_the_goal():
    x, goal = features(), (torch.tensor([1.0, -2, 0]), torch.tensor([3.0, 1, 0.5]))
    goal = tuple(part.double()[None, :, None, None] for part in goal)
    images = moved_styles.moved(x, moved_styles.style_of(x), goal)
    for own, wanted in zip(moved_styles.style_of(images), goal, strict=True):
        torch.testing.assert_close(own, wanted.expand_as(own), rtol=1e-6, atol=1e-6)
    whole = moved_styles.mean_style([moved_styles.style_of(x[:2]), moved_styles.style_of(x[2:])])
    together = moved_styles.moved(x, whole, goal)
    # Images keep what tells them apart.
    mean = moved_styles.style_of(together)[0]
    assert float((mean - mean.mean(0)).abs().max()) > 0.1
    assert moved_styles.distance(goal, goal) == (0, pytest.approx(1))
    assert moved_styles.moved(x.bfloat16(), whole, goal).dtype == torch.bfloat16


def test_each_domain_as_it_is_and_moved(checkpoint, monkeypatch, capsys):
    path = checkpoint("logs/run/last.pth")
    monkeypatch.setattr(sys, "argv", ["x", "--snapshot", str(path), "--style", "cityscapes"])
    moved_styles.main()
    rows = [
        line.strip("| ").split(" | ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ") and "mIoU" not in line
    ]
    other, same = rows[-2:]
    assert (other[0], same[:3]) == ("gtav", ["cityscapes", "1.00", "0.00"])
    assert float(other[1]) != 1 and float(other[2]) > 0
    # Moved to its own statistics, a domain stays as it is, up to rounding.
    assert float(same[4]) == pytest.approx(float(same[3]), abs=0.2)
    assert all(0 <= float(cell) <= 100 for cell in (*other[3:], *same[3:]))


@pytest.mark.parametrize("words, changes, message", [
    (["--style", "gtaw"], {}, "unknown domain 'gtaw'; did you mean gtav"),
    ([], {"METHOD": "srha"}, "last.pth: srha takes the style of layer 0 away itself"),
    ([], {"METHOD": "isw"}, "last.pth: isw takes the style of layer 0 away itself"),
    (["--flip"], {}, "whole images, seen once: leave out --sliding"),
])  # fmt: skip
def test_what_cannot_be_moved(checkpoint, monkeypatch, words, changes, message):
    path = checkpoint("logs/run/last.pth", **changes)
    monkeypatch.setattr(sys, "argv", ["x", "--snapshot", str(path), *words])
    with pytest.raises(UserError, match=message):
        moved_styles.main()
