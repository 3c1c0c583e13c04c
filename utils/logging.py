"""An experiment folder: settings, metrics.jsonl, TensorBoard events."""

import json
import sys
from pathlib import Path

from easydict import EasyDict
from tensorboardX import SummaryWriter
from torch import Tensor
from tqdm import tqdm

import config
from utils.errors import UserError


def experiment_folder(cfg: EasyDict) -> Path:
    """Return the folder of an experiment; its name defaults to source, trunk and method."""
    name = cfg.EXPERIMENT or "_".join(["+".join(cfg.DATASET.SOURCE), cfg.TRUNK.NAME, cfg.METHOD])
    return Path(cfg.LOG.DIR) / name


def refuse_existing(folder: Path) -> None:
    """Raise UserError if an experiment folder holds anything, telling how to go on."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    way = "continue it with --resume or choose another name with --exp"
    if not (folder / "last.pth").exists():
        way = "it holds no checkpoint to continue from; remove it or choose another name with --exp"
    raise UserError(f"the experiment folder {folder} exists; {way}")


class ExperimentLog:
    """Writes what a run measures. Only the main process writes; in others it does nothing."""

    def __init__(self, folder: Path, cfg: EasyDict, is_main: bool):
        self.folder = folder
        self.is_main = is_main
        if not is_main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(config.flatten(cfg), indent=1)
        (folder / "settings.json").write_text(settings + "\n")
        self.metrics = open(folder / "metrics.jsonl", "a", buffering=1)
        self.tensorboard = SummaryWriter(str(folder), flush_secs=30)

    def say(self, text: str) -> None:
        """Print a line for the user without breaking the progress bar."""
        if self.is_main:
            tqdm.write(text, file=sys.stderr)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log named numbers of one step to metrics.jsonl and TensorBoard."""
        if self.is_main:
            self.metrics.write(json.dumps({"step": step} | values) + "\n")
            for name, value in values.items():
                self.tensorboard.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """Log a picture `[3, H, W]` uint8 to TensorBoard."""
        if self.is_main:
            self.tensorboard.add_image(name, picture.numpy(), step)

    def close(self) -> None:
        """Flush and close the files."""
        if self.is_main:
            self.metrics.close()
            self.tensorboard.close()
