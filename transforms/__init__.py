"""Transforms of image and label together."""

from transforms.normalisation import denormalise, normalise
from transforms.protocols import EvalTransform
from transforms.recipe import Colours, PhotographTransform, TrainTransform, WildTransform

__all__ = [
    "Colours",
    "EvalTransform",
    "PhotographTransform",
    "TrainTransform",
    "WildTransform",
    "denormalise",
    "normalise",
]
