"""Which images are evaluated whole, and what evaluation makes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.dataset import SegmentationDataset
from datasets.idd_lite import IDD_LITE7
from datasets.label_spaces import CITYSCAPES19, coarsening
from network.build import build_method
from utils.engine.runtime import Runtime
from utils.errors import UserError
from utils.evaluate.evaluation import check_size, evaluate, open_domain, pixels_at_once

CPU = Runtime(torch.device("cpu"), 0, 1, "float32")


class Given(SegmentationDataset):
    """Images and labels of given sizes, (height, width) each; a label holds its image's number."""

    title, split_rule, label_map, label_maps = "given", "none", "none", {}

    def __init__(self, *sizes, dtype=torch.int64, space=CITYSCAPES19):
        self.sizes, self.dtype, self.label_space = sizes, dtype, space
        self.means = {"mIoU": tuple(range(len(space)))}

    def __len__(self):
        return len(self.sizes)

    def relative_list(self):
        return [str(number) for number in range(len(self))]

    def __getitem__(self, index):
        image, label = self.sizes[index]
        generator = torch.Generator().manual_seed(index)
        return {
            "image": torch.randn(3, *image, generator=generator),
            "label": torch.full(label, index, dtype=self.dtype),
        }


@pytest.fixture
def run_evaluation(settings):
    """Return `evaluate(dataset, **overrides)` → results of a network of random weights."""

    def run(dataset, **overrides):
        cfg = settings(
            DATASET__LABEL_SPACE="cityscapes19", METHOD="baseline", WORKERS=0, **overrides
        )
        torch.manual_seed(0)
        method, space = build_method(cfg)
        return evaluate(method, dataset, space, cfg, CPU)

    return run


def test_labels_may_be_of_any_integer_type_and_of_other_sizes_than_images(run_evaluation):
    sizes = [((64, 64), (64, 64)), ((64, 64), (128, 96)), ((64, 96), (30, 40))]
    wide, narrow = (run_evaluation(Given(*sizes, dtype=t)) for t in (torch.int64, torch.uint8))
    assert wide == narrow
    assert [sum(row) for row in wide["confusion"]][:4] == [64 * 64, 128 * 96, 30 * 40, 0]
    assert wide["sizes"] == ["40x30", "64x64", "96x128"]
    assert run_evaluation(Given(*sizes), VALID__BATCH_SIZE=3)["confusion"] == wide["confusion"]


def test_predictions_are_mapped_to_a_coarser_space(run_evaluation):
    sizes = [((64, 64), (64, 64)), ((64, 96), (64, 96))]
    fine = np.array(run_evaluation(Given(*sizes))["confusion"])
    coarse = np.array(run_evaluation(Given(*sizes, space=IDD_LITE7))["confusion"])
    table = coarsening(CITYSCAPES19, IDD_LITE7)
    expected = np.zeros((2, 7), dtype=int)
    for column in range(19):
        expected[:, table[column]] += fine[:2, column]
    assert (coarse[:2] == expected).all() and coarse.sum() == fine.sum()


def test_pixels_at_once_are_those_of_the_largest_scale_or_of_a_window(settings):
    assert pixels_at_once((100, 200), settings()) == 20000
    assert pixels_at_once((100, 200), settings(VALID__SCALES="0.5,1.5")) == 150 * 300
    assert pixels_at_once((100, 200), settings(VALID__SLIDING="120,80")) == 100 * 120
    assert pixels_at_once((100, 200), settings(VALID__SLIDING="64,32", VALID__SCALES="2")) == 64**2


@pytest.mark.parametrize("size", [(1024, 2048), (1052, 1914), (1536, 1536), (720, 1280)])
def test_published_sizes_are_evaluated_whole_at_twice_their_size(settings, size):
    check_size(size, settings(VALID__SCALES="0.5,1,2"), "an image")


def test_an_image_too_large_is_refused_before_the_network_sees_it(run_evaluation):
    dataset = Given(((64, 64), (64, 64)), ((96, 128), (96, 128)))
    message = "an image of given has 128×96 pixels: .* 12288 at once, and VALID.MAX_PIXELS is 9999"
    with pytest.raises(UserError, match=message):
        run_evaluation(dataset, VALID__MAX_PIXELS=9999)
    whole = run_evaluation(dataset, VALID__MAX_PIXELS=0)
    assert run_evaluation(dataset, VALID__MAX_PIXELS=12288) == whole
    windows = run_evaluation(dataset, VALID__MAX_PIXELS=9999, VALID__SLIDING="64,48")
    assert windows["confusion"] != whole["confusion"]


def test_a_domain_with_an_image_too_large_is_refused_when_it_is_opened(settings, tmp_path):
    """Only what the protocol leaves too large, and with the file's name."""
    for kind in ("images", "labels"):
        folder = tmp_path / "Mapillary" / "validation" / kind
        folder.mkdir(parents=True)
        for name, size in {"a": (320, 180), "b": (2400, 2000), "c": (64, 80)}.items():
            image = Image.new("RGB" if kind == "images" else "L", size)
            image.save(folder / f"{name}.{'jpg' if kind == 'images' else 'png'}")
    options = {"DATASET__ROOT": str(tmp_path), "VALID__MAX_PIXELS": 4_000_000}
    cfg = settings(**options)
    with pytest.raises(UserError, match=r"b\.jpg has 2400×2000 pixels: .*evaluate in windows"):
        open_domain("mapillary", cfg, CITYSCAPES19)
    for allowed in ({"VALID__PROTOCOL": "robustnet"}, {"VALID__SLIDING": "1024,683"}):
        cfg = settings(**options | allowed)
        assert len(open_domain("mapillary", cfg, CITYSCAPES19)) == 3
    (tmp_path / "Mapillary/validation/images/b.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(UserError, match="cannot read .*b.jpg"):
        open_domain("mapillary", settings(**options), CITYSCAPES19)
