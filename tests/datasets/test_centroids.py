import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from trees import camvid_tree, write_grey

import datasets.centroids
from datasets.camvid import CamVid
from datasets.centroids import load_or_compute, tile_centroids
from datasets.label_spaces import IDD_LITE7
from utils.errors import UserError


def slow_centroids(label, tile, num_classes):
    """{(class, x, y)} by scipy, tile after tile."""
    rows = []
    for top in range(0, label.shape[0], tile):
        for left in range(0, label.shape[1], tile):
            part = label[top : top + tile, left : left + tile]
            for train_id in range(num_classes):
                if (part == train_id).any():
                    y, x = center_of_mass(part == train_id)
                    rows.append((train_id, left + x, top + y))
    return sorted(rows)


@pytest.mark.parametrize("shape", [(20, 30), (25, 37), (7, 9), (10, 10)])
def test_centroids_against_scipy(shape):
    label = np.random.default_rng(1).choice([0, 1, 4, 5, 255], shape).astype(np.uint8)
    label[:3, :4] = 3  # a class in one tile only
    found = tile_centroids(label, 10, 5)
    assert found.dtype == np.float32
    assert np.allclose(sorted(map(tuple, found)), slow_centroids(label, 10, 5), atol=1e-5)


def test_label_of_void_has_no_centroids():
    assert tile_centroids(np.full((5, 5), 255, np.uint8), 4, 19).shape == (0, 3)


@pytest.fixture
def camvid(tmp_path):
    numbers = np.random.default_rng(2).integers(0, 12, (5, 12, 20))
    return CamVid(camvid_tree(tmp_path / "camvid", list(numbers)), "train")


@pytest.fixture
def count_computations(monkeypatch):
    calls = []
    compute = datasets.centroids._compute
    monkeypatch.setattr(
        datasets.centroids, "_compute", lambda *args: calls.append(1) or compute(*args)
    )
    return calls


def test_centroids_of_a_dataset_for_any_number_of_workers(camvid, tmp_path):
    for workers in (0, 2):
        classes = load_or_compute(camvid, 8, tmp_path / f"cache{workers}", 19, workers)
        assert len(classes) == 19
        found = sorted(
            (index, train_id, x, y)
            for train_id, centroids in enumerate(classes)
            for index, x, y in zip(*centroids, strict=True)
        )
        expected = sorted(
            (index, *row)
            for index in range(5)
            for row in slow_centroids(camvid[index]["label"].numpy(), 8, 19)
        )
        assert np.allclose(found, expected, atol=1e-5)


def test_cache_is_reused_also_after_a_move(camvid, tmp_path, count_computations):
    first = load_or_compute(camvid, 8, tmp_path / "cache", 19, 0)
    moved = camvid.root.rename(tmp_path / "elsewhere")
    second = load_or_compute(CamVid(moved, "train"), 8, tmp_path / "cache", 19, 0)
    assert len(count_computations) == 1
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_cache_is_computed_anew_when_the_input_changes(camvid, tmp_path, count_computations):
    cache = tmp_path / "cache"
    load_or_compute(camvid, 8, cache, 19, 0)
    load_or_compute(camvid, 9, cache, 19, 0)
    assert len(count_computations) == 2
    load_or_compute(CamVid(camvid.root, "train", label_space=IDD_LITE7), 8, cache, 7, 0)
    assert len(count_computations) == 3
    write_grey(camvid.label_paths[0], np.zeros((12, 20)))
    classes = load_or_compute(CamVid(camvid.root, "train"), 8, cache, 19, 0)
    assert len(count_computations) == 4
    assert 0 not in classes[0].indices and 0 in classes[10].indices


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_label_leaves_no_cache(camvid, tmp_path, workers):
    camvid.label_paths[3].write_bytes(b"no PNG")
    with pytest.raises(UserError, match="cannot read .*f003.png"):
        load_or_compute(camvid, 8, tmp_path / "cache", 19, workers)
    assert not (tmp_path / "cache").exists()
