"""What results say of domains together."""

import pytest

from datasets import is_seen
from network.build import resolve
from utils.evaluate.results import gather, of_one_space


def domain(miou, space="cityscapes19"):
    return {"means": {"mIoU": miou}, "label_space": space}


@pytest.mark.parametrize(
    "name, sources, seen",
    [
        ("gtav", ["gtav"], True),
        ("gtav:test", ["gtav"], True),
        ("acdc_fog", ["acdc"], True),
        ("acdc", ["gtav", "acdc_night"], True),
        ("acdc_fog", ["acdc_night"], False),
        ("cityscapes", ["gtav"], False),
        ("cityscapes", [], False),
    ],
)
def test_a_part_of_a_source_is_not_unseen(name, sources, seen):
    assert is_seen(name, sources) == seen


def test_the_mean_of_unseen_domains_leaves_out_parts_of_sources_and_other_classes():
    cfg = resolve({"DATASET.SOURCE": "acdc", "DATASET.LABEL_SPACE": "cityscapes19"})
    domains = {"acdc_fog": domain(0.9), "bdd100k": domain(0.4), "mapillary": domain(0.2)}
    domains["idd_lite"] = domain(0.8, "idd_lite7")
    results = gather(domains, cfg, 1)
    assert results["unseen"] == ["bdd100k", "mapillary", "idd_lite"]
    assert results["mean_unseen"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "spaces, chosen",
    [
        (["a", "b", "a"], [0, 2]),
        (["b", "b"], [0, 1]),
        (["b", "c"], []),
        ([], []),
    ],
)
def test_domains_of_one_label_space(spaces, chosen):
    domains = {str(i): domain(0.5, space) for i, space in enumerate(spaces)}
    assert of_one_space(domains, "a") == [str(i) for i in chosen]
