"""Is a pseudo-target wide enough: the figures against slow forms, and the page."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm

from datasets.pseudo_target import report
from datasets.pseudo_target.measures import (
    Looks,
    evenness,
    frechet,
    nearest,
    shift,
    spread,
)
from datasets.pseudo_target.prompts import Prompt, lines_of
from utils.errors import UserError

RNG = np.random.default_rng(0)
SMALL = ["TRUNK.NAME", "resnet_mini", "TRUNK.WEIGHTS", "objects"]


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 8), (6, 9, 20)])
def test_frechet_distance_against_roots_of_matrices(n, m, d):
    first, second = (
        RNG.normal(size=(n, d)),
        1 + 2 * RNG.normal(size=(m, d)) @ RNG.normal(size=(d, d)),
    )
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = np.real(sqrtm(c1 @ c2 + 1e-12 * np.eye(d)))
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-4)
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet(first, first + 3) == pytest.approx(9 * d)


def test_spread_shift_and_nearest():
    styles, unit = RNG.normal(size=(50, 6)) * [1, 2, 3, 4, 5, 6], np.arange(1.0, 7)
    assert spread(styles, styles.std(0)) == pytest.approx(1)
    assert spread(2 * styles + 5, styles.std(0)) == pytest.approx(2)
    assert shift(styles + 3 * unit, styles, unit) == pytest.approx(3)
    others = RNG.normal(size=(20, 6))
    slow = [min(math.sqrt(np.mean(((a - b) / unit) ** 2)) for b in others) for a in styles]
    np.testing.assert_allclose(nearest(styles, others, unit), slow)


def test_evenness():
    assert evenness({"a": 5, "b": 5}, 2) == pytest.approx(1)
    assert evenness({"a": 5, "b": 5}, 4) == pytest.approx(0.5)
    assert evenness({"a": 9}, 3) == 0 and evenness({"a": 9}, 1) == 1


def test_a_domain_within_the_pseudo_target_is_found_there():
    """Of two layers, the second is nearer to the source."""

    def looks(centres, width):
        styles = {i: RNG.normal(c, width, size=(40, 4)) for i, c in enumerate(centres)}
        return Looks(styles, RNG.normal(centres[0], width, size=(40, 5)))

    found = report.compare(
        {"own": looks((0, 0), 1), "pseudo-target": looks((6, 6), 3), "far": looks((6, -1), 1)}
    )
    assert found["spread"]["layer 0"]["pseudo-target"] == pytest.approx(3, rel=0.2)
    assert found["shift"]["layer 0"]["pseudo-target"] == pytest.approx(6, rel=0.2)
    shares = [found["nearest"][f"layer {i}"]["far"]["nearer to the pseudo-target"] for i in (0, 1)]
    assert shares[0] > 0.9 and shares[1] < 0.2
    assert found["frechet"]["far"]["own"] > found["frechet"]["far"]["pseudo-target"]
    assert found["frechet"]["images"] == 20


def test_page_and_figures(miniature, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, names = tmp_path / "drawn", ["00001", "00002", "00003", "00004", "00009"]
    folder.mkdir()
    for name in names:
        pixels = RNG.integers(0, 256, (90, 160, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    blocks = {"location": "China", "traffic": "", "rare": "train"}
    prompts = [Prompt(f"{name}.png", f"<{name}>", 1, "uni_cls", blocks) for name in names]
    # The last was not drawn.
    (folder / "prompts.jsonl").write_bytes(lines_of([*prompts, Prompt("x.png", "", 1)]))
    choices = {"traffic": ["", "Highway", "City"], "rare": ["train", "bus"]}
    (folder / "pseudo_target.json").write_text(json.dumps({"choices": choices}))
    words = ["gtav", str(folder), "cityscapes:train", str(miniature / "PseudoTarget")]
    report.main([*words, "DATASET.ROOT", str(miniature), *SMALL])
    page = (tmp_path / "pseudo_target.html").read_text()
    figures = json.loads((tmp_path / "pseudo_target.json").read_text())
    assert (figures["images"], figures["trunk"], figures["source"]) == (
        5,
        "resnet_mini",
        "GTAV train",
    )
    assert figures["prompts"]["rare"] == {"counts": {"train": 5, "bus": 0}, "evenness": 0.0}
    assert figures["prompts"]["traffic"]["counts"] == {"": 5, "Highway": 0, "City": 0}
    assert set(figures["nearest"]["layer 1"]) == {
        "Cityscapes train",
        str(miniature / "PseudoTarget"),
    }
    for text in ("Cityscapes train", "&lt;00001&gt;", "two halves of GTAV train", "Limits"):
        assert text in page
    # Four of its names are the source's.
    assert page.count("class='scene pair'") == 4
    assert "wrote pseudo_target.html and pseudo_target.json" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    (["gtav"], "name the source, the folder"), (["gtav", "cityscapes"], "name the source"),
    (["gtav", "few"], "few has 1 images; 4 or more are compared"),
    (["gtav", "few", "--images", "2"], "--images is 4 or more"),
    (["gtav", "{root}/PseudoTarget", "idd:train", "idd:train"], "named twice"),
    (["gtav", "{root}/PseudoTarget", "bdd"], "unknown dataset 'bdd'"),
])  # fmt: skip
def test_wrong_arguments(miniature, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "few/a.png")
    words = [word.format(root=miniature) for word in words]
    with pytest.raises(UserError, match=message):
        report.main([*words, "DATASET.ROOT", str(miniature), *SMALL])
    assert not (tmp_path / "pseudo_target.html").exists()
