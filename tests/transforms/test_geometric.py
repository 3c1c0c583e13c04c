import math

import numpy as np
import pytest
import torch
from PIL import Image

from transforms.geometric import PadTo, RandomCrop, RandomFlip, RandomScale


def picture_of(label):
    """Render a label into an image: red is 10 times the number."""
    return torch.stack([label * 10, label * 0, 255 - label * 10]).to(torch.uint8)


def stripes(height, width, side=16):
    """Return a label of squares with numbers 0 … 8."""
    rows, columns = torch.arange(height) // side % 3, torch.arange(width) // side % 3
    return (rows[:, None] * 3 + columns).to(torch.uint8)


def centre(label, number):
    """Return the mean (x, y) of the pixels of a number."""
    y, x = (label == number).nonzero().float().mean(0).tolist()
    return x, y


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(40, 56), (200, 150)])
def test_label_stays_on_its_pixels(seed, size):
    torch.manual_seed(seed)
    label = stripes(96, 120)
    image = picture_of(label)
    for step in (RandomScale((0.5, 2.0)), PadTo(size), RandomCrop(size), RandomFlip(0.5)):
        image, label, _ = step(image, label, None)
    assert (image.shape, label.shape) == ((3, *size), size)
    expected = picture_of(torch.where(label == 255, 0, label).int()).int()
    expected[:, label == 255] = 0
    wrong = ((image.int() - expected).abs() > 9).any(0)
    # Only pixels next to an edge are mixed by the interpolation; a label that is one pixel off
    # differs on more of them.
    assert wrong.float().mean() < 0.2
    edges = torch.zeros_like(wrong)
    padded = torch.nn.functional.pad(label[None].float(), [2] * 4, mode="replicate")[0]
    for dy in range(5):
        for dx in range(5):
            edges |= padded[dy : dy + size[0], dx : dx + size[1]] != label
    assert not (wrong & ~edges).any()


def test_label_takes_the_middle_pixel():
    image, label = torch.zeros(3, 1, 9, dtype=torch.uint8), torch.arange(9)[None]
    _, small, _ = RandomScale((1 / 3, 1 / 3))(image, label.to(torch.uint8), None)
    assert small.tolist() == [[1, 4, 7]]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.7])
def test_image_is_scaled_as_by_pil(factor):
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    scaled, label, _ = RandomScale((factor, factor))(image, torch.zeros(40, 60), None)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    size = round(60 * factor), round(40 * factor)
    expected = np.array(picture.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(scaled.numpy().astype(int) - expected).max() <= 1
    assert label.shape == scaled.shape[1:]


def test_scale_is_uniform_in_its_range():
    torch.manual_seed(0)
    image, label = torch.zeros(3, 100, 200, dtype=torch.uint8), torch.zeros(100, 200)
    shapes = [RandomScale((0.5, 2.0))(image, label, None)[1].shape for _ in range(400)]
    factors = torch.tensor([height / 100 for height, _ in shapes])
    assert 0.5 <= factors.min() < 0.55 and 1.95 < factors.max() <= 2.0
    assert abs(factors.mean() - 1.25) < 0.07
    assert ((factors < 1).float().mean() - 1 / 3).abs() < 0.07
    assert all(abs(width - 2 * height) <= 1 for height, width in shapes)


def test_padding_is_symmetric_black_and_void():
    label = torch.ones(4, 5, dtype=torch.uint8)
    image = torch.full((3, 4, 5), 9, dtype=torch.uint8)
    image, label, centroid = PadTo((8, 10))(image, label, (0.0, 3.0))
    assert label.shape == (8, 10) and image.shape == (3, 8, 10)
    assert (label[2:6, 2:7] == 1).all() and (label == 255).sum() == 80 - 20
    assert (image[:, 2:6, 2:7] == 9).all() and (image != 0).sum() == 3 * 20
    assert centroid == (2.0, 5.0)


def test_large_samples_are_not_padded():
    label = torch.ones(4, 50, dtype=torch.uint8)
    _, label, centroid = PadTo((8, 10))(picture_of(label), label, (1.0, 1.0))
    assert label.shape == (8, 50) and centroid == (1.0, 3.0)


@pytest.mark.parametrize("factor", [0.5, 0.77, 1.0, 1.9])
def test_centroid_moves_with_its_pixels(factor):
    torch.manual_seed(0)
    label = stripes(96, 96, side=32)
    sample = picture_of(label), label, centre(label, 5)
    for step in (RandomScale((factor, factor)), PadTo((150, 160)), RandomFlip(1.0)):
        sample = step(*sample)
        assert sample[2] == pytest.approx(centre(sample[1], 5), abs=0.6)
    torch.manual_seed(3)
    image, label, (x, y) = RandomCrop((60, 50))(*sample)
    assert label[round(y), round(x)] == 5


def test_crop_contains_the_centroid_wherever_it_is():
    torch.manual_seed(0)
    size = (12, 16)
    for height, width in ((30, 40), (9, 40), (30, 7), (8, 8)):
        for x, y in ((0, 0), (width - 1, height - 1), (width / 3, height / 2), (0, height - 1)):
            for _ in range(20):
                sample = torch.zeros(3, height, width, dtype=torch.uint8), stripes(height, width)
                sample = *sample, (float(x), float(y))
                for step in (RandomScale((0.5, 2.0)), PadTo(size), RandomCrop(size)):
                    sample = step(*sample)
                image, label, (cx, cy) = sample
                column, row = math.floor(cx + 0.5), math.floor(cy + 0.5)
                assert 0 <= column < 16 and 0 <= row < 12
                assert label[row, column] != 255


def positions(size, centroid, shape, count=400):
    """Return the set of (left, top) of random crops, read off an image of coordinates."""
    height, width = shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, x]).to(torch.uint8)
    crops = [RandomCrop(size)(image, y, centroid)[0][:2, 0, 0] for _ in range(count)]
    return {tuple(crop.tolist()) for crop in crops}


def test_crop_positions():
    torch.manual_seed(0)
    assert positions((3, 4), None, (5, 6)) == {(x, y) for x in range(3) for y in range(3)}
    around = positions((3, 4), (5.0, 2.0), (9, 9))
    assert around == {(x, y) for x in (2, 3, 4, 5) for y in (0, 1, 2)}
    assert positions((5, 6), (1.0, 2.0), (5, 6)) == {(0, 0)}


def test_flip_mirrors_image_and_label():
    label = stripes(20, 24)
    image = picture_of(label)
    flipped_image, flipped_label, centroid = RandomFlip(1.0)(image, label, (2.0, 5.0))
    assert torch.equal(flipped_image, picture_of(flipped_label))
    assert torch.equal(flipped_label, label[:, torch.arange(23, -1, -1)])
    assert centroid == (21.0, 5.0)
    assert torch.equal(RandomFlip(0.0)(image, label, None)[1], label)


def test_flip_happens_as_often_as_asked():
    torch.manual_seed(0)
    label = torch.tensor([[0, 1]])
    flips = [RandomFlip(0.25)(torch.zeros(3, 1, 2), label, None)[1][0, 0] for _ in range(800)]
    assert 150 < sum(flips) < 250
