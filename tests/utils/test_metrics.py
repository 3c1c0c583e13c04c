"""The confusion matrix and its measures agree exactly with torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures


def random_maps(seed, classes, absent):
    """Labels with void and predictions; classes in `absent` occur in neither."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.tensor([c for c in range(classes) if c not in absent])
    labels = kept[torch.randint(0, len(kept), (4, 20, 30), generator=generator)]
    predictions = kept[torch.randint(0, len(kept), (4, 20, 30), generator=generator)]
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return predictions, labels


@pytest.mark.parametrize("seed, absent", [(0, ()), (1, (3,)), (2, (0, 7, 18))])
def test_measures_agree_with_torchmetrics(seed, absent):
    predictions, labels = random_maps(seed, 19, absent)
    confusion = ConfusionMatrix(19, torch.device("cpu"))
    for prediction, label in zip(predictions, labels, strict=True):
        confusion.update(prediction, label)
    options = {"num_classes": 19, "ignore_index": 255}
    expected = MulticlassConfusionMatrix(**options)(predictions, labels)
    assert torch.equal(confusion.counts[:, :-1], expected) and not confusion.counts[:, -1].any()
    ours = measures(confusion.counts.numpy())
    present = np.array([c not in absent for c in range(19)])
    assert np.array_equal(np.isnan(ours["iou"]), ~present)
    for name, metric in {
        "iou": MulticlassJaccardIndex,
        "precision": MulticlassPrecision,
        "recall": MulticlassRecall,
    }.items():
        theirs = metric(average="none", **options)(predictions, labels).numpy()
        np.testing.assert_allclose(ours[name][present], theirs[present], rtol=1e-6)
    theirs = MulticlassJaccardIndex(average="macro", **options)(predictions, labels)
    assert mean_iou(ours["iou"]) == pytest.approx(float(theirs), rel=1e-6)
    weighted = MulticlassJaccardIndex(average="weighted", **options)(predictions, labels)
    assert ours["fw_iou"] == pytest.approx(float(weighted), rel=1e-6)
    valid = labels != 255
    accuracy = (predictions == labels)[valid].double().mean()
    assert ours["pixel_accuracy"] == pytest.approx(float(accuracy))


def test_a_class_only_predicted_scores_zero_and_is_not_absent():
    counts = np.array([[5, 0, 2], [0, 0, 0], [0, 0, 4]])
    assert np.isnan(measures(counts)["iou"][1])
    counts[0, 1] = 1
    assert measures(counts)["iou"][1] == 0
    assert np.isnan(measures(counts)["recall"][1])


def test_means_over_chosen_classes_leave_absent_ones_out():
    iou = np.array([0.5, np.nan, 1.0, 0.0])
    assert mean_iou(iou) == pytest.approx(0.5)
    assert mean_iou(iou, (0, 1, 2)) == pytest.approx(0.75)
    assert np.isnan(mean_iou(iou, (1,)))


def test_a_prediction_that_a_table_maps_to_void_is_wrong_and_of_no_class():
    table = torch.full((256,), 255, dtype=torch.uint8)
    table[:2] = torch.tensor([0, 1], dtype=torch.uint8)
    confusion = ConfusionMatrix(2, torch.device("cpu"), table)
    confusion.update(torch.tensor([0, 1, 2, 2, 2]), torch.tensor([0, 1, 0, 1, 255]))
    assert confusion.counts.tolist() == [[1, 0, 1], [0, 1, 1]]
    ours = measures(confusion.counts.numpy())
    assert ours["iou"].tolist() == ours["recall"].tolist() == [0.5, 0.5]
    assert ours["precision"].tolist() == [1, 1] and ours["pixel_accuracy"] == 0.5
