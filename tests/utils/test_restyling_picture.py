"""What SRM does, shown on images: regions swap colour statistics, and nothing else."""

import pytest
import torch
from PIL import Image

from utils import restyling_picture
from utils.errors import UserError
from utils.restyling_picture import restyle_image


@pytest.fixture
def scene():
    """An image of three regions of clear colours, and its label."""
    label = torch.zeros(30, 40, dtype=torch.uint8)
    label[10:, :20] = 1
    label[10:, 20:] = 4
    image = torch.randn(3, 30, 40) * 0.1
    for value, colour in ((0, 2.0), (1, -1.0), (4, 0.5)):
        image[:, label == value] += colour
    return image, label


def test_a_small_alpha_gives_regions_the_colours_of_others(scene):
    image, label = scene
    means = {v: image[:, label == v].mean(1) for v in (0, 1, 4)}
    borrowed = set()
    for seed in range(8):
        restyled = restyle_image(image, label, 19, 2**-8, seed)
        for own in means:
            now = restyled[:, label == own].mean(1)
            near = min(means, key=lambda v: (now - means[v]).abs().max())
            assert (now - means[near]).abs().max() < 0.2
            borrowed.add((own, near))
    assert any(own != near for own, near in borrowed)
    even = restyle_image(image, label, 19, 1e4, 0)
    mixed = sum(means.values()) / 3
    for own in means:
        torch.testing.assert_close(even[:, label == own].mean(1), mixed, rtol=0, atol=0.1)


def test_it_is_a_function_of_the_seed_and_leaves_the_generator_alone(scene):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (restyle_image(*scene, 19, 0.0156, 3) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.rand(1), expected)


def test_the_page(miniature, tmp_path):
    out = tmp_path / "pictures" / "page.png"
    line = ["gtav", "cityscapes:train", "--out", str(out), "--images", "2", "--alphas", "0.01,1",
            "DATASET.ROOT", str(miniature)]  # fmt: skip
    restyling_picture.main(line)
    with Image.open(out) as page:
        assert page.width > 4 * 320 and page.height > 4 * 170
    with pytest.raises(UserError, match="--alphas 0: a concentration is above 0"):
        restyling_picture.main(["gtav", "--out", str(out), "--alphas", "0"])
