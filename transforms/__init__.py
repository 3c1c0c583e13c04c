"""Transforms of image and label together."""

from transforms.normalisation import IMAGENET_MEAN, IMAGENET_STD, denormalise, normalise
from transforms.protocols import EvalTransform
from transforms.recipe import TrainTransform

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "EvalTransform",
    "TrainTransform",
    "denormalise",
    "normalise",
]
