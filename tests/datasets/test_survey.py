"""What a source's labels are told to hold before the first step, and what is refused there."""

import numpy as np
import pytest
from PIL import Image
from trees import camvid_tree, save_turned, write_grey

from datasets.camvid import CamVid
from datasets.sampling.survey import refuse_unusable, remarks, survey_split
from utils.errors import UserError

LABEL = np.repeat(np.arange(12), 4).reshape(4, 12)  # every class of CamVid, and void


@pytest.fixture
def found(tmp_path):
    """Return `found()` → CamVid's training split at `tmp_path`, and its survey."""

    def survey():
        dataset = CamVid(tmp_path, "train")
        return dataset, survey_split(dataset, 8, tmp_path / "cache", 0)

    camvid_tree(tmp_path, [LABEL, LABEL])
    return survey


def test_pixels_of_classes(found):
    dataset, survey = found()
    pixels = survey.class_pixels(dataset)
    expected = [int((dataset[1]["label"] == train_id).sum()) for train_id in range(19)]
    assert pixels.tolist() == [expected] * 2 and sum(expected) == 44
    assert survey.sizes.tolist() == [[4, 12, 4, 12, 1]] * 2


def test_a_sound_split_needs_no_remark_but_for_classes_it_has_not(found):
    (line,) = remarks(*found())
    assert line == (
        "CamVid train: no pixel is wall or traffic light or terrain or rider or truck or bus or "
        "train or motorcycle"
    )


def test_numbers_that_the_dataset_does_not_have_are_named(found, tmp_path):
    write_grey(tmp_path / "trainannot/f001.png", np.where(LABEL == 3, 77, LABEL))
    dataset, survey = found()
    assert remarks(dataset, survey)[0] == (
        "CamVid train: 1 label files hold what CamVid does not have (77; first "
        f"{tmp_path}/trainannot/f001.png, 4 pixels); it counts as void"
    )
    refuse_unusable(dataset, survey)


def test_a_split_without_a_labelled_pixel_is_refused(found, tmp_path):
    for name in ("f000", "f001"):
        write_grey(tmp_path / f"trainannot/{name}.png", np.full((4, 12), 11))
    with pytest.raises(UserError, match="no label of CamVid train .* there is 11 alone"):
        refuse_unusable(*found())


def test_sizes_that_differ_are_refused(found, tmp_path):
    write_grey(tmp_path / "trainannot/f001.png", LABEL[:3])
    with pytest.raises(UserError, match="1 of 2 labels of CamVid train .*f001.jpg is 12×4, .*12×3"):
        refuse_unusable(*found())


@pytest.mark.parametrize("orientation", [3, 6])
def test_photographs_to_be_turned_are_named(found, tmp_path, orientation):
    photograph = tmp_path / "train/f001.jpg"
    with Image.open(photograph) as file:
        save_turned(file, photograph, orientation)
    dataset, survey = found()
    line = remarks(dataset, survey)[1]
    assert f"1 photographs are to be turned, say their EXIF data (first {photograph})" in line
    refuse_unusable(dataset, survey)  # the label is of the pixels as stored
    write_grey(tmp_path / "trainannot/f001.png", LABEL.T)
    dataset, survey = found()
    message = rf"is 12×4, .* is 4×12 pixels; .*\(orientation {orientation}\)"
    for look in (lambda: refuse_unusable(dataset, survey), lambda: dataset[1]):
        with pytest.raises(UserError, match=message):
            look()
