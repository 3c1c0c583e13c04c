import colorsys

import pytest
import torch
from scipy.ndimage import gaussian_filter

from transforms.normalisation import IMAGENET_MEAN, IMAGENET_STD, normalise
from transforms.strong import StrongAugmentation, Switches, jitter

MEAN, STD = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1)
             for x in (IMAGENET_MEAN, IMAGENET_STD))  # fmt: skip


def photograph(height=9, width=11):
    image = torch.rand(3, height, width, dtype=torch.float64)
    image[:, 0] = image[:1, 0]  # greys
    image[:, 1, :4] = torch.tensor([0.0, 1.0, 0.5, 0.0])
    image[1:, 2] = 0  # fully saturated
    return image


def clamp(x):
    return min(max(x, 0.0), 1.0)


def brightness(pixel, factor):
    return [clamp(x + factor) for x in pixel]


def contrast(pixel, factor):
    return [clamp(x * (1 + factor)) for x in pixel]


def saturation(pixel, factor):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb(hue, clamp(saturation * (1 + factor)), value)


def hue(pixel, factor):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize("factors", [(0.2, 0.15, 0.18, -0.13), (-0.1, -0.2, -0.12, 0.2)])
def test_jitter_pixel_by_pixel(order, factors):
    image = photograph()
    expected = image.clone()
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            pixel = image[:, i, j].tolist()
            for number in order:
                pixel = (brightness, contrast, saturation, hue)[number](pixel, factors[number])
            expected[:, i, j] = torch.tensor(pixel, dtype=torch.float64)
    result = jitter((image - MEAN) / STD, order, factors) * STD + MEAN
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_no_factor_is_no_change():
    image = (photograph() - MEAN) / STD
    torch.testing.assert_close(jitter(image, (0, 1, 2, 3), (0, 0, 0, 0)), image)


def test_blur_against_scipy():
    augmentation = StrongAugmentation(sigma=(0.75, 0.75))
    images = torch.randn(2, 3, 15, 12, dtype=torch.float64)
    expected = gaussian_filter(images.numpy(), (0, 0, 0.75, 0.75), truncate=4, mode="mirror")
    result = augmentation(images, Switches(jitter=False, blur=True))
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_each_image_has_deviation_and_factors_of_its_own():
    augmentation = StrongAugmentation()
    points = torch.zeros(40, 3, 13, 13)
    points[:, :, 6, 6] = 1
    blurred = augmentation(points, Switches(jitter=False, blur=True))[:, 0, 6]
    deviation = (blurred * (torch.arange(13) - 6) ** 2).sum(1).div(blurred.sum(1)).sqrt()
    # A deviation below half a pixel shows as less.
    assert deviation.min() < 0.3 and 0.9 < deviation.max() < 1.16

    grey = normalise(torch.full((100, 3, 2, 2), 0.5))
    jittered = augmentation(grey, Switches(jitter=True, blur=False)) * STD + MEAN
    values = jittered[:, :, 0, 0]
    # Grey stays grey; brightness goes first or contrast does.
    torch.testing.assert_close(values, values[:, :1].expand(-1, 3))
    assert 0.3 * 0.8 <= values.min() < 0.3 and 0.7 < values.max() <= 0.7 * 1.2
    stronger = StrongAugmentation(strength=0.25)(grey, Switches(True, False)) * STD + MEAN
    assert stronger.min() < values.min() and stronger.max() > values.max()


def test_switches_of_a_step():
    drawn = torch.tensor([StrongAugmentation().draw_switches() for _ in range(400)]).double()
    jittered, blurred = drawn.mean(0)
    assert 0.74 < jittered < 0.86 and 0.43 < blurred < 0.57
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 0.15


def test_switched_off_and_layout():
    augmentation = StrongAugmentation()
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    assert augmentation(images, Switches(False, False)) is images
    results = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        results.append(augmentation(images, Switches(True, True)))
    assert results[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert torch.equal(images, before)
