"""The embedded engine: depth order of a label, and what a look changes and what it keeps."""

import numpy as np
import pytest

from datasets import label_spaces
from datasets.label_spaces import CITYSCAPES19, LabelSpace
from datasets.pseudo_target import restyle as engine
from datasets.pseudo_target.depth import FARTHEST, Roles, depth_order, roles_of
from datasets.pseudo_target.restyle import restyle

ROAD, BUILDING, SKY, CAR = 0, 2, 10, 13
ROLES = roles_of(CITYSCAPES19)


@pytest.fixture
def street():
    """A label 60×80: sky, a house from row 10 to 39, road below row 30, a car down to row 45."""
    label = np.full((60, 80), ROAD, np.uint8)
    label[:30] = SKY
    label[10:40, :20] = BUILDING
    label[35:46, 50:60] = CAR
    return label


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_roles_of_label_spaces():
    assert ROLES == Roles((0, 1, 9), (10,))
    # Drivable and not; terrain is in the second.
    assert roles_of(label_spaces()["idd_lite7"]) == Roles((0, 1), (6,))
    named = LabelSpace("own", ("tree", "road"), ((0, 0, 0), (1, 1, 1)))
    assert roles_of(named) == Roles((1,), ())


def test_depth_order(street):
    depth = depth_order(street, ROLES)
    assert depth.dtype == np.float32 and depth.shape == street.shape
    assert (depth[street == SKY] == FARTHEST).all() and depth[59, 70] == 1
    road = depth[30:, 70]
    assert (np.diff(road) <= 0).all() and road[0] > 20
    # What stands on the road is as far away as its foot.
    assert (depth[35:46, 50:60] == depth[45, 70]).all()
    assert (depth[10:40, :20] == depth[39, 70]).all()
    assert FARTHEST > depth[20, 5] > depth[40, 55] > 1


def test_without_ground_the_order_is_that_of_rows():
    depth = depth_order(np.full((40, 8), BUILDING, np.uint8), ROLES)
    assert (depth == 1).all(), "a wall whose foot is in the lowest row"
    assert (depth_order(np.full((40, 8), 255, np.uint8), Roles((), ())) == 1).all()


def test_a_look_is_a_function_of_its_seed(image, street):
    first, again, other = (restyle(image, street, ROLES, seed) for seed in (1, 1, 2))
    assert first.pixels.dtype == np.uint8 and first.pixels.shape == image.shape
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    seen = {restyle(image, street, ROLES, seed).weather for seed in range(60)}
    assert seen == set(engine.WEATHER)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (33, 7)])
def test_small_images(size):
    image = np.zeros((*size, 3), np.uint8)
    for seed in range(12):
        assert restyle(image, np.full(size, 255, np.uint8), ROLES, seed).pixels.shape == image.shape


def test_classes_get_statistics_of_their_own(image, street, monkeypatch):
    for name in ("HUE", "SATURATION", "VALUE", "CONTRAST"):
        monkeypatch.setattr(engine, name, (0.0, 0.0) if name == "HUE" else (1.0, 1.0))
    monkeypatch.setattr(engine, "TINGE", 0.0)
    pixels = image.astype(np.float32) / 255
    kept = engine.recolour(pixels, street, np.random.default_rng(0))
    np.testing.assert_allclose(kept, pixels, atol=1e-5)
    # Brightness and contrast act on the mean and deviation of grey, within a class.
    monkeypatch.setattr(engine, "VALUE", (0.5, 0.5))
    monkeypatch.setattr(engine, "CONTRAST", (1.4, 1.4))
    monkeypatch.setattr(engine, "SOFT", 0.0)
    road = np.full_like(street, ROAD)
    grey = engine.recolour(pixels, road, np.random.default_rng(0)).mean(-1)
    assert grey.mean() == pytest.approx(0.5 * pixels.mean(), abs=1e-5)
    assert grey.std() == pytest.approx(0.5 * 1.4 * pixels.mean(-1).std(), rel=1e-4)


def test_hue_turns_colours_and_keeps_grey(monkeypatch):
    for name in ("SATURATION", "VALUE", "CONTRAST"):
        monkeypatch.setattr(engine, name, (1.0, 1.0))
    monkeypatch.setattr(engine, "HUE", (120.0, 120.0))
    monkeypatch.setattr(engine, "TINGE", 0.0)
    pixels = np.full((8, 8, 3), 0.4, np.float32)
    pixels[:, 4:] = (0.6, 0.3, 0.2)
    label = np.zeros((8, 8), np.uint8)
    turned = engine.recolour(pixels, label, np.random.default_rng(0))
    np.testing.assert_allclose(turned[:, :4], 0.4, atol=1e-5)
    # A third of a turn makes red green, green blue, and blue red.
    np.testing.assert_allclose(
        turned[:, 4:], np.broadcast_to([0.2, 0.6, 0.3], (8, 4, 3)), atol=1e-5
    )


def test_the_spectrum(image):
    pixels = image.astype(np.float32) / 255
    np.testing.assert_allclose(engine.reshape_spectrum(pixels, 0.0), pixels, atol=1e-5)
    soft, sharp = (engine.reshape_spectrum(pixels, slope) for slope in (-0.25, 0.25))
    assert soft.std() < pixels.std() < sharp.std()
    flat = np.full((24, 40, 3), 0.3, np.float32)
    np.testing.assert_allclose(engine.reshape_spectrum(flat, 0.2), flat, atol=1e-5)


def test_weather_hides_what_is_behind_it(street, monkeypatch):
    image, depth = np.full((60, 80, 3), 0.2, np.float32), depth_order(street, ROLES)
    through = engine.lay_weather(image, "fog", depth, np.random.default_rng(0)).mean(-1)
    assert through[0, 70] > through[45, 55] > through[59, 70]
    assert np.array_equal(
        engine.lay_weather(image, "clear", depth, np.random.default_rng(0)), image
    )
    # A layer of flakes at each distance: the nearest pixels are before all of them.
    monkeypatch.setattr(engine, "particles", lambda size, *_: np.ones(size, np.float32))
    covered = engine.lay_weather(image, "snow", depth, np.random.default_rng(0))
    assert (covered[depth > 2] == np.float32(0.92)).all()
    assert (covered[depth < 1.5] < 0.5).all()


@pytest.mark.parametrize("weather", ["rain", "snow"])
def test_nearer_particles_are_fewer_and_larger(weather):
    rng = np.random.default_rng(0)
    far, near = (engine.particles((200, 300), weather, d, 0.2, rng) for d in (30, 1.5))
    for cover in (far, near):
        assert 0 <= cover.min() and 0 < cover.max() <= 0.9
    # How alike neighbours are tells the size.
    alike = [np.corrcoef(c[:, 1:].ravel(), c[:, :-1].ravel())[0, 1] for c in (far, near)]
    assert alike[1] > alike[0] and 0 < near.mean() < 0.25 and 0 < far.mean() < 0.25
