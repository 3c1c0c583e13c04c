import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from trees import camvid_tree, write_grey, write_image, write_palette

import datasets.sampling.survey
from datasets.camvid import CamVid
from datasets.idd_lite import IDD_LITE7
from datasets.mapillary import Mapillary
from datasets.sampling.centroids import tile_centroids
from datasets.sampling.survey import survey_split
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
    compute = datasets.sampling.survey._compute
    monkeypatch.setattr(
        datasets.sampling.survey, "_compute", lambda *args: calls.append(1) or compute(*args)
    )
    return calls


def test_centroids_of_a_dataset_for_any_number_of_workers(camvid, tmp_path):
    for workers in (0, 2):
        classes = survey_split(camvid, 8, tmp_path / f"cache{workers}", workers).centroids(19)
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
    first = survey_split(camvid, 8, tmp_path / "cache", 0)
    moved = camvid.root.rename(tmp_path / "elsewhere")
    second = survey_split(CamVid(moved, "train"), 8, tmp_path / "cache", 0)
    assert len(count_computations) == 1
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1


def test_cache_is_computed_anew_when_the_input_changes(camvid, tmp_path, count_computations):
    cache = tmp_path / "cache"
    survey_split(camvid, 8, cache, 0)
    survey_split(camvid, 9, cache, 0)
    assert len(count_computations) == 2
    survey_split(CamVid(camvid.root, "train", label_space=IDD_LITE7), 8, cache, 0)
    assert len(count_computations) == 3
    write_grey(camvid.label_paths[0], np.zeros((12, 20)))
    classes = survey_split(CamVid(camvid.root, "train"), 8, cache, 0).centroids(19)
    assert len(count_computations) == 4
    assert 0 not in classes[0].indices and 0 in classes[10].indices


def test_label_that_vanished_is_named(camvid, tmp_path):
    camvid.label_paths[2].unlink()
    with pytest.raises(UserError, match="cannot read .*f002.png: No such file"):
        survey_split(camvid, 8, tmp_path / "cache", 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_label_leaves_no_cache(camvid, tmp_path, workers):
    camvid.label_paths[3].write_bytes(b"no PNG")
    with pytest.raises(UserError, match="cannot read .*f003.png"):
        survey_split(camvid, 8, tmp_path / "cache", workers)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_cache_of_another_label_map_or_list(tmp_path, count_computations):
    for name, number in (("a", 14), ("b", 13), ("c", 48)):
        write_image(tmp_path / "training/images" / f"{name}.jpg", 8, 8)
        write_palette(tmp_path / "training/labels" / f"{name}.png", np.full((8, 8), number))
    found = {}
    for label_map in ("robustnet", "openseg", "robustnet"):
        dataset = Mapillary(tmp_path, "train", label_map=label_map)
        classes = survey_split(dataset, 8, tmp_path / "cache", 0).centroids(19)
        found[label_map] = classes[0].indices.tolist()
    # 14 is a kind of road in one of the two.
    assert found == {"robustnet": [1], "openseg": [0, 1]} and len(count_computations) == 2
    (tmp_path / "training/images/a.jpg").unlink()
    classes = survey_split(Mapillary(tmp_path, "train"), 8, tmp_path / "cache", 0).centroids(19)
    assert classes[0].indices.tolist() == [0] and len(count_computations) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"something else" * 99])
def test_damaged_cache_is_computed_again(camvid, tmp_path, count_computations, content):
    first = survey_split(camvid, 8, tmp_path / "cache", 0)
    (cache,) = (tmp_path / "cache").glob("*.npz")
    for damage in (content, cache.read_bytes()[: cache.stat().st_size // 2]):
        cache.write_bytes(damage)
        again = survey_split(camvid, 8, tmp_path / "cache", 0)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(count_computations) == 3
    survey_split(camvid, 8, tmp_path / "cache", 0)
    assert len(count_computations) == 3


def test_cache_that_cannot_be_written(camvid, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write class centroids to .*DATASET.CACHE_DIR"):
        survey_split(camvid, 8, tmp_path / "file" / "cache", 0)


# Starts when told to, announces that it computes, and takes a second over it.
PROCESS = """
import os, sys, time
from pathlib import Path
import datasets.sampling.survey as survey
from datasets.camvid import CamVid
compute = survey._compute
def slow(*args):
    open(sys.argv[3], "a").write("computed\\n")
    time.sleep(1)
    return compute(*args)
survey._compute = slow
Path(f"{sys.argv[3]}.ready.{os.getpid()}").touch()
while not Path(f"{sys.argv[3]}.go").exists():
    time.sleep(0.01)
classes = survey.survey_split(CamVid(sys.argv[1], "train"), 8, sys.argv[2], 0).centroids(19)
print(sum(float(c.x.sum()) for c in classes))
"""


def start_process(camvid, tmp_path):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, camvid.root, tmp_path / "cache", tmp_path / "log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_of_two_processes_one_computes_and_both_read_the_whole(camvid, tmp_path):
    processes = [start_process(camvid, tmp_path) for _ in range(2)]
    while len(list(tmp_path.glob("log.ready.*"))) < 2 and processes[0].poll() is None:
        time.sleep(0.01)
    (tmp_path / "log.go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert (tmp_path / "log").read_text() == "computed\n"
    assert "waiting for the class centroids of CamVid" in outputs[0][1] + outputs[1][1]
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".npz"]


def test_process_that_died_does_not_hold_up_others(camvid, tmp_path):
    (tmp_path / "log.go").touch()
    process = start_process(camvid, tmp_path)
    while not (tmp_path / "log").exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert len(survey_split(camvid, 8, tmp_path / "cache", 0).sizes) == 5
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".npz"]
