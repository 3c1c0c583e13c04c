"""Trunks that no paper has: one patch projection, then layers of the same stride."""

from torch import nn

from network.trunks.trunk import Trunk

WIDTH = 8


class PatchTrunk(Trunk):
    """A vision transformer's shape: all layers have the stride of the patch, no batch norm."""

    def __init__(self, patch, recompute):
        layers = [nn.Conv2d(3, WIDTH, patch, stride=patch)]
        layers += [
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.GroupNorm(2, WIDTH)) for _ in range(4)
        ]
        super().__init__(layers, [WIDTH] * 5, [patch] * 5, (False, *recompute))
        self.multiple = patch


def patches(name, output_stride, weights, recompute):
    """Build "patches16" or "patches32", for the registry."""
    return PatchTrunk(int(name.removeprefix("patches")), recompute)


REGISTRY = {name: "tests.network.toy_trunks:patches" for name in ("patches16", "patches32")}
