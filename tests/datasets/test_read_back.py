"""What the miniature benchmark draws is what the real readers read, in every domain and split."""

import numpy as np
import pytest
import torch

from datasets import DATASETS, build_dataset
from datasets.miniature import draw
from datasets.miniature.write import sample_paths

COUNTS = {"train": 6, "val": 3}
NAMES = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_read_back_as_drawn(settings, miniature, name, split):
    dataset = build_dataset(name, split, settings(DATASET__ROOT=str(miniature)))
    assert len(dataset) == COUNTS[split]
    domain = DATASETS[name].folder
    for index in range(COUNTS[split]):
        path, _ = sample_paths(domain, miniature / domain, split, index, tuple(COUNTS.values()))
        sample = dataset[dataset.image_paths.index(path)]
        image, label = draw(domain, split, index, seed=0)
        assert torch.equal(sample["label"], torch.from_numpy(label).long())
        read = sample["image"].permute(1, 2, 0).numpy().astype(int)
        # PNG is exact; the JPEGs of BDD100K and Mapillary change a pixel by a few grey levels.
        assert np.abs(read - image).mean() < (6 if path.suffix == ".jpg" else 1e-9)
