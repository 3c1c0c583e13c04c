import pytest
import torch
import torchvision
import torchvision.transforms.v2.functional as F
from scipy.ndimage import gaussian_filter

from datasets import load_settings
from transforms import (
    EvalTransform,
    PhotographTransform,
    TrainTransform,
    denormalise,
    normalise,
)
from transforms.photometric import Photometric, gaussian_blur, rotate_hue


def settings(**changes):
    return load_settings({f"TRANSFORM.{key}": value for key, value in changes.items()})


def photograph(height=50, width=70, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


QUIET = {"SCALE": [1.0, 1.0], "FLIP": 0.0, "JITTER_PROBABILITY": 0.0, "BLUR_PROBABILITY": 0.0}


def test_training_sample_has_the_crop_size_and_types():
    label = torch.zeros(50, 70, dtype=torch.uint8)
    cfg = settings(CROP_SIZE=[33, 90], SCALE=[0.5, 1.2])
    image, label = TrainTransform(cfg)(photograph(), label).values()
    assert (image.dtype, image.shape) == (torch.float32, (3, 33, 90))
    assert (label.dtype, label.shape) == (torch.uint8, (33, 90))
    assert {0, 255} == set(label.unique().tolist())


def test_nothing_drawn_is_normalisation_only():
    transform = TrainTransform(settings(CROP_SIZE=[50, 70], **QUIET))
    label = torch.arange(50)[:, None].expand(50, 70)
    image, out = transform(photograph(), label, (3.0, 4.0)).values()
    assert torch.equal(image, EvalTransform()(photograph(), label)["image"])
    assert torch.equal(out, label)


def test_padding_is_black_before_normalisation():
    transform = TrainTransform(settings(CROP_SIZE=[54, 70], **QUIET))
    image, label = transform(photograph(), torch.zeros(50, 70, dtype=torch.uint8)).values()
    black = normalise(torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert torch.equal(image[:, label == 255], black[:, 0].expand(3, 4 * 70))


def test_short_edges_go_before_scales():
    cfg = settings(CROP_SIZE=[25, 40], SHORT_EDGES="25", **QUIET | {"SCALE": [2.0, 2.0]})
    label = torch.arange(50, dtype=torch.uint8)[:, None].repeat(1, 80)
    assert torch.equal(TrainTransform(cfg)(photograph(50, 80), label)["label"], label[1::2, ::2])


def test_settings_of_classes_and_box_reach_the_geometry():
    cfg = load_settings(
        {
            "TRANSFORM.BOX": [64, 40],
            "TRANSFORM.MAX_CLASS_SHARE": 0.75,
            "DATASET.RARE_CLASS_CROP_PIXELS": 30,
            "TRANSFORM.CROP_SIZE": [16, 16],
        }
    )
    geometric = TrainTransform(cfg).geometric
    assert (geometric.box, geometric.max_class_share, geometric.class_pixels) == (
        [64, 40],
        0.75,
        30,
    )
    label = torch.zeros(50, 70, dtype=torch.uint8)
    label[:25, :35] = 4
    torch.manual_seed(0)
    crops = [TrainTransform(cfg)(photograph(), label, 4)["label"] for _ in range(40)]
    assert sum((crop == 4).sum() > 30 for crop in crops) > 36


@pytest.mark.parametrize("on_device", [False, True])
def test_photographs_without_labels_go_through_the_same_geometry(on_device):
    quiet = {"JITTER_PROBABILITY": 0.0, "BLUR_PROBABILITY": 0.0, "BOX": [60, 60]}
    labelled = TrainTransform(settings(CROP_SIZE=[40, 48], **quiet))
    plain = PhotographTransform([40, 48], [0.5, 2.0], 0.5, [60, 60], on_device)
    for seed in range(6):
        torch.manual_seed(seed)
        expected = labelled(photograph(), torch.zeros(50, 70, dtype=torch.uint8))["image"]
        torch.manual_seed(seed)
        sample = plain(photograph())
        assert sample.keys() == {"image"}
        assert sample["image"].dtype == (torch.uint8 if on_device else torch.float32)
        batch = plain.finish(torch.utils.data.default_collate([sample]))
        assert torch.equal(batch["image"][0], expected)


@pytest.mark.parametrize("step", ["SCALE", "FLIP", "JITTER_PROBABILITY", "BLUR_PROBABILITY"])
def test_each_setting_reaches_its_step(step):
    on = {"SCALE": [2.0, 2.0]}.get(step, 1.0)
    torch.manual_seed(1)
    changes = QUIET | {"BLUR_SIGMA": [1.0, 1.0], step: on}
    transform = TrainTransform(settings(CROP_SIZE=[50, 70], **changes))
    image = transform(photograph(), torch.zeros(50, 70))["image"]
    difference = (image - normalise(photograph())).abs()
    assert difference.mean() > 0.05


def test_geometry_moves_labels_and_photometry_does_not():
    label = torch.arange(70).expand(50, 70)
    loud = QUIET | {"JITTER_PROBABILITY": 1.0, "BLUR_PROBABILITY": 1.0}
    same = TrainTransform(settings(CROP_SIZE=[50, 70], **loud))(photograph(), label)
    assert torch.equal(same["label"], label)
    mirror = TrainTransform(settings(CROP_SIZE=[50, 70], **QUIET | {"FLIP": 1.0}))
    assert torch.equal(mirror(photograph(), label)["label"], label.flip(-1))


def test_device_finishes_what_the_worker_draws():
    label = torch.zeros(50, 70, dtype=torch.uint8)
    cfg = settings(CROP_SIZE=[40, 48], JITTER_PROBABILITY=0.7, BLUR_PROBABILITY=0.7)
    runtime, later = TrainTransform(cfg), TrainTransform(cfg, on_device=True)
    finished, drawn = [], []
    for seed in range(6):
        for transform, results in ((runtime, finished), (later, drawn)):
            torch.manual_seed(seed)
            results.append(transform(photograph(seed=seed), label))
    batch = torch.utils.data.default_collate(drawn)
    assert batch["image"].dtype == torch.uint8
    for layout in (torch.contiguous_format, torch.channels_last):
        batch["image"] = batch["image"].contiguous(memory_format=layout)
        result = later.finish(batch)
        assert result.keys() == {"image", "label"}
        assert result["image"].is_contiguous(memory_format=layout)
        assert torch.equal(result["image"], torch.stack([sample["image"] for sample in finished]))
    # Of six samples some are jittered and some are blurred, but not all.
    assert 0 < (batch["photometric"][:, 0] < 0).sum() < 6
    assert 0 < (batch["photometric"][:, -1] == 0).sum() < 6
    done = torch.utils.data.default_collate(finished)
    assert runtime.finish(done) is done


def test_random_numbers_come_from_the_global_generator():
    transform = TrainTransform(settings(CROP_SIZE=[20, 20]))
    label = torch.zeros(50, 70, dtype=torch.uint8)
    images = []
    for seed in (4, 4, 5):
        image = photograph()
        torch.manual_seed(seed)
        images.append(transform(image, label)["image"])
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


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (2, 5)])
def test_blur_of_what_is_smaller_than_its_reach(size):
    flat = torch.full((3, *size), 0.25)
    assert torch.allclose(gaussian_blur(flat, 1.3), flat)


def test_blur_probability_and_range():
    torch.manual_seed(0)
    photometric = Photometric((0.4, 0.4, 0.4, 0.1), 0.0, (0.5, 1.3), 0.5)
    sigmas = torch.stack([photometric.draw() for _ in range(300)])[:, -1]
    blurred = sigmas[sigmas > 0]
    assert 120 < len(blurred) < 180
    assert 0.5 <= blurred.min() < 0.55 and 1.25 < blurred.max() <= 1.3


def test_jitter_probability_and_strength():
    torch.manual_seed(0)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    photometric = Photometric((0.4, 0.0, 0.0, 0.0), 0.5, (0.5, 1.3), 0.0)
    values = [photometric.apply(grey, photometric.draw())[0, 0, 0] for _ in range(300)]
    values = torch.stack(values) * 255
    assert 60 <= values.min() < 65 and 135 < values.max() <= 140
    assert 130 < ((values - 100).abs() > 1e-3).sum() < 170


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.03, 0.37, 0.5])
def test_hue_against_torchvision(turns):
    image = photograph().float() / 255
    image[:, :8] = image[:1, :8]  # greys, black and white among them
    image[:, 0, :2] = torch.tensor([0.0, 1.0])
    image[:, 8:12] = (image[:, 8:12] > 0.5).float()  # corners of the colour cube
    expected = F.adjust_hue(image, turns)
    assert torch.allclose(rotate_hue(image, turns), expected, atol=2e-6)


def test_jitter_is_that_of_torchvision_in_the_order_drawn():
    torch.manual_seed(0)
    photometric = Photometric((0.4, 0.4, 0.4, 0.1), 1.0, (0.5, 1.3), 0.0)
    apply = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    orders = set()
    for _ in range(20):
        drawn = photometric.draw()
        expected = photograph().float() / 255
        for number in drawn[:4].int().tolist():
            expected = apply[number](expected, drawn[4 + number].item())
        assert torch.allclose(photometric.apply(photograph(), drawn), expected, atol=1e-5)
        orders.add(tuple(drawn[:4].tolist()))
    assert len(orders) > 8
