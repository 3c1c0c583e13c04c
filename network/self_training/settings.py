"""What the self-training family lets users choose."""

from collections.abc import Sequence
from typing import Any

from easydict import EasyDict

from network.regions.cells import PURITY, THINGS
from utils.errors import UserError
from utils.settings import Setting

SETTINGS: dict[str, Any] = {
    "DATASET": {
        "TARGET": Setting(
            "",
            "images without labels that are adapted to: a folder, or NAME:SPLIT of a dataset, "
            "whose labels are not opened",
        ),
    },
    "TARGET": {
        "BOX": Setting([0, 0], "as TRANSFORM.BOX, of target images"),
        "SCALE": Setting([1.0, 1.0], "range of their random scale", minimum=0.01, maximum=100),
        "CROP_SIZE": Setting(
            [0, 0],
            "pixels, height and width of what is read of a target image; of more than "
            "TRANSFORM.CROP_SIZE the crop with most classes is taken (SePiCo); 0,0: as that",
        ),
        "BORDER": Setting(
            [0, 0, 0, 0],
            "rows at top and bottom, columns at left and right of a target crop whose "
            "pseudo-labels do not count (published for Cityscapes: 15,120,0,0)",
        ),
    },
    "TEACHER": {
        "ALPHA": Setting(0.999, "decay of the moving average, reached from 1/2", maximum=1),
        "THRESHOLD": Setting(
            0.968,
            "probability from which a pseudo-label is confident; the share q of those in a "
            "batch weighs all its pseudo-labels",
            maximum=1,
        ),
    },
    "MIX": {
        "OWN_CLASSES": Setting(
            False,
            "half of an image's own classes are pasted, rather than of the batch's (original DACS)",
        ),
    },
    "STRONG": {
        "STRENGTH": Setting(
            0.2, "largest change of brightness, contrast, saturation, hue", maximum=1
        ),
        "JITTER_PROBABILITY": Setting(0.8, "of that change, drawn for a step", maximum=1),
        "BLUR_PROBABILITY": Setting(0.5, "of Gaussian blur, drawn for a step", maximum=1),
        "BLUR_SIGMA": Setting([0.15, 1.15], "pixels, range of that blur", minimum=0.01),
        "SOURCE": Setting(False, "the source is learned strongly augmented, too (SePiCo)"),
    },
    "VOID_COUNTS": Setting(
        True,
        "the source's cross entropy is a mean over all pixels, void as 0 (original DACS: over "
        "labelled ones)",
    ),
    "FEATURE_DISTANCE": {
        "WEIGHT": Setting(
            0.0, "of the distance to the features of TRUNK.WEIGHTS (DAFormer); 0: off"
        ),
        "CLASSES": Setting(list(THINGS), "train ids at whose cells it is taken", least=1),
        "PURITY": Setting(PURITY, "share of a cell that its class has", maximum=1),
    },
    "HRDA": {
        "DETAIL": Setting(
            [0, 0],
            "pixels, height and width of detail crops beside a context at half the size; 0,0: "
            "images are seen at one scale",
        ),
        "DETAIL_WEIGHT": Setting(0.1, "of the detail crop's own loss", maximum=1),
    },
    "MASK": {
        "WEIGHT": Setting(0.0, "of the loss on target images with hidden blocks; 0: off"),
        "BLOCK": Setting(64, "pixels, side of a block", minimum=1),
        "RATIO": Setting(0.7, "share of hidden blocks", maximum=1),
        "STATISTICS": Setting(
            True, "batch norms count masked images in their running statistics (published)"
        ),
    },
    "CONTRAST": {
        "WEIGHT": Setting(0.0, "of the contrast with distributions of classes; 0: off"),
        "START": Setting(3000, "step from which it counts"),
        "LAYERS": Setting(
            [4], "layers that are projected (MiT: 1,2,3,4)", minimum=0, maximum=4, least=1
        ),
        "HIDDEN": Setting(2048, "inner width of the projection (MiT: 256)", minimum=1),
        "WIDTH": Setting(512, "width of the projection", minimum=1),
        "TEMPERATURE": Setting(100.0, "τ", minimum=1e-3),
        "REGULARISER": Setting(1.0, "weight of the evenness of the mean feature"),
    },
}


def refuse_small(cfg: EasyDict, crop: Sequence[int]) -> None:
    """Raise UserError if target images, or what their border leaves, do not fill a crop (h, w)."""
    (width, height), border = cfg.TARGET.BOX, cfg.TARGET.BORDER
    if (width or height) and (width < crop[1] or height < crop[0]):
        raise UserError(
            f"TARGET.BOX {width},{height} holds no crop of {crop[0]},{crop[1]}; choose a larger "
            "box or a smaller TRANSFORM.CROP_SIZE"
        )
    sides = cfg.TRANSFORM.CROP_SIZE
    if border[0] + border[1] >= sides[0] or border[2] + border[3] >= sides[1]:
        raise UserError(
            f"TARGET.BORDER {','.join(map(str, border))} leaves nothing of a crop of "
            f"{sides[0]},{sides[1]}"
        )
