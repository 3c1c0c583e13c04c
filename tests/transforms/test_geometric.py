import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode

from transforms.geometric import (
    RandomGeometry,
    Span,
    fitted_size,
    resize_image,
    resize_label,
    short_edge_size,
    show_image,
    show_label,
)
from utils.errors import UserError


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


def scaled(factor, size, flip=0.0):
    return RandomGeometry((factor, factor), size, flip)


def linear_without_antialiasing(image, size):
    """Resize [3, H, W] as OpenCV's documentation says, in float64, one side after the other."""
    pixels = image.double().numpy()
    for axis, new in enumerate(size, start=1):
        old = pixels.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape(-1, *[1] * (2 - axis))
        high = np.minimum(low + 1, old - 1)
        pixels = pixels.take(low, axis) * (1 - weight) + pixels.take(high, axis) * weight
    return torch.from_numpy(pixels)


def whole_then_crop(image, label, place):
    """Do what the published code does: resize all of it, pad it, cut the crop out."""
    rows, columns = place.rows, place.columns
    if place.exact:
        image = linear_without_antialiasing(image, (rows.new, columns.new))
    else:
        image = F.resize(image, [rows.new, columns.new], InterpolationMode.BICUBIC, antialias=True)
    nearest = [
        [int(Fraction(2 * i + 1, 2) * side.old / side.new) for i in range(side.new)]
        for side in (rows, columns)
    ]
    label = label[nearest[0]][:, nearest[1]]
    down, across = max(0, rows.size - rows.new), max(0, columns.size - columns.new)
    padding = [across // 2, down // 2, across - across // 2, down - down // 2]
    image, label = F.pad(image, padding, fill=0), F.pad(label[None], padding, fill=255)[0]
    top, left = rows.start + down // 2, columns.start + across // 2
    window = slice(top, top + rows.size), slice(left, left + columns.size)
    return image[:, window[0], window[1]], label[window]


# Height and width of images, landscape and portrait, and the height of a crop.
SHAPES = [(210, 380, 150), (300, 170, 128), (97, 131, 160), (64, 500, 90)]


def smooth_image(height, width):
    """Return a random image whose detail is some three pixels wide, as a photograph's."""
    noise = torch.rand(3, height // 3 + 1, width // 3 + 1)
    return (F.resize(noise, [height, width], antialias=True) * 255).to(torch.uint8)


def placements(seed):
    """Yield sizes (height, width) and what crops with and without a centroid show."""
    torch.manual_seed(seed)
    height, width, size = SHAPES[seed % 4]
    geometry = RandomGeometry((0.5, 2.0), (size, size + 20), 0.0)
    for centroid in (None, (width - 3.0, 5.0)):
        yield (height, width), geometry.draw((height, width), centroid)


@pytest.mark.parametrize("seed", range(12))
def test_label_is_within_one_source_pixel_of_resizing_the_whole(seed):
    for (height, width), place in placements(seed):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        image = smooth_image(height, width)
        for coordinate in (x, y):
            expected = whole_then_crop(image, coordinate, place)[1]
            shown = show_label(coordinate, place)
            assert shown.shape == expected.shape and shown.dtype == coordinate.dtype
            assert (shown - expected).abs().max() <= 1
            assert torch.equal(shown == 255, expected == 255) or max(height, width) > 255


@pytest.mark.parametrize("seed", range(12))
def test_image_is_half_a_source_pixel_from_resizing_the_whole_at_most(seed):
    for (height, width), place in placements(seed):
        image = smooth_image(height, width)
        label = torch.zeros(height, width, dtype=torch.uint8)
        expected, _ = whole_then_crop(image, label, place)
        shown = show_image(image, place)
        assert shown.dtype == torch.uint8 and shown.shape == expected.shape
        difference = (shown.int() - expected.int()).abs().float().mean().item()
        # Half a source pixel in both directions, of what neighbours differ by.
        neighbours = sum(image.float().diff(dim=axis).abs().mean().item() for axis in (1, 2))
        assert difference <= 0.5 * neighbours


def test_crop_at_scale_one_is_cut_out():
    torch.manual_seed(0)
    image, label = smooth_image(90, 120), torch.randint(0, 19, (90, 120), dtype=torch.uint8)
    for size in ((40, 50), (90, 120), (100, 50), (130, 130)):
        place = scaled(1.0, size).draw((90, 120), None)
        expected, expected_label = whole_then_crop(image, label, place)
        shown, shown_label = show_image(image, place), show_label(label, place)
        assert torch.equal(shown, expected) and torch.equal(shown_label, expected_label)


@pytest.mark.parametrize("old, new", [(1, 1), (1, 2), (3, 7), (7, 3), (100, 50), (100, 199)])
def test_window_is_at_least_one_pixel_and_half_a_pixel_off_at_most(old, new):
    for size in range(1, new + 1):
        for start in range(new - size + 1):
            span = Span(old, new, size, start)
            (first, last), (low, high) = span.window, (end * old / new for end in span.shown)
            assert 0 <= first < last <= old
            assert (abs(first - low) <= 0.5 and abs(last - high) <= 0.5) or last - first == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(40, 56), (200, 150)])
def test_label_stays_on_its_pixels(seed, size):
    torch.manual_seed(seed)
    label = stripes(96, 120)
    image, label = RandomGeometry((0.5, 2.0), size, 0.5)(picture_of(label), label)
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
    label = torch.arange(9, dtype=torch.uint8)[None]
    assert resize_label(label, (1, 3)).tolist() == [[1, 4, 7]]


@pytest.mark.parametrize("old", [1, 5, 768, 1000, 4453, 5041])
def test_label_takes_the_pixel_that_holds_its_centre(old):
    label = torch.arange(old)[None]
    for new in (1, 2, 720, 1536):
        expected = [int(Fraction(2 * i + 1, 2) * old / new) for i in range(new)]
        assert resize_label(label, (1, new))[0].tolist() == expected


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.7])
def test_image_is_scaled_as_by_pil(factor):
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    size = round(60 * factor), round(40 * factor)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    expected = np.array(picture.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(resize_image(image, size[::-1]).numpy().astype(int) - expected).max() <= 1


def test_scale_is_uniform_in_its_range():
    torch.manual_seed(0)
    geometry = RandomGeometry((0.5, 2.0), (10, 10), 0.5)
    places = [geometry.draw((100, 200), None) for _ in range(400)]
    factors = torch.tensor([place.rows.new / 100 for place in places])
    assert 0.5 <= factors.min() < 0.55 and 1.95 < factors.max() <= 2.0
    assert abs(factors.mean() - 1.25) < 0.07
    assert ((factors < 1).float().mean() - 1 / 3).abs() < 0.07
    assert all(abs(place.columns.new - 2 * place.rows.new) <= 1 for place in places)


def test_padding_is_symmetric_black_and_void():
    label = torch.ones(4, 5, dtype=torch.uint8)
    image = torch.full((3, 4, 5), 9, dtype=torch.uint8)
    image, label = scaled(1.0, (8, 10))(image, label, (0.0, 3.0))
    assert label.shape == (8, 10) and image.shape == (3, 8, 10)
    assert (label[2:6, 2:7] == 1).all() and (label == 255).sum() == 80 - 20
    assert (image[:, 2:6, 2:7] == 9).all() and (image != 0).sum() == 3 * 20


def test_only_short_sides_are_padded():
    torch.manual_seed(0)
    label = torch.ones(4, 50, dtype=torch.uint8)
    _, label = scaled(1.0, (8, 10))(picture_of(label), label)
    assert (label[2:6] == 1).all() and (label[[0, 1, 6, 7]] == 255).all()


def test_crop_contains_the_centroid_wherever_it_is():
    torch.manual_seed(0)
    size = (12, 16)
    geometry = RandomGeometry((0.5, 2.0), size, 0.0)
    for height, width in ((30, 40), (9, 40), (30, 7), (8, 8)):
        for x, y in ((0, 0), (width - 1, height - 1), (width / 3, height / 2), (0, height - 1)):
            for _ in range(20):
                place = geometry.draw((height, width), (float(x), float(y)))
                for side, point in ((place.columns, x), (place.rows, y)):
                    pixel = math.floor((point + 0.5) * side.new / side.old)
                    assert side.shown[0] <= pixel < side.shown[1]
                    assert 0 <= pixel - side.start < side.size


@pytest.mark.parametrize("factor", [0.5, 0.77, 1.0, 1.9])
def test_pixels_of_the_centroid_are_in_the_crop(factor):
    torch.manual_seed(0)
    label = stripes(96, 96, side=32)
    for _ in range(10):
        _, crop = scaled(factor, (24, 20), flip=0.5)(picture_of(label), label, centre(label, 5))
        assert (crop == 5).any()


def positions(size, centroid, shape, count=400):
    """Return the set of (left, top) of random crops, read off an image of coordinates."""
    height, width = shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, x]).to(torch.uint8)
    geometry = scaled(1.0, size)
    crops = [geometry(image, image[0], centroid)[0][:2, 0, 0] for _ in range(count)]
    return {tuple(crop.tolist()) for crop in crops}


def test_crop_positions():
    torch.manual_seed(0)
    assert positions((3, 4), None, (5, 6)) == {(x, y) for x in range(3) for y in range(3)}
    around = positions((3, 4), (5.0, 2.0), (9, 9))
    assert around == {(x, y) for x in (2, 3, 4, 5) for y in (0, 1, 2)}
    assert positions((5, 6), (1.0, 2.0), (5, 6)) == {(0, 0)}


def test_flip_mirrors_image_and_label():
    label = stripes(20, 24)
    image, flipped = scaled(1.0, (20, 24), flip=1.0)(picture_of(label), label)
    assert torch.equal(image, picture_of(flipped))
    assert torch.equal(flipped, label[:, torch.arange(23, -1, -1)])
    assert torch.equal(scaled(1.0, (20, 24))(picture_of(label), label)[1], label)


def test_flip_happens_as_often_as_asked():
    torch.manual_seed(0)
    geometry = scaled(1.0, (1, 2), flip=0.25)
    assert 150 < sum(geometry.draw((1, 2), None).flip for _ in range(800)) < 250


@pytest.mark.parametrize(
    "box, image, expected",
    [
        ((1280, 720), (1052, 1914), (704, 1280)),
        ((1280, 720), (1914, 1052), (1280, 704)),
        ((2560, 1440), (1052, 1914), (1407, 2560)),
        ((2560, 1520), (760, 1280), (1520, 2560)),
        ((1024, 512), (1052, 1914), (512, 932)),
        ((1280, 640), (1052, 1914), (640, 1164)),
        ((2048, 1024), (1052, 1914), (1024, 1863)),
        ((1024, 512), (760, 1280), (512, 862)),
        ((1280, 640), (760, 1280), (640, 1078)),
        ((2048, 1024), (760, 1280), (1024, 1725)),
        ((10, 10), (1, 1000), (1, 10)),
    ],
)
def test_a_box_keeps_the_aspect_of_an_image(box, image, expected):
    """The sizes of the published configurations."""
    assert fitted_size(image, box) == expected
    place = RandomGeometry((1, 1), (8, 8), 0, box).draw(image)
    assert (place.rows.new, place.columns.new) == expected
    halved = RandomGeometry((0.5, 0.5), (8, 8), 0, box).draw(image)
    assert halved.rows.new == max(1, round(expected[0] * 0.5))


@pytest.mark.parametrize("seed", range(8))
def test_a_box_shows_what_resizing_the_whole_image_does(seed):
    """Pixel by pixel, up to rounding; labels exactly."""
    torch.manual_seed(seed)
    height, width, size = SHAPES[seed % 4]
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    label = torch.randint(0, 19, (height, width), dtype=torch.uint8)
    geometry = RandomGeometry((0.7, 1.5), (size, size + 20), 0.0, [(160, 90), (500, 400)][seed % 2])
    for aim in (None, (width - 3.0, 5.0)):
        place = geometry.draw((height, width), aim)
        expected, expected_label = whole_then_crop(image, label, place)
        shown = show_image(image, place)
        assert shown.dtype == torch.uint8 and (shown - expected).abs().max() < 0.51
        assert torch.equal(show_label(label, place), expected_label)


def test_pixels_of_the_centroid_are_in_the_crop_of_a_box():
    torch.manual_seed(0)
    label = stripes(96, 96, side=32)
    geometry = RandomGeometry((0.8, 1.2), (24, 20), 0.5, (60, 120))
    for _ in range(10):
        assert (geometry(picture_of(label), label, centre(label, 5))[1] == 5).any()


REIN = [int(512 * 0.1 * step) for step in range(5, 21)]  # 256, 307, 358 … 1024


def by_edge(edges, size, flip=0.0, share=1.0):
    return RandomGeometry((0.5, 2.0), size, flip, max_class_share=share, short_edges=edges)


@pytest.mark.parametrize(
    "image, edge, expected",
    [
        ((1052, 1914), 256, (256, 466)),
        ((1052, 1914), 1024, (1024, 1863)),
        ((1914, 1052), 307, (559, 307)),
        ((1024, 2048), 614, (614, 1228)),
        ((1, 3), 2, (2, 6)),
    ],
)
def test_a_short_edge_keeps_the_aspect_of_an_image(image, edge, expected):
    assert short_edge_size(image, edge) == expected
    place = by_edge([edge], (8, 8)).draw(image)
    assert (place.rows.new, place.columns.new) == expected and place.exact


def test_short_edges_are_equally_likely():
    geometry = by_edge(REIN, (512, 512))
    drawn = [geometry.draw((1052, 1914)).rows.new for _ in range(1600)]
    assert sorted(set(drawn)) == REIN and (REIN[1], REIN[-2]) == (307, 972)
    assert all(60 < drawn.count(edge) < 145 for edge in REIN)


@pytest.mark.parametrize("seed", range(4))
def test_a_short_edge_shows_what_resizing_the_whole_image_does(seed):
    """Pixel by pixel, up to rounding; labels exactly; smaller images in the middle of void."""
    torch.manual_seed(seed)
    height, width, size = SHAPES[seed % 4]
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    label = torch.randint(0, 19, (height, width), dtype=torch.uint8)
    geometry = by_edge([25, 60, 130], (size, size + 20), share=0.75)
    for aim in (None, (width - 3.0, 5.0)):
        place = geometry.draw((height, width), aim, label)
        expected, expected_label = whole_then_crop(image, label, place)
        assert (show_image(image, place) - expected).abs().max() < 0.51
        assert torch.equal(show_label(label, place), expected_label)


def test_pixels_of_the_centroid_are_in_the_crop_of_a_short_edge():
    label = stripes(96, 96, side=32)
    geometry = by_edge([20, 70, 150], (24, 20), flip=0.5)
    for _ in range(10):
        assert (geometry(picture_of(label), label, centre(label, 5))[1] == 5).any()


@pytest.mark.parametrize("edges, box, message", [
    ([256, 0], (0, 0), r"TRANSFORM.SHORT_EDGES has sides of a pixel or more, .* not \[256, 0\]"),
    ([256], (8, 8), "TRANSFORM.SHORT_EDGES takes the place of BOX; set one of them to 0"),
])  # fmt: skip
def test_short_edges_that_are_none(edges, box, message):
    with pytest.raises(UserError, match=message):
        RandomGeometry((1, 1), (8, 8), 0, box, short_edges=edges)


def test_half_a_box_is_an_error():
    with pytest.raises(UserError, match="TARGET.BOX has two sides"):
        RandomGeometry((1, 1), (8, 8), 0, (0, 512), section="TARGET")


def draws_before(geometry, size, centroid):
    """Draw as the code did that knew neither boxes nor classes: scale, columns, rows, flip."""
    factor = torch.empty(1).uniform_(*geometry.scale).item()
    sides = []
    for axis, point in ((1, centroid and centroid[0]), (0, centroid and centroid[1])):
        old, crop = size[axis], geometry.crop_size[axis]
        new = max(1, round(old * factor))
        before = max(0, crop - new) // 2
        first, last = 0, max(0, new - crop)
        if point is not None:
            pixel = math.floor((point + 0.5) * new / old) + before
            first, last = max(first, pixel - crop + 1), min(last, pixel)
        sides.append((old, new, crop, int(torch.randint(first, last + 1, (1,))) - before))
    return sides[1], sides[0], torch.empty(1).uniform_(0, 1).item() < geometry.flip


@pytest.mark.parametrize("centroid", [None, (70.0, 5.0)])
def test_recipes_without_classes_draw_as_before(centroid):
    """And leave the generator in the same state."""
    geometry = RandomGeometry((0.5, 2.0), (40, 60), 0.5)
    label = torch.zeros(90, 120, dtype=torch.uint8)
    for seed in range(20):
        torch.manual_seed(seed)
        expected = (*draws_before(geometry, (90, 120), centroid), torch.rand(1))
        torch.manual_seed(seed)
        rows, columns, flip, exact = geometry.draw(label.shape, centroid, label)
        assert (tuple(rows), tuple(columns), flip, torch.rand(1)) == expected and not exact


def share_of_largest(label):
    """Share of the most frequent class of the pixels that are not void; 1 for a single class."""
    counts = label[label != 255].unique(return_counts=True)[1]
    return counts.max().item() / counts.sum().item() if len(counts) > 1 else 1.0


@pytest.mark.parametrize("scale, box", [(0.5, (0, 0)), (1.0, (140, 100))])
def test_no_class_fills_a_crop(scale, box):
    """The left 60 of 200 columns are a second class: 15 of 71 places have enough of both."""
    label = torch.zeros(200, 200, dtype=torch.uint8)
    label[:, :60], label[:40] = 3, 255
    shares = {}
    for limit in (1.0, 0.75):
        torch.manual_seed(0)
        geometry = RandomGeometry((scale, scale), (30, 30), 0.5, box, limit)
        places = [geometry.draw(label.shape, None, label) for _ in range(200)]
        varied = [share_of_largest(show_label(label, place)) < 0.75 for place in places]
        shares[limit] = sum(varied) / len(varied)
    assert shares[1.0] == pytest.approx(15 / 71, abs=0.08)
    assert shares[0.75] == pytest.approx(1 - (1 - 15 / 71) ** 11, abs=0.06)


def test_the_tenth_redraw_of_a_position_is_taken_as_it_is():
    """Scale and flip are drawn once, columns and rows eleven times."""
    label = torch.zeros(50, 70, dtype=torch.uint8)
    torch.manual_seed(3)
    place = RandomGeometry((0.5, 2.0), (20, 30), 0.5, (0, 0), 0.75).draw(label.shape, None, label)
    torch.manual_seed(3)
    factor = torch.empty(1).uniform_(0.5, 2.0).item()
    height, width = round(50 * factor), round(70 * factor)
    for _ in range(11):
        column = torch.randint(0, max(0, width - 30) + 1, (1,))
        row = torch.randint(0, max(0, height - 20) + 1, (1,))
    before = max(0, 30 - width) // 2, max(0, 20 - height) // 2
    assert (place.columns.start, place.rows.start) == (column - before[0], row - before[1])
    assert place.flip == (torch.empty(1).uniform_(0, 1).item() < 0.5)


def test_a_class_as_aim_is_in_the_crop():
    """Scale and position are drawn again until more pixels than asked for are of the class."""
    label = torch.zeros(200, 300, dtype=torch.uint8)
    label[60:100, 100:150] = 12
    counts = {}
    for aim in (None, 12):
        torch.manual_seed(1)
        geometry = RandomGeometry((0.5, 2.0), (64, 64), 0.5, class_pixels=400)
        places = [geometry.draw(label.shape, aim, label) for _ in range(200)]
        counts[aim] = [(show_label(label, place) == 12).sum().item() for place in places]
    hit = {aim: sum(count > 400 for count in counts[aim]) / 200 for aim in counts}
    assert 0.05 < hit[None] < 0.6
    assert hit[12] == pytest.approx(1 - (1 - hit[None]) ** 11, abs=0.1)
    # A class that is not there costs ten redraws and no more.
    torch.manual_seed(2)
    geometry.draw(label.shape, 7, label)
    state = torch.rand(1)
    torch.manual_seed(2)
    for _ in range(11):
        geometry.draw(label.shape, None, label)
    assert torch.rand(1) == state
