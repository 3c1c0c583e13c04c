"""What the miniature benchmark draws is what the real readers read, in every domain and split."""

import functools

import numpy as np
import pytest
import torch

from datasets import DATASETS, build_dataset, miniature
from datasets.miniature import DOMAINS, draw, write
from datasets.miniature.layouts import Place, place
from datasets.miniature.write import write_domains

COUNTS = {"train": 6, "val": 4}
NAMES = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary", "idd", "acdc"]


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Draw each scene once for all layouts; test_miniature.py shows that it is always the same."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = functools.cache(miniature.draw_both)
        for module in (miniature, write):
            patch.setattr(module, "draw_both", drawn)
        yield


@pytest.fixture(scope="module", params=["default", "official", "published"])
def written(request, tmp_path_factory):
    """All domains in one of the layouts: (root, layout)."""
    root = tmp_path_factory.mktemp(request.param)
    write_domains(root, list(DOMAINS), workers=1, **COUNTS, progress=False, layout=request.param)
    return root, request.param


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_read_back_as_drawn(settings, written, name, split):
    root, layout = written
    cfg = settings(DATASET__ROOT=str(root))
    if (name, layout) == ("synthia", "official"):
        # The reader parts the flat tree by its own rule, not as the samples were drawn.
        datasets = [build_dataset(name, part, cfg) for part in ("train", "val")]
        assert [len(dataset) for dataset in datasets] == [7, 3]
    else:
        datasets = [build_dataset(name, split, cfg)]
        assert len(datasets[0]) == COUNTS[split]
    domain = DATASETS[name].folder
    for index in range(COUNTS[split]):
        where = Place(split, index, tuple(COUNTS.values()), layout)
        path = place(domain, root / domain, where)[0]
        dataset = next(dataset for dataset in datasets if path in dataset.image_paths)
        sample = dataset[dataset.image_paths.index(path)]
        image, label = draw(domain, split, index, seed=0)
        assert torch.equal(sample["label"], torch.from_numpy(label))
        read = sample["image"].permute(1, 2, 0).numpy().astype(int)
        # PNG is exact; the JPEGs of BDD100K and Mapillary change a pixel by a few grey levels.
        assert np.abs(read - image).mean() < (6 if path.suffix == ".jpg" else 1e-9)


def test_each_condition_of_acdc_is_read_alone(settings, written):
    cfg = settings(DATASET__ROOT=str(written[0]))
    alone = [build_dataset(f"acdc_{name}", "val", cfg) for name in ("fog", "night", "rain", "snow")]
    assert [len(dataset) for dataset in alone] == [1, 1, 1, 1]
    together = build_dataset("acdc", "val", cfg)
    assert sorted(path for dataset in alone for path in dataset.image_paths) == together.image_paths
