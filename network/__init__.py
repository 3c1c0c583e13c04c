"""What is learned: trunks, decoders, and the methods that put them together."""

from pathlib import Path
from typing import Any


def load(path: str | Path, device: Any = None, unknown_settings: str = "refuse", weights: str = ""):
    """Return the trained `network.loaded.Network` of a checkpoint, a run's folder or an export.

    from network import load

    labels = load("logs/my_run").predict("street.png")  # train ids, uint8 [H, W]
    """
    # What a script asks for loads torch and the datasets; the packages below do without.
    from network.loaded import Network

    return Network(path, device, unknown_settings, weights)
