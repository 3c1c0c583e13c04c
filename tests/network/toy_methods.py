"""A method that no paper has, which declares all that a method can."""

import torch
from torch import nn

from network.methods import Method
from utils.settings import Setting


class Toy(Method):
    """Cross entropy on a scaled feature, of two sources or more."""

    settings = {"TOY": {"WIDTH": Setting(512, "of nothing but a vector", minimum=1)}}
    small = {"TOY.WIDTH": 4}
    trunks = ("resnet_mini", "resnet18")
    least_sources = 2

    def __init__(self, cfg, num_classes, pretrained=True):
        super().__init__(cfg, num_classes, pretrained)
        self.vector = nn.Parameter(torch.ones(cfg.TOY.WIDTH))

    def training_losses(self, batch):
        images = batch["image"]
        output = self.decoder(self.features(images), images.shape[-2:])
        losses = self.decoder.losses(output, batch["label"])
        return losses | {"vector": self.vector.square().mean()}
