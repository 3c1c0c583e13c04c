import pytest
import torch
import torchvision
from scipy.ndimage import gaussian_filter

import config
from transforms import EvalTransform, TrainTransform, denormalise, normalise
from transforms.photometric import RandomBlur, gaussian_blur, random_jitter


def settings(**changes):
    return config.load({f"TRANSFORM.{key}": value for key, value in changes.items()})


def photograph(height=50, width=70):
    torch.manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


QUIET = {"SCALE": [1.0, 1.0], "FLIP": 0.0, "JITTER_PROBABILITY": 0.0, "BLUR_PROBABILITY": 0.0}


def test_training_sample_has_the_crop_size_and_types():
    label = torch.zeros(50, 70, dtype=torch.uint8)
    cfg = settings(CROP_SIZE=[33, 90], SCALE=[0.5, 1.2])
    image, label = TrainTransform(cfg)(photograph(), label)
    assert (image.dtype, image.shape) == (torch.float32, (3, 33, 90))
    assert (label.dtype, label.shape) == (torch.int64, (33, 90))
    assert {0, 255} == set(label.unique().tolist())


def test_nothing_drawn_is_normalisation_only():
    transform = TrainTransform(settings(CROP_SIZE=[50, 70], **QUIET))
    label = torch.arange(50)[:, None].expand(50, 70)
    image, out = transform(photograph(), label, (3.0, 4.0))
    assert torch.equal(image, EvalTransform()(photograph(), label)[0])
    assert torch.equal(out, label)


def test_padding_is_black_before_normalisation():
    transform = TrainTransform(settings(CROP_SIZE=[54, 70], **QUIET))
    image, label = transform(photograph(), torch.zeros(50, 70, dtype=torch.uint8))
    black = normalise(torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert torch.equal(image[:, label == 255], black[:, 0].expand(3, 4 * 70))


@pytest.mark.parametrize("step", ["SCALE", "FLIP", "JITTER_PROBABILITY", "BLUR_PROBABILITY"])
def test_each_setting_reaches_its_step(step):
    on = {"SCALE": [2.0, 2.0]}.get(step, 1.0)
    torch.manual_seed(1)
    changes = QUIET | {"BLUR_SIGMA": [1.0, 1.0], step: on}
    transform = TrainTransform(settings(CROP_SIZE=[50, 70], **changes))
    image, _ = transform(photograph(), torch.zeros(50, 70))
    difference = (image - normalise(photograph())).abs()
    assert difference.mean() > 0.05


def test_geometry_moves_labels_and_photometry_does_not():
    label = torch.arange(70).expand(50, 70)
    loud = QUIET | {"JITTER_PROBABILITY": 1.0, "BLUR_PROBABILITY": 1.0}
    _, same = TrainTransform(settings(CROP_SIZE=[50, 70], **loud))(photograph(), label)
    assert torch.equal(same, label)
    _, flipped = TrainTransform(settings(CROP_SIZE=[50, 70], **QUIET | {"FLIP": 1.0}))(
        photograph(), label
    )
    assert torch.equal(flipped, label.flip(-1))


def test_random_numbers_come_from_the_global_generator():
    transform = TrainTransform(settings(CROP_SIZE=[20, 20]))
    label = torch.zeros(50, 70, dtype=torch.uint8)
    images = []
    for seed in (4, 4, 5):
        image = photograph()
        torch.manual_seed(seed)
        images.append(transform(image, label)[0])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_normalise_against_torchvision_weights():
    expected = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms(
        crop_size=50, resize_size=50
    )(photograph(50, 50))
    assert torch.allclose(normalise(photograph(50, 50)), expected, atol=1e-6)


def test_denormalise_inverts():
    assert torch.equal(denormalise(normalise(photograph())), photograph())
    assert torch.equal(denormalise(torch.full((2, 3, 1, 1), 99.0)), torch.full((2, 3, 1, 1), 255))


@pytest.mark.parametrize("sigma", [0.15, 0.6, 1.3])
def test_blur_against_scipy(sigma):
    image = photograph().float() / 255
    expected = gaussian_filter(image.numpy(), (0, sigma, sigma), truncate=4, mode="mirror")
    assert torch.allclose(gaussian_blur(image, sigma), torch.from_numpy(expected), atol=1e-5)


def test_blur_probability_and_range():
    torch.manual_seed(0)
    image = (torch.arange(400).view(1, 20, 20) % 2 * 1.0).expand(3, 20, 20)
    blur = RandomBlur((0.5, 1.3), 0.5)
    contrasts = torch.stack([blur(image).std() / image.std() for _ in range(300)])
    blurred = contrasts[contrasts < 1]
    assert 120 < len(blurred) < 180
    bounds = [gaussian_blur(image, sigma).std() / image.std() for sigma in (1.3, 0.5)]
    assert bounds[0] <= blurred.min() < blurred.max() <= bounds[1]
    assert blurred.max() - blurred.min() > 0.5 * (bounds[1] - bounds[0])


def test_jitter_probability_and_strength():
    torch.manual_seed(0)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    jitter = random_jitter((0.4, 0.0, 0.0, 0.0), 0.5)
    values = torch.stack([jitter(grey)[0, 0, 0] for _ in range(300)]).float()
    assert 60 <= values.min() < 65 and 135 < values.max() <= 140
    assert 130 < (values != 100).sum() < 170
