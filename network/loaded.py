"""A trained network for scripts and notebooks: images in, labels out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.files import read_image
from network.build import build_method, open_run
from network.inference import predict
from transforms import normalise
from utils.errors import UserError


class Network:
    """A method with trained weights; `classes` are its names of train ids, `settings` its own."""

    def __init__(
        self,
        path: str | Path,
        device: str | torch.device | None = None,
        unknown_settings: str = "refuse",
        weights: str = "",
    ):
        """Read a checkpoint, a run's folder or an exported `.safetensors`.

        Without `device` a GPU is taken where there is one. `unknown_settings` is the setting
        UNKNOWN_SETTINGS: "refuse" or "ignore"; `weights` is TRUNK.WEIGHTS, for a checkpoint that
        leaves frozen weights to a file which is elsewhere now. UserError for what is no checkpoint,
        and for one of the published code, which knows no settings.
        """
        asked = {"UNKNOWN_SETTINGS": unknown_settings}
        asked |= {"TRUNK.WEIGHTS": weights} if weights else {}
        self.settings, state = open_run(Path(path), asked)
        method, space = build_method(self.settings, state)
        gpu = torch.cuda.is_available()
        self.device = torch.device(device or ("cuda" if gpu else "cpu"))
        self.method = method.to(self.device).eval()
        self.classes, self.colours = space.classes, space.colours

    @torch.no_grad()
    def predict(
        self,
        image: str | Path | np.ndarray | Tensor,
        scales: tuple[float, ...] = (1.0,),
        flip: bool = False,
        sliding: tuple[int, int] = (0, 0),
    ) -> np.ndarray:
        """Return the train ids uint8 `[H, W]` of an image at its own size.

        `image` is the path of a picture, or RGB pixels uint8 `[H, W, 3]` (`[3, H, W]` of a tensor).
        `scales`, `flip` and `sliding` are those of `network.inference.predict`. UserError for
        another shape or dtype.
        """
        pixels = self._pixels(image)
        batch = normalise(pixels.to(self.device))[None]
        return predict(self.method, batch, pixels.shape[1:], scales, flip, sliding)[0].cpu().numpy()

    @staticmethod
    def _pixels(image: str | Path | np.ndarray | Tensor) -> Tensor:
        if isinstance(image, (str, Path)):
            return read_image(Path(image), upright=True)
        if isinstance(image, np.ndarray):
            # A copy: images that Pillow decodes are read-only.
            image = torch.from_numpy(np.array(image)) if image.dtype == np.uint8 else image
            image = image.permute(2, 0, 1) if torch.is_tensor(image) and image.ndim == 3 else image
        if (
            not torch.is_tensor(image)
            or image.dtype != torch.uint8
            or image.ndim != 3
            or image.shape[0] != 3
        ):
            shape = "[H, W, 3] of an array, [3, H, W] of a tensor"
            is_, of = getattr(image, "dtype", type(image)), list(getattr(image, "shape", ()))
            raise UserError(f"an image is RGB in uint8, {shape}; this is {is_} of {of}")
        return image
