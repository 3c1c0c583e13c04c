"""What the runtime chooses for a run, and for predictions within it."""

import pytest
import torch

from network.build import build_method
from utils.engine.runtime import open_runtime
from utils.errors import UserError
from utils.evaluate.evaluation import predict_batch


@pytest.fixture(autouse=True)
def as_it_was():
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.benchmark = before[0]
    torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_how_float32_matrices_are_multiplied(settings, precision):
    with open_runtime(settings(MATMUL_PRECISION=precision, DEVICE="cpu")):
        assert torch.get_float32_matmul_precision() == precision
    with pytest.raises(UserError, match="MATMUL_PRECISION"):
        settings(MATMUL_PRECISION="medium")


def test_algorithms_are_tried_out_for_crops_and_not_for_images_of_many_sizes(settings):
    cfg = settings(METHOD="baseline", DEVICE="cpu", DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    tried = []
    method.trunk.register_forward_pre_hook(lambda *_: tried.append(torch.backends.cudnn.benchmark))
    with open_runtime(cfg) as runtime:
        assert torch.backends.cudnn.benchmark
        image = torch.zeros(1, 3, 40, 56)
        predict_batch(method.eval(), image, (40, 56), cfg, runtime)
        assert tried == [False] and torch.backends.cudnn.benchmark
