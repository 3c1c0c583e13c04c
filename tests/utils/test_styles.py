"""The pictures of styles and embeddings: for every method, and from what numbers."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from network import build as checkpoint
from network.build import build_method
from tests.networks import STEPS
from utils import styles
from utils.engine.runtime import Runtime
from utils.errors import UserError
from utils.evaluate.evaluation import open_domain

HERE = Runtime(torch.device("cpu"), 0, 1, "float32")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["styles", *map(str, arguments)])
    styles.main()


@pytest.mark.parametrize("name", STEPS)
def test_pictures_of_every_method(saved, monkeypatch, capsys, name):
    _, method, folder = saved(name)
    run(monkeypatch, "gtav", "--snapshot", folder, "bdd100k", "--images", 2, "--pixels", 2)
    expected = {"styles"} | ({"regions"} if method.rearrangement is not None else set())
    expected |= {"embeddings"} if hasattr(method.decoder, "embed") else set()
    found = {path.stem: Image.open(path) for path in (folder / "styles").iterdir()}
    assert found.keys() == expected
    panels = 2 if method.after else 1
    assert found["styles"].width > 500 * panels and found["styles"].height > 2 * 500
    assert capsys.readouterr().out.count("picture: ") == len(expected)


def test_styles_before_and_after_are_those_of_the_features(saved):
    cfg, method, _ = saved("spc")
    method.styles["layer0"].bases.normal_(1, 0.2)
    domain = open_domain("gtav", cfg, build_method(cfg)[1])
    found = styles.look(method, domain, HERE, images=2, pixels=3)
    assert found["layer 0"].shape == found["layer 1"].shape[:2] + (48,) == (2, 2, 48)
    assert "regions" not in found
    with torch.no_grad():
        image = domain[1]["image"][None]
        f0 = method.trunk.layer0(image)
        projected = method.styles["layer0"](f0)
        f1 = method.trunk.layer1(projected)
    for view, feature in enumerate((f0, projected)):
        mean, std = feature[0].flatten(1).mean(1), feature[0].flatten(1).std(1, correction=0)
        np.testing.assert_allclose(
            found["layer 0"][1, view], torch.cat([mean, std]).numpy(), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(
        found["layer 1"][1, 0, :24], f1[0].flatten(1).mean(1).numpy(), rtol=1e-4, atol=1e-5
    )
    # After the projection a style lies among the bases, but for channels that are constant.
    low, high = method.styles["layer0"].bases.aminmax(dim=0)
    alive = f0[0].flatten(1).std(1) > 1e-2
    after = torch.from_numpy(found["layer 0"][1, 1])[torch.cat([alive, alive])]
    inside = torch.cat([alive, alive])
    assert (after >= low[inside] - 1e-3).all() and (after <= high[inside] + 1e-3).all()


def test_a_domain_of_other_classes_is_drawn_by_its_styles(saved, monkeypatch, capsys, tmp_path):
    _, _, folder = saved("srha")
    for kind, name, mode in (("leftImg8bit", "1_image.jpg", "RGB"), ("gtFine", "1_label.png", "L")):
        path = tmp_path / "lite" / kind / "val" / "drive" / name
        path.parent.mkdir(parents=True)
        Image.new(mode, (64, 48), 3 if mode == "L" else (90, 120, 60)).save(path)
    words = ["--snapshot", folder, "--images", 2, "DATASET.IDD_LITE_DIR", tmp_path / "lite"]
    run(monkeypatch, "idd_lite", *words)
    assert "IDD-Lite is evaluated in idd_lite7" in capsys.readouterr().out
    assert [path.name for path in (folder / "styles").iterdir()] == ["styles.png"]
    run(monkeypatch, "idd_lite", "gtav", "--format", "pdf", *words)
    names = {path.name for path in (folder / "styles").iterdir()}
    assert names == {"styles.png", "styles.pdf", "regions.pdf", "embeddings.pdf"}


def test_regions_take_styles_of_other_regions(saved):
    cfg, method, _ = saved("srha")
    domain = open_domain("gtav", cfg, build_method(cfg)[1])
    found, classes = styles.look(method, domain, HERE, images=1, pixels=1)["regions"]
    assert found.shape == (len(classes), 2, 48) and len(classes) > 4
    before, after = found[:, 0], found[:, 1]
    nearest = np.abs(after[:, None] - before[None]).max(2)
    # α = 2⁻⁶ mixes little: most regions have the style of one other region or their own.
    assert (nearest.min(1) < 0.05).mean() > 0.5
    assert np.abs(after - before).max() > 0.1


def test_pixels_of_each_class_are_drawn_with_their_class(saved):
    cfg, method, _ = saved("baseline")
    embedding = torch.randn(1, 4, 6, 8)
    label = torch.tensor([0, 3, 255, 7])[torch.randint(0, 4, (1, 12, 16))]
    points, classes = styles.some_pixels(embedding, label, 5)
    assert sorted(set(classes.tolist())) == [0, 3, 7]
    assert all((classes == c).sum() <= 5 for c in (0, 3, 7))
    rows = embedding[0].flatten(1).T
    small = label[:, ::2, ::2].flatten()
    for point, c in zip(points, classes, strict=True):
        assert c in small[(rows == point).all(1)]


def test_no_domain_and_a_published_checkpoint(saved, monkeypatch, tmp_path):
    _, _, folder = saved("baseline", DECODER__AUX_WEIGHT=0.0)
    with pytest.raises(UserError, match="name the datasets to styles"):
        run(monkeypatch, "--snapshot", folder)
    published = {"model_state": {"module.layer0.0.weight": torch.zeros(1)}, "epoch": 1}
    monkeypatch.setattr(
        checkpoint, "load_checkpoint", lambda path: {"published": True, **published}
    )
    with pytest.raises(UserError, match="of the published code and knows no settings"):
        run(monkeypatch, "gtav", "--snapshot", folder / "last.pth")
