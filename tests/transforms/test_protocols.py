"""At which size each protocol evaluates which dataset, portrait images included."""

import numpy as np
import pytest
import torch
from PIL import Image

from config import SETTINGS
from datasets import build_dataset
from transforms import EvalTransform, denormalise
from transforms.protocols import PROTOCOLS
from utils.evaluate.evaluation import open_domain


def sample(height, width):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    label = torch.randint(0, 19, (height // 10 + 1, width // 10 + 1), dtype=torch.uint8)
    label = label.repeat_interleave(10, 0).repeat_interleave(10, 1)[:height, :width]
    return image, label


@pytest.mark.parametrize("dataset", ["gtav", "mapillary", "cityscapes"])
def test_native_changes_nothing(dataset):
    image, label = sample(30, 40)
    evaluated, evaluated_label = EvalTransform("native", dataset)(image, label).values()
    assert torch.equal(denormalise(evaluated), image)
    assert torch.equal(evaluated_label, label.long())


def test_robustnet_resizes_gtav_alone():
    image, label = sample(526, 957)
    evaluated, evaluated_label = EvalTransform("robustnet", "gtav")(image, label).values()
    assert evaluated.shape == (3, 1052, 1914)
    doubled = label.repeat_interleave(2, 0).repeat_interleave(2, 1).long()
    assert torch.equal(evaluated_label, doubled)
    kept = EvalTransform("robustnet", "gtav")(*sample(1052, 1914))["image"]
    assert kept.shape == (3, 1052, 1914)
    evaluated, evaluated_label = EvalTransform("robustnet", "bdd100k")(image, label).values()
    assert evaluated.shape == (3, 526, 957) and evaluated_label.shape == (526, 957)


SHAPES = [(300, 400), (320, 240), (768, 1024), (1536, 1536), (1000, 2001), (1537, 1001)]


@pytest.mark.parametrize("height, width", SHAPES)
def test_robustnet_cuts_or_pads_mapillary_around_its_centre(height, width):
    """Against one formula for each label pixel, and Pillow for the image."""
    image, label = sample(height, width)
    evaluated, evaluated_label = EvalTransform("robustnet", "mapillary")(image, label).values()
    assert evaluated.shape == (3, 1536, 1536)
    scaled = round(width * 1536 / height)
    margin = abs(scaled - 1536) // 2
    columns = np.arange(1536) + (margin if scaled > 1536 else -margin)
    there = (columns >= 0) & (columns < scaled)
    expected = np.full((1536, 1536), 255)
    above = (2 * np.arange(1536) + 1) * height // (2 * 1536)
    beside = (2 * columns[there] + 1) * width // (2 * scaled)
    expected[:, there] = label.numpy()[above][:, beside]
    assert np.array_equal(evaluated_label.numpy(), expected)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = np.array(picture.resize((scaled, 1536), Image.Resampling.BICUBIC), dtype=int)
    pasted = np.zeros((1536, 1536, 3), dtype=int)
    pasted[:, there] = resized[:, columns[there]]
    gap = np.abs(denormalise(evaluated).permute(1, 2, 0).numpy() - pasted)
    assert gap.max() <= 2 and gap.mean() < 0.5


def test_openseg_evaluates_small_images_on_their_own_labels():
    image, label = sample(300, 400)
    for dataset, size in (("cityscapes", (300, 400)), ("mapillary", (150, 200))):
        evaluated, evaluated_label = EvalTransform("openseg", dataset)(image, label).values()
        assert evaluated.shape == (3, 512, 1024) and evaluated_label.shape == size
    assert PROTOCOLS["openseg"].windows == (512, 341)


@pytest.mark.parametrize(
    "dataset, image, expected",
    [
        ("cityscapes", (1024, 2048), (512, 1024)),
        ("gtav", (1052, 1914), (512, 932)),
        ("acdc", (1080, 1920), (512, 910)),
        ("bdd100k", (720, 1280), (720, 1280)),
    ],
)
def test_rein_fits_images_and_keeps_labels(dataset, image, expected):
    """As by OpenCV, against float64; BDD100K is kept."""
    image, label = sample(*image)
    evaluated, evaluated_label = EvalTransform("rein", dataset)(image, label).values()
    assert evaluated.shape == (3, *expected) and torch.equal(evaluated_label, label)
    size = dict(size=expected, mode="bilinear", align_corners=False)
    resized = torch.nn.functional.interpolate(image[None].double(), **size)[0]
    assert (denormalise(evaluated) - resized).abs().max() < 1.02
    assert PROTOCOLS["rein"].windows == (512, 341)


@pytest.mark.parametrize(
    "height, width, expected", [(769, 1027, (512, 684)), (901, 501, (922, 512))]
)
def test_rein_halves_mapillary_first(height, width, expected):
    """Against Pillow, then float64."""
    image, label = sample(height, width)
    evaluated, evaluated_label = EvalTransform("rein", "mapillary")(image, label).values()
    half = width // 2, height // 2
    halved = Image.fromarray(label.numpy()).resize(half, Image.Resampling.NEAREST)
    assert np.array_equal(evaluated_label.numpy(), np.array(halved))
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture = np.array(picture.resize(half, Image.Resampling.BICUBIC), dtype=float)
    size = dict(size=expected, mode="bilinear", align_corners=False)
    picture = torch.from_numpy(picture).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(picture, **size)[0]
    assert evaluated.shape == resized.shape
    assert (denormalise(evaluated) - resized).abs().max() < 3


def test_openseg_reads_mapillary_through_its_own_label_map(settings, miniature):
    cfg = settings(VALID__PROTOCOL="openseg", DATASET__ROOT=str(miniature))
    space = build_dataset("mapillary", "val", cfg).label_space
    assert open_domain("mapillary", cfg, space).label_map == "openseg"
    assert open_domain("cityscapes", cfg, space).label_map == "default"
    native = settings(DATASET__ROOT=str(miniature))
    assert open_domain("mapillary", native, space).label_map == "robustnet"


def test_settings_know_the_protocols():
    assert set(SETTINGS["VALID"]["PROTOCOL"].choices) == set(PROTOCOLS)


@pytest.mark.parametrize(
    "protocol, image, expected",
    [
        ("daformer", (720, 1280), (512, 910)),
        ("daformer", (1280, 720), (910, 512)),
        ("daformer", (1024, 2048), (512, 1024)),
        ("daformer", (90, 120), (512, 683)),
        ("sepico", (720, 1280), (640, 1138)),
        ("hrda", (720, 1280), (1024, 1820)),
        ("hrda", (1280, 720), (1820, 1024)),
        ("hrda", (300, 600), (1024, 2048)),
    ],
)
def test_self_training_fits_images_into_a_box(protocol, image, expected):
    """Also upwards, without antialiasing (against float64); labels keep their size."""
    image, label = sample(*image)
    evaluated, evaluated_label = EvalTransform(protocol, "bdd100k")(image, label).values()
    assert evaluated.shape == (3, *expected) and torch.equal(evaluated_label, label)
    size = dict(size=expected, mode="bilinear", align_corners=False)
    resized = torch.nn.functional.interpolate(image[None].double(), **size)[0]
    assert (denormalise(evaluated) - resized).abs().max() < 1.02
    assert PROTOCOLS[protocol].windows == ((1024, 512) if protocol == "hrda" else (0, 0))
