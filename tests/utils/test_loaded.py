"""A trained network from a script: `network.load`."""

import numpy as np
import pytest
import torch
from PIL import Image

from network import load
from network.inference import predict
from transforms import normalise
from utils.errors import UserError


def test_an_image_in_every_form_gives_the_networks_labels(saved, tmp_path):
    _, method, folder = saved("srha")
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    with torch.no_grad():
        expected = predict(method, normalise(image)[None], (37, 50))[0].numpy()
    net = load(folder, "cpu")
    for form in (tmp_path / "street.png", str(tmp_path / "street.png"), pixels, image):
        labels = net.predict(form)
        assert labels.dtype == np.uint8 and np.array_equal(labels, expected)
    assert net.classes[0] == "road" and net.settings.METHOD == "srha"
    assert load(folder / "last.pth", "cpu").predict(pixels, (0.5, 1), flip=True).shape == (37, 50)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 4), np.uint8),
        torch.zeros(4, 5, 3, dtype=torch.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(saved, image):
    net = load(saved("baseline")[2], "cpu")
    with pytest.raises(UserError, match="an image is RGB in uint8"):
        net.predict(image)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint .*nowhere"):
        load(tmp_path / "nowhere")
